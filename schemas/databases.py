"""Copies of SQLite databases: of one that is in use, and of one that another version of a program is about to open.

The database itself says who opened it last, in a number that SQLite keeps for its users (`user_version`): so a copy
that is put back says so too.
"""

import re
import sqlite3
from contextlib import closing
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

from schemas.errors import OperationalError
from schemas.storage import replacing

WAIT_S = 60.0  # for another process that writes
NUM_COPIES = 3  # of one database, the newest
UNKNOWN = "unknown"  # the version, before it was noted
DIGITS = 1000  # 3.17.2 is noted as 3,017,002
COPY = "*-[0-9]*T[0-9]*"


def copy_database(database: Path, target: Path) -> None:
    """Copies a database that others may be writing to; `target` appears whole or not at all."""
    with (
        replacing(target) as temporary,
        closing(sqlite3.connect(database, timeout=WAIT_S)) as source,
        closing(sqlite3.connect(temporary)) as copy,
    ):
        source.backup(copy)


def keep_before(database: Path, package: str) -> Path | None:
    """Keeps a copy beside a database, if another version of `package` opened it last; returns the copy.

    The copy is named by that version and by now, and the last three stay. None where the database is new, or was opened
    by the installed version. Raises OperationalError where there is no room for the copy.
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
            f"no copy of {database} can be kept before {package} {installed} opens it ({error}): make room there, or "
            "put a backup in its place, and the same command continues"
        ) from error
    for old in copies_of(database)[:-NUM_COPIES]:
        old.unlink(missing_ok=True)
    note_opened(database, package)
    return copy


def copies_of(database: Path) -> list[Path]:
    """The copies that `keep_before` has made, the oldest first."""
    found = database.parent.glob(f"{database.stem}{COPY}{database.suffix}")
    return sorted(found, key=lambda path: path.stem.rpartition("-")[2])


def opened_by(database: Path) -> str:
    """The release that opened a database last, or `unknown`."""
    with closing(sqlite3.connect(database, timeout=WAIT_S)) as connection:
        (number,) = connection.execute("PRAGMA user_version").fetchone()
    rest, micro = divmod(number, DIGITS)
    return f"{rest // DIGITS}.{rest % DIGITS}.{micro}" if number else UNKNOWN


def note_opened(database: Path, package: str) -> None:
    """Notes in a database, where there is one, that the installed version of `package` opens it."""
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
