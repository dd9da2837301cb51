"""SECURITY.md promises a test for each row: they are there."""

import ast
import re
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
PROMISED = re.compile(r"`(tests/\S+\.py)::(test_\w+)`")


def rows() -> list[str]:
    """The rows of the table of attacks."""
    text = (REPOSITORY / "SECURITY.md").read_text()
    table = text[text.index("## Who attacks with what") : text.index("## What we don't do")]
    return [line for line in table.splitlines() if line.startswith("| ") and not line.startswith("| who, ")]


def test_every_row_names_tests_that_are_there():
    assert len(rows()) > 15
    for row in rows():
        promised = PROMISED.findall(row)
        assert promised, row
        for path, name in promised:
            tree = ast.parse((REPOSITORY / path).read_text())
            assert name in {one.name for one in tree.body if isinstance(one, ast.FunctionDef)}, (
                f"{path}::{name}"
            )
