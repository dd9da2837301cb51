"""Where a run comes from: the commit of this code, and the process that it runs in."""

import platform
import subprocess
from pathlib import Path

import psutil

REPOSITORY = Path(__file__).resolve().parents[1]
GIT_S = 10.0


def commit() -> str | None:
    """The commit of the checkout that this code runs from; None for an installed copy, or without git."""
    if not (REPOSITORY / ".git").exists():
        return None
    try:
        done = subprocess.run(  # noqa: S603  (our own command)
            ["git", "-C", str(REPOSITORY), "rev-parse", "HEAD"],  # noqa: S607  (the user's own git, by their PATH)
            capture_output=True,
            text=True,
            timeout=GIT_S,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def this_process() -> str:
    """This process by host, number and start, so that another can tell whether it lives."""
    return _named(psutil.Process())


def has_ended(process: str) -> bool:
    """Whether a process by that name was on this host and is no more; of other hosts nothing is known."""
    host, number, _ = (*process.rsplit(":", 2), "", "")[:3]
    if host != platform.node() or not number.isdigit():
        return False
    try:
        return _named(psutil.Process(int(number))) != process
    except psutil.NoSuchProcess:
        return True


def _named(process: psutil.Process) -> str:
    return f"{platform.node()}:{process.pid}:{process.create_time():.0f}"
