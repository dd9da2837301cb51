"""Commands in processes that are forked with everything imported: a run costs what it does, not its imports.

A child may be given a `Mine`: at its k-th write, rename or removal (an audit event of Python, so the product
knows nothing of it) it kills itself or another process with SIGKILL.
"""

import multiprocessing
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

LOADED = (
    "flows.cli",
    "flows.dataset",
    "flows.rebuild",
    "schemas.expectations",
    "tasks.extract",
    "upath",
    "s3fs",
)
EVENTS = {"open", "os.rename", "os.remove"}


@dataclass(frozen=True)
class Mine:
    """Where the process ends: at the k-th event on a file under `folder`; `counter` gets a byte an event."""

    folder: str
    counter: str
    at: int = 0  # 0: never
    victim: int = 0  # 0: itself


def forking() -> multiprocessing.context.BaseContext:
    """The context whose children have everything imported."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__, *LOADED])
    return context


def start(arguments: Sequence[str], output: Path, environment: Mapping[str, str], mine: Mine | None = None):
    """A process that runs one command; what it prints goes to `output`."""
    process = forking().Process(target=_command, args=(list(arguments), str(output), dict(environment), mine))
    process.start()
    return process


def run(arguments: Sequence[str], output: Path, environment: Mapping[str, str], code: int = 0) -> str:
    """What a command printed. Fails where it ends with another code."""
    process = start(arguments, output, environment)
    process.join()
    told = output.read_text()
    assert process.exitcode == code, told
    return told


def _command(arguments: list[str], output: str, environment: dict[str, str], mine: Mine | None) -> None:
    os.environ.update(environment)
    with Path(output).open("w") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    if mine is not None:
        lay(mine)
    from flows.cli import main

    code = main(arguments)
    sys.stdout.flush()
    sys.exit(code)


def lay(mine: Mine) -> None:
    """Watches this process from now on."""
    counter = os.open(mine.counter, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    seen = 0

    def watch(event: str, arguments: tuple) -> None:
        nonlocal seen
        if event not in EVENTS or not str(arguments[0]).startswith(mine.folder):
            return
        if event == "open" and not (arguments[2] & (os.O_WRONLY | os.O_RDWR)):
            return
        seen += 1
        os.write(counter, b".")
        if seen == mine.at:
            os.kill(mine.victim or os.getpid(), signal.SIGKILL)

    sys.addaudithook(watch)
