"""What the documents tell a reader to type is what the commands take."""

import shlex
from pathlib import Path

import pytest

from flows.commands.cli import parsed
from flows.presets import PRESETS

REPOSITORY = Path(__file__).resolve().parents[1]
PAGES = sorted([*REPOSITORY.glob("*.md"), *(REPOSITORY / "docs").glob("*.md")])


def commands(page: Path) -> list[list[str]]:
    """The arguments of each `mcgurk` that stands behind a prompt."""
    lines = (line.strip() for line in page.read_text().splitlines())
    asked = (line.removeprefix("$ ").removeprefix(".venv/bin/") for line in lines if line.startswith("$ "))
    return [shlex.split(line, comments=True)[1:] for line in asked if line.startswith("mcgurk ")]


def test_the_documents_have_commands():
    assert sum(len(commands(page)) for page in PAGES) > 30


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_of_a_document_is_taken(page):
    for arguments in commands(page):
        options = parsed(arguments).options

        assert getattr(options, "preset", None) in (None, *PRESETS), arguments
