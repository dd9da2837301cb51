"""The console script `mcgurk`: each verb is a file of this folder, loaded when it is named."""

import argparse
import logging
import shlex
import sys
import traceback
import warnings
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol, cast

from flows.arguments import add_arguments, flag_of, options_of, read_arguments
from flows.commands.logs import keep_trace, sentence_for
from flows.services.endings import Ending, ending
from flows.services.watchdog import watched
from schemas.errors import DataError, McgurkError, RequestError, is_of_the_machine
from tasks.transport import templates

log = logging.getLogger("flows.commands.cli")

# In the order in which a user meets them.
VERBS = (
    "demo", "build", "plan", "train", "status", "failures", "doctor", "verify", "prune", "recheck", "forget",
    "versions", "diff", "export", "serve", "deploy",
)  # fmt: skip
BUG = (
    "this is a mistake in mcgurk, and not in what you typed. Please report it, with the lines above, to the place "
    "where you got mcgurk: CONTRIBUTING.md says how"
)


class Verb(Protocol):
    """What the module of a verb provides. The first line of its docstring says what the verb does.

    Attributes:
        EXAMPLE: a command as a user may type it.
        IS_LONG: whether it starts processes, or writes for a long time: then a watchdog ends what it leaves.
        Options: a frozen dataclass, whose fields are its options (`flows/arguments.py`).
    """

    EXAMPLE: str
    IS_LONG: bool
    Options: type

    def run(self, options: Any) -> int:
        """Executes the verb, and returns the exit code."""
        ...


@dataclass(frozen=True)
class Command:
    """One command as it was typed, without secrets, and as it was understood."""

    verb: str
    typed: str
    module: Verb
    options: Any


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one verb; returns 0 only if it did what it was supposed to do."""
    command = parsed(sys.argv[1:] if arguments is None else arguments)
    _log_plainly()
    with ExitStack() as stack:
        watchdog = stack.enter_context(watched()) if command.module.IS_LONG else None
        end = stack.enter_context(ending(command.typed, watchdog))
        code = _run(command, end)
        if end.number is None and watchdog:
            watchdog.done()
    if end.number is not None:
        # All blocks have been left. Shutting down Prefect and Dask would hold the interpreter for several more seconds,
        # and no timer could end that.
        end.leave()
    return code


def _run(command: Command, end: Ending) -> int:
    try:
        _have_swept(command, end)
        return command.module.run(command.options)
    except BaseException as error:
        if end.number is not None:  # a consequence of the signal, which is reported at the end
            log.debug("stopped", exc_info=error)
            return end.exit_code
        if not isinstance(error, Exception):
            raise
        return _failed(command, error)


def _failed(command: Command, error: Exception) -> int:
    """Prints what stopped a command. 2: it can't be done as it was given; 1: something failed that may be repaired."""
    path = keep_trace(command, error)
    if isinstance(error, RequestError | DataError):
        print(f"mcgurk {command.verb}: {error}", file=sys.stderr)
        return 2
    if isinstance(error, McgurkError) or is_of_the_machine(error):
        where = f"trace: {path}\n" if path else ""
        said = f"{where}mcgurk {command.verb}: stopped: {sentence_for(command, error)}"
        print(said, file=sys.stderr)
        return 1
    traceback.print_exception(error)
    print(f"mcgurk {command.verb}: {BUG}", file=sys.stderr)
    return 1


def _have_swept(command: Command, end: Ending) -> None:
    """Has half-written files that a stopped or killed command leaves under its root removed."""
    if end.watchdog is None:
        return
    from flows.builds.pipeline import state_folder
    from schemas.storage import is_local, open_root

    root = open_root(command.options.root)
    if is_local(root):
        end.watchdog.sweeps(root, state_folder(root, getattr(command.options, "state", None)))


def verb_named(name: str) -> Verb:
    """The module of a verb."""
    return cast(Verb, import_module(f"flows.commands.{name}"))


def summary_of(name: str) -> str:
    """What a verb does, from its file, without importing it."""
    with Path(__file__).with_name(f"{name}.py").open(encoding="utf-8") as file:
        first = file.readline()
    return first.partition(": ")[2].strip().removesuffix('"""').removesuffix(".")


def parsed(arguments: Sequence[str]) -> Command:
    """The command in these arguments. Raises SystemExit if there is none, or for `--help`, as argparse does."""
    top = argparse.ArgumentParser(prog="mcgurk", description="Does this sound belong to this picture?")
    verbs = top.add_subparsers(dest="verb", required=True, metavar="VERB")
    for name in VERBS:
        verb = verbs.add_parser(
            name, help=summary_of(name), formatter_class=argparse.RawDescriptionHelpFormatter
        )
        if name in arguments[:1]:
            _describe(verb, name)
    if arguments[:1] == ["forget"]:
        arguments = ids_apart(arguments)
    namespace = top.parse_args(arguments)
    module = verb_named(namespace.verb)
    typed = shlex.join(["mcgurk", *map(templates.shown, arguments)])
    return Command(namespace.verb, typed, module, read_arguments(module.Options, namespace))


def _describe(parser: argparse.ArgumentParser, name: str) -> None:
    """Gives the parser of a verb what only its module knows."""
    module = verb_named(name)
    parser.description = summary_of(name)
    parser.epilog = f"example:\n  {module.EXAMPLE}"
    add_arguments(parser, module.Options)


def ids_apart(arguments: Sequence[str]) -> list[str]:
    """The arguments of `forget` with its ids after `--`: to argparse, `-NoSoundT04` would be an option."""
    options_there = options_of(verb_named("forget").Options)
    named = [flag_of(field, option) for field, option, _ in options_there if not option.is_positional]
    verb, *waiting = arguments
    options = [verb]
    ids = []
    while waiting:
        one = waiting.pop(0)
        if one == "--":
            ids = [*ids, *waiting]
            waiting = []
        elif one in named:
            options += [one, *waiting[:1]]
            waiting = waiting[1:]
        elif one in ("-h", "--help") or one.startswith(tuple(f"{name}=" for name in named)):
            options.append(one)
        else:
            ids.append(one)
    return [*options, "--", *ids]


def _log_plainly() -> None:
    """Our own messages on the console, one per line; other libraries only when they warn."""
    console = logging.StreamHandler()
    console.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%H:%M:%S"))
    for name in ("flows", "tasks", "training"):
        ours = logging.getLogger(name)
        ours.setLevel(logging.INFO)
        ours.addHandler(console)
        ours.propagate = False
    for noisy in ("distributed", "great_expectations", "httpx", "mlflow", "alembic"):
        logging.getLogger(noisy).setLevel(logging.ERROR)
    warnings.simplefilter("ignore")  # third parties' deprecations are not the user's business


if __name__ == "__main__":
    sys.exit(main())
