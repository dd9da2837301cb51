"""Logs that do not grow without bound: a long log moves into numbered files beside it, of which a few are kept.

A log is copied and then emptied, and not renamed, because servers hold it open for months. They append, so they
continue at its new end. What is written during the copy is copied too. Only a line that is written between the end of
the copy and the emptying, some microseconds later, would be missing.
"""

import fcntl
import logging
import shutil
from collections.abc import Iterable
from pathlib import Path

from schemas.storage import replacing
from tasks.leases import locks

log = logging.getLogger(__name__)

MOST_BYTES = 10_000_000
NUM_OLD = 3  # beside the current one


def rotate_all(paths: Iterable[Path]) -> None:
    """Rotates logs that are too long; one that can't be rotated, such as on a full disk, is left as it is."""
    for path in paths:
        try:
            rotate(path)
        except OSError as error:
            log.warning("%s could not be rotated: %s", path, error)


def rotate(path: Path, most_bytes: int = MOST_BYTES) -> bool:
    """Moves the content of a log that is too long into `path.1`, what was there into `path.2`, and so on."""
    if not path.is_file() or path.stat().st_size <= most_bytes:
        return False
    with path.open("r+b") as file:
        if not locks(file, fcntl.LOCK_EX | fcntl.LOCK_NB):  # another keeper of this state folder rotates it
            return False
        for number in range(NUM_OLD, 1, -1):
            if (older := _old(path, number - 1)).is_file():
                older.replace(_old(path, number))
        with replacing(_old(path, 1)) as temporary, temporary.open("wb") as copy:
            shutil.copyfileobj(file, copy)
        with _old(path, 1).open("ab") as copy:
            shutil.copyfileobj(file, copy)  # what was written while the copy was made durable
            file.truncate(0)
    return True


def _old(path: Path, number: int) -> Path:
    return path.with_name(f"{path.name}.{number}")
