"""The rules of the design that a reader of imports can hold: who may import whom, how long, how named."""

import ast
import re
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]
PACKAGES = ("schemas", "tasks", "training", "flows")
MODULES = sorted(path for package in PACKAGES for path in (REPOSITORY / package).rglob("*.py"))
MAX_BODY, MAX_MODULE, MAX_PARAMETERS = 50, 400, 5

MAY_IMPORT = {
    "schemas": {"schemas"},
    "tasks": {"schemas", "tasks"},
    "training": {"schemas", "training"},
    "flows": {"schemas", "tasks", "training", "flows"},
}
# Costly or foreign packages, and the only places that may know them.
ONLY_IN = {
    "prefect": {
        "tasks/stages.py",
        "flows/dataset.py",
        "flows/experiment.py",
        "flows/comparison.py",
        "flows/servers.py",
        "flows/credentials.py",
        "flows/runs.py",
        "flows/deployments.py",
    },
    "dask": {"flows/compute.py"},
    "distributed": {"flows/compute.py"},
    "great_expectations": {"schemas/expectations.py"},
    "mlflow": {
        "training/artifacts.py",
        "training/program.py",
        "training/tracking.py",
        "training/registry.py",
    },
    "yt_dlp": {"tasks/ytdlp.py", "tasks/ytdlp_hatches.py"},
    "av": {
        "tasks/media.py",
        "tasks/cut.py",
        "tasks/passage.py",
        "tasks/decode.py",
        "tasks/colour.py",
        "tasks/downmix.py",
        "tasks/pictures.py",
        "tasks/sound.py",
        "tasks/encode.py",
        "training/film.py",  # our own files, of our own making
        "tasks/sources/scenes/encode.py",
    },
    "torch": {"training/"},
    "webdataset": {"training/streaming.py"},
    "torchaudio": {"training/"},
}


def name_of(path: Path) -> str:
    return str(path.relative_to(REPOSITORY))


def imports(path: Path) -> set[str]:
    """Every module that a file imports, wherever in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add(node.module or "")
    return found


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_packages_import_only_what_stands_below_them(path):
    package = path.relative_to(REPOSITORY).parts[0]

    ours = {name.split(".")[0] for name in imports(path)} & set(PACKAGES)

    assert ours <= MAY_IMPORT[package]


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_foreign_packages_are_known_in_one_place(path):
    top = {name.split(".")[0] for name in imports(path)}

    misplaced = {
        name
        for name, places in ONLY_IN.items()
        if name in top and not name_of(path).startswith(tuple(places))
    }

    assert not misplaced


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_modules_and_functions_are_small_and_documented(path):
    tree = ast.parse(path.read_text())

    assert ast.get_docstring(tree)
    assert len(path.read_text().splitlines()) <= MAX_MODULE
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            body = node.end_lineno - node.body[0].lineno + 1
            parameters = [a for a in (*node.args.args, *node.args.kwonlyargs) if a.arg not in ("self", "cls")]
            assert body <= MAX_BODY, f"{node.name} has {body} lines"
            assert len(parameters) <= MAX_PARAMETERS, f"{node.name} has {len(parameters)} parameters"


def test_nothing_is_called_utils():
    banned = {"utils", "util", "common", "helpers", "core", "misc"}

    assert not [name_of(path) for path in MODULES if banned & set(path.with_suffix("").parts[-3:])]


def test_the_lock_holds_exact_versions_and_no_addresses():
    lines = (REPOSITORY / "requirements.lock").read_text().splitlines()

    assert [line for line in lines if not re.fullmatch(r"#.*|[A-Za-z0-9._-]+==[A-Za-z0-9.+!]+", line)] == []


def test_each_exception_to_the_rules_of_security_bears_its_reason():
    """`# noqa: S603  (why that is safe)`."""
    files = [*MODULES, *(REPOSITORY / "benchmarks").glob("*.py"), *(REPOSITORY / ".ci").glob("*.py")]
    lines = [
        (path, line)
        for path in files
        for line in path.read_text().splitlines()
        if re.search(r"noqa:.*\bS\d", line)
    ]

    assert len(lines) > 10
    bare = [
        f"{name_of(path)}: {line.strip()}"
        for path, line in lines
        if not re.search(r"noqa:[ A-Z0-9,]+\(\w.*\)", line)
    ]
    assert bare == []
