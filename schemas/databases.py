"""SQLite databases: copies of one that is in use or about to be opened by another version of a program; their size.

The database itself records which release opened it last, in a number that SQLite keeps for its users (`user_version`),
so a restored copy records it too.
"""

import re
import sqlite3
from contextlib import closing, suppress
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

from schemas.errors import OperationalError
from schemas.storage import replacing

WAIT_S = 60.0  # for another process that is writing
NUM_COPIES = 3  # the newest copies of one database that are kept
UNKNOWN = "unknown"  # the version, if none was recorded yet
DIGITS = 1000  # 3.17.2 is stored as 3,017,002
COPY = "*-[0-9]*T[0-9]*"
LEAST_BYTES = 16 << 20  # smaller databases are not worth compacting


def copy_database(database: Path, target: Path) -> None:
    """Copies a database that others may be writing to; `target` appears complete or not at all."""
    with (
        replacing(target) as temporary,
        closing(sqlite3.connect(database, timeout=WAIT_S)) as source,
        closing(sqlite3.connect(temporary)) as copy,
    ):
        source.backup(copy)


def keep_before(database: Path, package: str) -> Path | None:
    """Keeps a copy beside a database if another version of `package` opened it last; returns the copy.

    The copy is named after that version and the current time, and the last three are kept. Returns None if the database
    is new or was last opened by the installed version. Raises OperationalError if there is no room for the copy.
    """
    if not database.is_file():
        return None
    installed = metadata.version(package)
    try:
        before = opened_by(database)
        if before == _release(installed):
            return None
        now = datetime.now(UTC).strftime("%Y%m%dT%H%M%S")
        copy = database.with_name(f"{database.stem}-{before}-{now}{database.suffix}")
        copy_database(database, copy)
    except (OSError, sqlite3.Error) as error:
        raise OperationalError(
            f"no copy of {database} can be made before {package} {installed} opens it ({error}): make room there, or "
            "put a backup in its place, and the same command continues"
        ) from error
    for old in copies_of(database)[:-NUM_COPIES]:
        old.unlink(missing_ok=True)
    note_opened(database, package)
    return copy


def compact(database: Path) -> None:
    """Returns free pages to the disk if they are most of a database: SQLite itself keeps them, and its log.

    A database that is small or in use by another process, or for which there is no room, is left as it is; this is
    harmless.
    """
    if not database.is_file():
        return
    with suppress(sqlite3.Error), closing(sqlite3.connect(database, timeout=0)) as connection:
        pages, free, page_bytes = (
            connection.execute(f"PRAGMA {name}").fetchone()[0]
            for name in ("page_count", "freelist_count", "page_size")
        )
        if 2 * free > pages and pages * page_bytes >= LEAST_BYTES:
            connection.execute("VACUUM")
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def copies_of(database: Path) -> list[Path]:
    """The copies that `keep_before` has made, oldest first."""
    found = database.parent.glob(f"{database.stem}{COPY}{database.suffix}")
    return sorted(found, key=lambda path: path.stem.rpartition("-")[2])


def opened_by(database: Path) -> str:
    """The release that last opened a database, or `unknown`."""
    with closing(sqlite3.connect(database, timeout=WAIT_S)) as connection:
        (number,) = connection.execute("PRAGMA user_version").fetchone()
    rest, micro = divmod(number, DIGITS)
    return f"{rest // DIGITS}.{rest % DIGITS}.{micro}" if number else UNKNOWN


def note_opened(database: Path, package: str) -> None:
    """Records in a database, if it exists, that the installed version of `package` opens it."""
    if not database.is_file():
        return
    major, minor, micro = map(int, _release(metadata.version(package)).split("."))
    number = (major * DIGITS + minor) * DIGITS + micro
    with closing(sqlite3.connect(database, timeout=WAIT_S)) as connection:
        if connection.execute("PRAGMA user_version").fetchone() != (number,):
            connection.execute(f"PRAGMA user_version = {number}")


def _release(version: str) -> str:
    """The first three numbers of a version."""
    numbers = re.findall(r"\d+", version.partition("+")[0])
    return ".".join([*numbers, "0", "0"][:3])
