"""The watchdog of a command: a small process beside it, which ends what the command leaves, however it ends.

It holds one end of a pipe. While the other end is open the command is alive; `stop` on it means that a signal has
arrived, and that the command has GRACE_S to end by itself. All processes that the command starts carry its mark.
"""

import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO
from uuid import uuid4

from schemas.environment import changed
from tasks.processes import end, marked

MARK = "MCGURK_COMMAND"  # in the environment of everything that a command starts
GRACE_S = 4.0  # from a signal until what is left is killed
POLL_S = 0.5  # between two checks that the command is there: a forked child may hold the pipe open
END_S = 1.0  # that killed processes may take to end
READ_BYTES = 1 << 16


@dataclass(frozen=True)
class Watchdog:
    """The command's end of the pipe."""

    pipe: IO[bytes]

    def stop(self) -> None:
        """Says that a signal has arrived: the command ends within GRACE_S, or is killed."""
        self._say("stop")

    def sweeps(self, root: Path, state: Path) -> None:
        """After a stop or a kill, has half-written files under a local root removed, unless others write there."""
        self._say(f"sweep\t{root}\t{state}")

    def done(self) -> None:
        """Says that the command has ended by itself: there is nothing to sweep."""
        self._say("done")

    def _say(self, line: str) -> None:
        with suppress(BrokenPipeError, ValueError):  # killed (the next start ends what is left), or closed
            self.pipe.write(f"{line}\n".encode())
            self.pipe.flush()


@contextmanager
def watched() -> Iterator[Watchdog]:
    """Inside the block a watchdog runs beside this process, and everything started there carries its mark.

    Temporary files go to a folder that the watchdog removes.
    """
    mark = uuid4().hex
    folder = tempfile.mkdtemp(prefix="mcgurk-")
    command = [sys.executable, "-P", "-m", "flows.services.watchdog", mark, str(os.getpid()), folder]
    process = subprocess.Popen(  # noqa: S603  (our own command)
        command, stdin=subprocess.PIPE, start_new_session=True
    )
    if process.stdin is None:
        raise AssertionError("Popen was given PIPE")
    try:
        with (
            changed({MARK: mark, "TMPDIR": folder, "PYTHONWARNINGS": _warnings()}),
            _temporary_files_in(folder),
        ):
            yield Watchdog(process.stdin)
    finally:
        with suppress(BrokenPipeError):
            process.stdin.close()
        process.send_signal(signal.SIGCONT)  # if it was stopped (SIGSTOP), this command would never end
        process.wait()


def _warnings() -> str:
    """Silences Python's own helper, which would report after our last line what a stop has left for it to remove."""
    return ",".join(filter(None, [os.environ.get("PYTHONWARNINGS"), "ignore:resource_tracker:UserWarning"]))


@contextmanager
def _temporary_files_in(folder: str) -> Iterator[None]:
    before = tempfile.tempdir
    tempfile.tempdir = folder
    try:
        yield
    finally:
        tempfile.tempdir = before


def main() -> None:
    """Waits for the end of the command, and ends what bears its mark."""
    mark = sys.argv[1]
    parent = int(sys.argv[2])
    folder = Path(sys.argv[3])
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    roots = _await_end(parent)
    end(marked(MARK, mark), within_s=END_S)
    for root, state in roots:
        _sweep(root, state)
    shutil.rmtree(folder, ignore_errors=True)


def _await_end(parent: int) -> list[tuple[Path, Path]]:
    """Waits until the command has ended, and kills it if it should have stopped but didn't; returns what to sweep."""
    said = b""
    ends = float("inf")
    while os.getppid() == parent:
        if time.monotonic() > ends:
            os.kill(parent, signal.SIGKILL)
        if not select.select([0], [], [], POLL_S)[0]:
            continue
        more = os.read(0, READ_BYTES)
        if not more:
            break
        said += more
        if b"stop\n" in more:
            ends = min(ends, time.monotonic() + GRACE_S - POLL_S)
    lines = [line.split("\t") for line in said.decode().splitlines()]
    is_done = ["done"] in lines
    return [(Path(line[1]), Path(line[2])) for line in lines if line[0] == "sweep" and not is_done]


def _sweep(root: Path, state: Path) -> None:
    """Removes half-written files under a root, unless another process writes there."""
    from tasks.leases import NAMES, free, remove_partial_writes

    for name in NAMES:
        with free(state, name) as is_free:
            if is_free:
                remove_partial_writes(root, name)


if __name__ == "__main__":
    main()
