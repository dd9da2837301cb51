"""A mistake of ours is no mistake of the user: it shows its traceback, and says where to report it."""

from dataclasses import MISSING, fields
from types import SimpleNamespace

import pytest

from flows.commands import cli
from schemas.errors import DataError, InternalError, MissingError, OperationalError, RequestError

ENOSPC = 28
EXIT_CODES = {
    RequestError("x"): 2,
    MissingError("x"): 2,
    DataError("x"): 2,
    OperationalError("x"): 1,
    InternalError("x"): 1,
    OSError(ENOSPC, "No space left on device", "/dev/full"): 1,
}


def command_that_fails(verb: str, error: Exception) -> cli.Command:
    """A command of the user's whose verb raises `error`."""

    def fail(options: object) -> int:
        raise error

    module = cli.verb_named(verb)
    values = {
        field.name: ("r",) if "id" in field.name else "r"
        for field in fields(module.Options)
        if field.default is MISSING
    }
    options = module.Options(**values)
    failing = SimpleNamespace(EXAMPLE="", IS_LONG=False, Options=module.Options, run=fail)
    return cli.Command(verb, f"mcgurk {verb}", failing, options)


@pytest.mark.parametrize("verb", cli.VERBS)
@pytest.mark.parametrize("error", [ValueError, RuntimeError, FileNotFoundError, KeyError])
def test_a_foreign_error_shows_its_traceback_whatever_the_verb(verb, error, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    command = command_that_fails(verb, error("operands could not be broadcast together"))
    monkeypatch.setattr(cli, "parsed", lambda arguments: command)

    exit_code = cli.main([])

    said = capsys.readouterr().err
    assert exit_code == 1
    assert "Traceback (most recent call last)" in said and "operands could not be broadcast together" in said
    assert said.splitlines()[-1] == f"mcgurk {verb}: {cli.BUG}"


@pytest.mark.parametrize(("error", "code"), EXIT_CODES.items(), ids=lambda one: type(one).__name__)
def test_an_error_of_the_tree_is_one_sentence(error, code, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    command = command_that_fails("status", error)
    monkeypatch.setattr(cli, "parsed", lambda arguments: command)

    assert cli.main([]) == code
    said = capsys.readouterr().err
    assert said.startswith("mcgurk status: ") and len(said.splitlines()) == 1
