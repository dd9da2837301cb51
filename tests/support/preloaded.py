"""mcgurk and Dask in processes that are forked with everything imported: a run costs what it does, not its imports.

A process may be given a `Mine`: at its k-th write, rename or removal of a file (an audit event of Python, so the
product knows nothing of it) it is killed by SIGKILL, or kills another process.
"""

import asyncio
import multiprocessing
import os
import signal
import socket
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path

from flows.services.servers import free_port

LOADED = (
    "flows.commands.cli",
    "flows.build_dataset",
    "flows.builds.rebuild",
    "schemas.expectations",
    "tasks.extract",
    "s3fs",
)
EVENTS = ("open", "os.rename", "os.remove")
TOO_LONG_S = 120.0


@dataclass(frozen=True)
class Mine:
    """Goes off at the event number `at` (0: never) on a file under `folder`; `log` gets a byte an event."""

    folder: Path
    log: Path
    at: int = 0
    events: tuple[str, ...] = EVENTS
    victim: int | None = None  # None: the process itself

    @property
    def seen(self) -> int:
        """How many events there were."""
        return self.log.stat().st_size if self.log.exists() else 0


def start(
    arguments: Sequence[str],
    output: Path,
    environment: Mapping[str, str] | None = None,
    mine: Mine | None = None,
) -> BaseProcess:
    """A process that runs one command; what it prints goes to `output`."""
    return _forked(_command, output, mine, list(arguments), dict(environment or {}))


def run(
    arguments: Sequence[str], output: Path, environment: Mapping[str, str] | None = None, code: int = 0
) -> str:
    """What a command printed. Fails where it ends with another code."""
    process = start(arguments, output, environment)
    ended(process, output)
    told = output.read_text()
    assert process.exitcode == code, told
    return told


def ended(process: BaseProcess, output: Path) -> None:
    """Waits for a process. Fails, and ends it, where that takes too long."""
    process.join(TOO_LONG_S)
    if process.is_alive():
        process.kill()
        process.join()
        raise AssertionError(f"took over {TOO_LONG_S:g} s: {output.read_text()[-3000:]}")


@dataclass
class Cluster:
    """A scheduler and its workers, as processes of their own."""

    address: str
    scheduler: BaseProcess
    workers: list[BaseProcess]


@contextmanager
def cluster(folder: Path, num_workers: int, mine: Mine | None = None) -> Iterator[Cluster]:
    """A Dask cluster on loopback; `mine` is the first worker's."""
    port = free_port()
    address = f"tcp://127.0.0.1:{port}"
    scheduler = _forked(_scheduler, folder / "scheduler.log", None, port)
    while scheduler.is_alive() and not is_listening(port):
        scheduler.join(0.02)
    workers = [
        _forked(_worker, folder / f"worker{n}.log", None if n else mine, address, str(folder))
        for n in range(num_workers)
    ]
    try:
        yield Cluster(address, scheduler, workers)
    finally:
        for process in (*workers, scheduler):
            process.kill()
            process.join()


def is_listening(port: int) -> bool:
    """Whether somebody on loopback takes connections on a port."""
    with socket.socket() as asked:
        return asked.connect_ex(("127.0.0.1", port)) == 0


def _forked(function: Callable, output: Path, mine: Mine | None, *arguments) -> BaseProcess:
    assert "PREFECT_API_URL" in os.environ, (
        "Prefect reads its address when it is imported: use prefect_server"
    )
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__, *LOADED])
    process = context.Process(target=_begin, args=(function, str(output), mine, arguments))
    process.start()
    return process


def _begin(function: Callable, output: str, mine: Mine | None, arguments: tuple) -> None:
    with Path(output).open("w") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    if mine is not None:
        _lay(mine)
    function(*arguments)


def _command(arguments: list[str], environment: dict[str, str]) -> None:
    import dask

    os.environ.update(environment)
    dask.config.refresh()  # it read them when it was imported
    from flows.commands.cli import main

    code = main(arguments)
    sys.stdout.flush()
    sys.exit(code)


def _scheduler(port: int) -> None:
    from distributed import Scheduler

    async def serve() -> None:
        async with Scheduler(host="127.0.0.1", port=port, dashboard=False) as scheduler:
            await scheduler.finished()

    asyncio.run(serve())


def _worker(address: str, folder: str) -> None:
    from distributed import Worker

    async def serve() -> None:
        options = {"host": "127.0.0.1", "nthreads": 1, "dashboard": False, "local_directory": folder}
        async with Worker(address, **options) as worker:
            await worker.finished()

    asyncio.run(serve())


def _lay(mine: Mine) -> None:
    log = os.open(mine.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    seen = 0
    folder = str(mine.folder)

    def watch(event: str, arguments: tuple) -> None:
        nonlocal seen
        if event not in mine.events or not str(arguments[0]).startswith(folder):
            return
        if event == "open" and not (arguments[2] & (os.O_WRONLY | os.O_RDWR)):
            return
        seen += 1
        os.write(log, b".")
        if seen == mine.at:
            with suppress(ProcessLookupError):
                os.kill(mine.victim or os.getpid(), signal.SIGKILL)

    sys.addaudithook(watch)
