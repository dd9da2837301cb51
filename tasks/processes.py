"""Processes: what one that touches foreign bytes may use, with whom it ends, and which one it is."""

import ctypes
import os
import platform
import resource
import shlex
import signal
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import psutil

from schemas.storage import replacing

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
START_FIELD = 19  # of /proc/PID/stat behind the program's name: when it started
PR_SET_PDEATHSIG = 1
_PRCTL = getattr(ctypes.CDLL(None), "prctl", None)  # looked up now: between fork and exec is no time for it


def end_with_parent() -> None:
    """From here on the kernel ends this process when the thread that started it ends; on Linux only."""
    if _PRCTL is not None:
        _PRCTL(PR_SET_PDEATHSIG, signal.SIGKILL)


def limit(name: str, value: int, pid: int = 0) -> None:
    """Sets a limit (`AS`, `CPU`, ...) of a process, by default of this one, for good."""
    resource.prlimit(pid, getattr(resource, f"RLIMIT_{name}"), (value, value))


def write_confined(path: Path, program: str, *, seconds: int, memory_bytes: int) -> Path:
    """Writes `path`, which runs `program` without our environment and within limits, for who starts it by name.

    Limits that are lower already stay. Raises ValueError where programs can't be run from.
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
        raise ValueError(f"{path} can't be run: its disk is mounted noexec; name another folder by --state")
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
    """Sends a signal to each, and waits that long until all are gone. The dead are no error."""
    processes = list(processes)
    for process in processes:
        with suppress(psutil.Error):
            process.send_signal(number)
    if within_s:
        psutil.wait_procs(processes, within_s)


@dataclass(frozen=True)
class Identity:
    """Which process on which machine: a process id alone comes again."""

    host: str
    boot: str  # of the machine's last start
    pid: int
    started: float  # in ticks since the machine's start, which no change of a clock moves; else in seconds

    @staticmethod
    def own() -> "Identity":
        """This process."""
        return Identity.of(os.getpid())

    @staticmethod
    def of(pid: int) -> "Identity":
        """A process of this machine. Raises psutil.NoSuchProcess."""
        return Identity(platform.node(), _boot(), pid, _start_of(pid))

    @staticmethod
    def read(told: Mapping[str, Any]) -> "Identity":
        """Out of JSON that holds these fields, others beside them. Raises KeyError."""
        return Identity(told["host"], told["boot"], told["pid"], told["started"])

    @property
    def is_here(self) -> bool:
        """Whether it ran on this machine, since or before its last start."""
        return self.host == platform.node()

    @property
    def process(self) -> psutil.Process | None:
        """The process, if it is of this machine and still there."""
        if not self.is_here or self.boot != _boot():
            return None
        with suppress(psutil.Error):
            process = psutil.Process(self.pid)
            if _start_of(self.pid) == self.started and process.status() != psutil.STATUS_ZOMBIE:
                return process
        return None

    @property
    def may_live(self) -> bool:
        """Whether it is there, or on another machine, of which nobody here can tell."""
        return not self.is_here or self.process is not None


def _start_of(pid: int) -> float:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return psutil.Process(pid).create_time()
    return float(stat.rpartition(")")[2].split()[START_FIELD])


@cache
def _boot() -> str:
    """The kernel's name of this start of the machine; where it has none, the second in which it was."""
    with suppress(OSError):
        return BOOT_ID.read_text().strip()
    return str(round(psutil.boot_time()))
