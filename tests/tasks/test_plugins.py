"""No plug-in imports another: what several need lies outside their folders."""

import ast
from pathlib import Path

import pytest

from tasks import exports, features, sources
from tasks.sources.scenes import families

ALLOWED = {("studio", "http")}  # said aloud in its docstring
FOLDERS = [Path(package.__file__).parent for package in (exports, features, sources, families)]
PLUGINS = sorted(path for folder in FOLDERS for path in folder.glob("*.py") if path.stem != "__init__")


@pytest.mark.parametrize("path", PLUGINS, ids=lambda path: path.stem)
def test_no_plugin_imports_another(path):
    siblings = {other.stem for other in PLUGINS if other.parent == path.parent} - {path.stem}
    package = ".".join(path.parent.relative_to(Path(features.__file__).parents[2]).parts)

    imported = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module == package:
            imported |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith(f"{package}."):
            imported.add((node.module or "").removeprefix(f"{package}.").split(".")[0])

    assert {(path.stem, name) for name in imported & siblings} <= ALLOWED
