"""The command line is frozen here: a verb or an option that changes is a change for every user."""

import argparse
import subprocess
import sys

import pytest
from real_servers import REPOSITORY

from flows.cli import VERBS, main, parser

BUILD = {
    "--root", "--preset", "--segments", "--source", "--from", "--only", "--parts", "--compute", "--state",
    "--strict",
}  # fmt: skip
FROZEN = {
    "demo": {"--root"},
    "build": BUILD,
    "plan": BUILD | {"--json"},
    "train": {"--root", "--preset", "--model", "--state"},
    "status": {"--root", "--json"},
    "serve": {"--root", "--state"},
}
COSTLY = ("torch", "mlflow", "great_expectations", "prefect", "distributed", "dask", "pandas", "yt_dlp")


def verbs() -> dict[str, argparse.ArgumentParser]:
    (action,) = [one for one in parser()._actions if isinstance(one, argparse._SubParsersAction)]
    return action.choices


def test_verbs_and_options_are_frozen():
    found = {
        name: {option for action in verb._actions for option in action.option_strings} - {"-h", "--help"}
        for name, verb in verbs().items()
    }

    assert found == FROZEN


@pytest.mark.parametrize("name", FROZEN)
def test_help_explains_itself_with_an_example_that_parses(name, capsys):
    with pytest.raises(SystemExit) as ended:
        main([name, "--help"])

    text = capsys.readouterr().out
    assert ended.value.code == 0
    assert VERBS[name].summary in text
    assert f"example:\n  mcgurk {name}" in text
    assert parser().parse_args(VERBS[name].example.split()[1:]).verb == name


@pytest.mark.parametrize("name", FROZEN)
def test_every_option_says_what_it_is(name):
    assert all(action.help for action in verbs()[name]._actions)


@pytest.mark.parametrize("name", sorted(set(FROZEN) - {"demo"}))
def test_a_root_must_be_named(name, capsys):
    with pytest.raises(SystemExit) as ended:
        main([name])

    assert ended.value.code == 2
    assert "--root" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [[], ["sing"], ["build", "--root", "x", "--only", "some"]])
def test_what_is_no_command_is_refused_with_the_choices(arguments, capsys):
    with pytest.raises(SystemExit) as ended:
        main(arguments)

    assert ended.value.code == 2
    assert "usage: mcgurk" in capsys.readouterr().err


def test_help_pays_for_nothing_heavy():
    script = (
        "import runpy, sys\n"
        "sys.argv = ['mcgurk', '--help']\n"
        "try:\n"
        "    runpy.run_module('flows.cli', run_name='__main__')\n"
        "except SystemExit as ended:\n"
        f"    found = [name for name in {COSTLY!r} if name in sys.modules]\n"
        "    print(ended.code, found)\n"
    )

    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, cwd=REPOSITORY, timeout=60
    )

    assert done.stdout.splitlines()[-1] == "0 []", done.stderr
