"""Leases: who may write what just now. Held by the kernel on local files, so that they end with the process.

Correctness rests on identical bytes and atomic parts; a lease avoids double work, and gives the index's
append-only slots the mutual exclusion that they need. It binds processes that share one state folder.
"""

import fcntl
import logging
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO

log = logging.getLogger(__name__)

# What a process may hold, in the order in which it takes several: so that two never wait for each other.
NAMES = ("segments", "clips", "features", "tars", "pages")
TRAININGS = "trainings"


@contextmanager
def lease(state: Path, *names: str) -> Iterator[None]:
    """Inside the block no other process with this state folder holds one of `names`; waits until it may."""
    unknown = set(names) - set(NAMES)
    if unknown:
        raise ValueError(f"unknown lease {unknown}: use some of {', '.join(NAMES)}")
    with ExitStack() as stack:
        for name in sorted(names, key=NAMES.index):
            stack.enter_context(_held(state / "leases" / name))
        yield


@contextmanager
def _held(path: Path) -> Iterator[None]:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+") as file:
        if not _locks(file, fcntl.LOCK_EX | fcntl.LOCK_NB):
            file.seek(0)
            log.info("waits for process %s, which writes %s here", file.read() or "?", path.name)
            fcntl.flock(file, fcntl.LOCK_EX)
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield


@contextmanager
def training_mark(state: Path, digest: str) -> Iterator[None]:
    """Inside the block, version `digest` is being read: `prune` leaves it alone."""
    with _open_mark(state, digest) as file:
        fcntl.flock(file, fcntl.LOCK_SH)  # trainings do not exclude each other
        yield


@contextmanager
def unread(state: Path, digest: str) -> Iterator[bool]:
    """Yields whether no training reads version `digest`; inside the block, none begins to."""
    with _open_mark(state, digest) as file:
        yield _locks(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _open_mark(state: Path, digest: str) -> IO[str]:
    path = state / TRAININGS / digest
    path.parent.mkdir(parents=True, exist_ok=True)
    return path.open("a")


def _locks(file, how: int) -> bool:
    try:
        fcntl.flock(file, how)
    except BlockingIOError:
        return False
    return True
