"""Processes: limits for those that handle untrusted bytes, and how they end."""

import ctypes
import os
import resource
import shlex
import signal
import subprocess
import sys
import tempfile
import weakref
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO

import psutil

from schemas.errors import RequestError
from schemas.storage import replacing

PR_SET_PDEATHSIG = 1
_PRCTL = getattr(ctypes.CDLL(None), "prctl", None)  # looked up now: between fork and exec is no time for it


def end_with_parent() -> None:
    """Makes the kernel end this process when the thread that started it ends; on Linux only."""
    if _PRCTL is not None:
        _PRCTL(PR_SET_PDEATHSIG, signal.SIGKILL)


def limit(name: str, value: int, pid: int = 0) -> None:
    """Sets a limit (`AS`, `CPU`, ...) of a process, by default of this one, permanently."""
    resource.prlimit(pid, getattr(resource, f"RLIMIT_{name}"), (value, value))


def write_confined(path: Path, program: str, *, seconds: int, memory_bytes: int) -> Path:
    """Writes the script `path`, which runs `program` without our environment and within limits.

    Lower limits stay in force. Raises RequestError if programs can't be run from that folder.
    """
    with replacing(path) as temporary:
        temporary.write_text(
            "#!/bin/sh\n"
            f"ulimit -t {seconds} 2>/dev/null\n"
            f"ulimit -v {memory_bytes // 1024} 2>/dev/null\n"
            'exec env -i PATH="$PATH" ${LD_LIBRARY_PATH:+"LD_LIBRARY_PATH=$LD_LIBRARY_PATH"} '
            f'{shlex.quote(program)} "$@"\n'
        )
        temporary.chmod(0o755)
    if not os.access(path, os.X_OK):
        raise RequestError(
            f"{path} can't be run: its disk is mounted noexec; choose another folder with --state"
        )
    return path


def marked(name: str, value: str) -> list[psutil.Process]:
    """The processes of this account that were started with `name=value` in their environment, except this one.

    The kernel keeps the environment that a program was started with, even if its parent has changed since.
    """
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError):  # ended meanwhile, or belongs to another account
            if process.pid != os.getpid() and process.environ().get(name) == value:
                found.append(process)
    return found


def command_of(process: psutil.Process) -> list[str]:
    """The words with which a process was started; none once it has ended."""
    with suppress(psutil.Error):
        return process.cmdline()
    return []


def end(processes: Iterable[psutil.Process], number: int = signal.SIGKILL, within_s: float = 0.0) -> None:
    """Sends a signal to each, and waits up to `within_s` for all to end. Processes that have ended are ignored."""
    processes = list(processes)
    for process in processes:
        with suppress(psutil.Error):
            process.send_signal(number)
    if within_s:
        psutil.wait_procs(processes, within_s)


def is_stopped(process: psutil.Process) -> bool:
    """Whether a process was stopped by a signal or a debugger: it keeps what it holds, and does nothing."""
    with suppress(psutil.Error):
        return process.status() in (psutil.STATUS_STOPPED, psutil.STATUS_TRACING_STOP)
    return False


class PipedProcess:
    """A module of ours as a separate process, with pipes to it; not thread-safe.

    It gets only the named part of our environment, so no secrets. It ends with this object.
    """

    def __init__(
        self, module: str, arguments: Sequence[str], passed_on: Iterable[str], settings: Mapping[str, str]
    ) -> None:
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115  (lives as long as the process)
        environment = {name: os.environ[name] for name in passed_on if name in os.environ}
        here = {"PYTHONPATH": str(Path(__file__).resolve().parents[1])}
        self._process = subprocess.Popen(  # noqa: S603  (our own command)
            [sys.executable, "-P", "-m", module, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            env={**environment, **settings, **here},
            start_new_session=True,  # a Ctrl-C in a terminal is not meant for it
        )
        self._end = weakref.finalize(self, _ended, self._process, self._errors)

    @property
    def is_alive(self) -> bool:
        """Whether it can be called: it has not ended, by itself or otherwise."""
        return self._end.alive and self._process.poll() is None

    @property
    def answers(self) -> int:
        """The descriptor from which its answers are read."""
        return _pipe(self._process.stdout).fileno()

    def write(self, line: bytes) -> None:
        """Sends a line. Raises BrokenPipeError if it has ended."""
        _pipe(self._process.stdin).write(line + b"\n")
        _pipe(self._process.stdin).flush()

    def ended(self, size: int) -> tuple[int, str]:
        """Waits for its end; returns the exit code and the last `size` bytes of its error output."""
        code = self._process.wait()
        self._errors.seek(0)
        return code, self._errors.read()[-size:].decode(errors="replace").strip()

    def kill(self) -> None:
        """Ends it immediately."""
        self._process.kill()

    def close(self) -> None:
        """Ends it immediately, and closes the pipes."""
        self._end()


def _pipe(stream: IO[bytes] | None) -> IO[bytes]:
    if stream is None:
        raise AssertionError("the process was started without pipes")
    return stream


def _ended(process: subprocess.Popen, errors: IO[bytes]) -> None:
    process.kill()
    process.wait()
    for stream in (process.stdin, process.stdout, errors):
        with suppress(BrokenPipeError):  # a dead process has no use for what was not sent
            _pipe(stream).close()
