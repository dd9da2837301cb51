"""Process identity: which process wrote something, so that another can tell whether it is still alive."""

import getpass
import os
import platform
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import psutil

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
START_FIELD = 19  # of /proc/PID/stat behind the program's name: when it started


def account() -> str:
    """The name of this account; its number if it has no name, as in a container with an account of its own."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return str(os.getuid())


@dataclass(frozen=True)
class Identity:
    """A process on a machine. The process id alone does not identify it, because ids are reused."""

    host: str
    boot: str  # of the machine's last start
    pid: int
    started: float  # in ticks since the machine's start, which clock changes don't affect; else in seconds

    @staticmethod
    def own() -> "Identity":
        """This process."""
        return Identity.of(os.getpid())

    @staticmethod
    def of(pid: int) -> "Identity":
        """A process of this machine. Raises psutil.NoSuchProcess."""
        return Identity(platform.node(), _boot(), pid, _start_of(pid))

    @staticmethod
    def read(stored: Mapping[str, Any]) -> "Identity":
        """From JSON with these fields, and possibly others. Raises KeyError."""
        return Identity(stored["host"], stored["boot"], stored["pid"], stored["started"])

    @property
    def is_here(self) -> bool:
        """Whether it ran on this machine, before or since its last start."""
        return self.host == platform.node()

    @property
    def process(self) -> psutil.Process | None:
        """The process, if it runs on this machine and still exists."""
        if not self.is_here or self.boot != _boot():
            return None
        with suppress(psutil.Error):
            process = psutil.Process(self.pid)
            if _start_of(self.pid) == self.started and process.status() != psutil.STATUS_ZOMBIE:
                return process
        return None

    @property
    def may_live(self) -> bool:
        """Whether it may be alive: it exists, or belongs to another machine, which can't be checked from here."""
        return not self.is_here or self.process is not None


def _start_of(pid: int) -> float:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return psutil.Process(pid).create_time()
    return float(stat.rpartition(")")[2].split()[START_FIELD])


@cache
def _boot() -> str:
    """The kernel's id of this start of the machine; if there is none, the second of the start."""
    with suppress(OSError):
        return BOOT_ID.read_text().strip()
    return str(round(psutil.boot_time()))
