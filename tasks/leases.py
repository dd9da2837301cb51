"""Leases: which process may write which folders now. The kernel holds them on files, so they end with the process.

Correctness does not depend on them: bytes are reproducible and parts are written completely or not at all. A lease
avoids double work and gives the index's append-only slots the mutual exclusion that they need. It binds the processes
that share a state folder. Its file names the current holder, or the last one.
"""

import fcntl
import json
import logging
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, Any, cast

from schemas.errors import DENIED, OperationalError
from schemas.identity import Identity
from schemas.layout import LEASES, REPORTS, STAGES, TRAININGS, stage_facts
from schemas.storage import make_folder, sweep
from tasks.feature_files import all_fragments

log = logging.getLogger(__name__)

# What a process may hold, in the order in which several are taken, so that two processes never deadlock.
NAMES = (*dict.fromkeys(one.lease for one in STAGES), "tars", "pages", "signs")
# The holder of a lease is the only writer in these folders of a root.
FOLDERS = {
    **{name: tuple(it for one in STAGES if one.lease == name for it in one.folders) for name in NAMES},
    "pages": (f"{REPORTS}/*",),
}
BUILD = "build"  # held by every build, together with others


@dataclass(frozen=True)
class Holder:
    """Who holds a lease, and since when."""

    identity: Identity
    since: str  # in ISO 8601

    def __str__(self) -> str:
        return f"process {self.identity.pid} on {self.identity.host}, since {self.since}"


class HeldError(OperationalError):
    """Another process holds a lease that can't be waited for."""


@contextmanager
def lease(state: Path, *names: str) -> Iterator[None]:
    """Inside the block, no other process with this state folder holds one of `names`; waits until that is possible."""
    unknown = set(names) - set(NAMES)
    if unknown:
        raise ValueError(f"unknown lease {unknown}: use some of {', '.join(NAMES)}")
    with ExitStack() as stack:
        for name in sorted(names, key=NAMES.index):
            stack.enter_context(_held(state / LEASES / name))
        yield


@contextmanager
def _held(path: Path) -> Iterator[None]:
    with _opened(path) as file:
        if not locks(file, fcntl.LOCK_EX | fcntl.LOCK_NB):
            log.info(
                "waiting for %s, which is writing %s here", holder_of(path) or "another process", path.name
            )
            fcntl.flock(file, fcntl.LOCK_EX)
        _sign(file)
        yield


@contextmanager
def free(state: Path, name: str) -> Iterator[bool]:
    """Yields whether the lease is free; if so, no other process can take it inside the block."""
    with _opened(state / LEASES / name) as file:
        yield locks(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


@contextmanager
def alone(state: Path, name: str, what: str) -> Iterator[None]:
    """Inside the block, no other process does `what` (a clause for the message) here. Raises HeldError at once."""
    path = state / LEASES / name
    with _opened(path) as file:
        if not locks(file, fcntl.LOCK_EX | fcntl.LOCK_NB):
            raise HeldError(f"{holder_of(path) or 'another process'}, {what}: nothing was done")
        _sign(file)
        yield


@contextmanager
def building(state: Path, *, only_if_alone: bool = False) -> Iterator[None]:
    """Inside the block, this process builds here; several builds take turns, one group of parts at a time.

    Raises HeldError immediately if another build runs and this one must run alone, as a scheduled build must.
    """
    path = state / LEASES / BUILD
    with _opened(path) as file:
        if only_if_alone and not locks(file, fcntl.LOCK_EX | fcntl.LOCK_NB):
            raise HeldError(f"{holder_of(path) or 'another process'}, is building here: nothing was done")
        fcntl.flock(file, fcntl.LOCK_SH)
        _sign(file)
        yield


def holder_of(path: Path) -> Holder | None:
    """The holder of the lease in that file, or its last one."""
    try:
        stored = json.loads(path.read_text())
        return Holder(Identity.read(stored), stored["since"])
    except (OSError, ValueError, KeyError, TypeError):  # none yet, or being written now
        return None


@contextmanager
def training_mark(state: Path, digest: str) -> Iterator[None]:
    """Inside the block, version `digest` is being read: `prune` leaves it alone."""
    path = state / TRAININGS / digest
    while True:
        with _opened(path) as file:
            fcntl.flock(file, fcntl.LOCK_SH)  # trainings and exports do not exclude each other
            if file.writable() and not _is_at(file, path):
                continue  # `prune` has removed it meanwhile
            yield
            return


@contextmanager
def unread(state: Path, digest: str) -> Iterator[bool]:
    """Yields whether no training reads version `digest`; if so, none can start to read it inside the block.

    Its mark is then removed: otherwise there would be a file for each version that ever existed.
    """
    path = state / TRAININGS / digest
    with _opened(path) as file:
        is_unread = locks(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield is_unread
        if is_unread:
            path.unlink(missing_ok=True)


def _is_at(file: IO[str], path: Path) -> bool:
    """Whether an open file is still the one that its path names."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False


def remove_partial_writes(root: Path, *names: str) -> None:
    """Removes what killed writers left in the folders of the leases `names`, which the caller holds.

    These are temporary files, scratch folders, and fragments of features.
    """
    for name in sorted(names, key=NAMES.index):
        for pattern in FOLDERS[name]:
            for folder in root.glob(pattern) if pattern.endswith("*") else [root / pattern]:
                sweep(folder)
    if stage_facts("extract").lease in names:
        for fragment in all_fragments(root):
            fragment.unlink()


def _opened(path: Path) -> IO[str]:
    """The file of a lease. An account that may only read uses the existing file, or else a file of its own."""
    try:
        make_folder(path.parent)
        return path.open("a+")
    except OSError as error:
        if error.errno not in DENIED:
            raise
    return path.open() if os.access(path, os.R_OK) else cast("IO[str]", TemporaryFile("a+"))


def _sign(file: IO[str]) -> None:
    if not file.writable():
        return
    holder = {**asdict(Identity.own()), "since": datetime.now(UTC).isoformat(timespec="seconds")}
    file.truncate(0)
    file.write(json.dumps(holder))
    file.flush()


def locks(file: IO[Any], how: int) -> bool:
    """Whether the file could be locked in that way without waiting."""
    try:
        fcntl.flock(file, how)
    except BlockingIOError:
        return False
    return True
