"""Processes: their limits where they touch foreign bytes, and how they end."""

import ctypes
import os
import resource
import shlex
import signal
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

import psutil

from schemas.errors import RequestError
from schemas.storage import replacing

PR_SET_PDEATHSIG = 1
_PRCTL = getattr(ctypes.CDLL(None), "prctl", None)  # looked up now: between fork and exec is no time for it


def end_with_parent() -> None:
    """Has the kernel end this process when the thread that started it ends; on Linux only."""
    if _PRCTL is not None:
        _PRCTL(PR_SET_PDEATHSIG, signal.SIGKILL)


def limit(name: str, value: int, pid: int = 0) -> None:
    """Sets a limit (`AS`, `CPU`, ...) of a process, by default of this one, for good."""
    resource.prlimit(pid, getattr(resource, f"RLIMIT_{name}"), (value, value))


def write_confined(path: Path, program: str, *, seconds: int, memory_bytes: int) -> Path:
    """Writes the script `path`, which runs `program` without our environment and within limits.

    Lower limits stay. Raises RequestError where programs can't be run from.
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
    """The processes of this account that were started with `name=value` in their environment, but for this one.

    The kernel keeps what a program was started with, whoever has become its parent since.
    """
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError):  # ended meanwhile, or another account's
            if process.pid != os.getpid() and process.environ().get(name) == value:
                found.append(process)
    return found


def end(processes: Iterable[psutil.Process], number: int = signal.SIGKILL, within_s: float = 0.0) -> None:
    """Sends a signal to each, and waits that long for all to end. Processes that have ended are ignored."""
    processes = list(processes)
    for process in processes:
        with suppress(psutil.Error):
            process.send_signal(number)
    if within_s:
        psutil.wait_procs(processes, within_s)
