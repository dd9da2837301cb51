"""Traces: where the name of a video that was taken down still occurs, read as each kind of file requires.

The bare id may stay in private manifests (as its slot), in the tombstones, and in lists that a user supplied.
"""

# pyarrow.compute makes its functions when it is imported: a type checker cannot see them.
# pyright: reportAttributeAccessIssue=false

import os
import re
import sqlite3
import tarfile
from collections.abc import Collection, Iterator
from contextlib import closing
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from schemas import layout
from schemas.errors import DataError
from schemas.segment import is_telling
from schemas.storage import as_local, is_local, path_under
from tasks.feature_files import open_members
from tasks.tombstones import FILE

NAME = "[taken down]"
DATABASE = b"SQLite format 3\0"
BUSY_S = 30.0  # the time that a server may hold its database
# In a root: the files that keep slots. In a state folder: lists of what a person wants fetched.
OURS = (
    layout.SEGMENTS,
    layout.CLIPS,
    layout.FEATURES,
    layout.SHARDS,
    layout.VERSIONS,
    layout.REPORTS,
    layout.MLRUNS,
)
SLOTS = re.compile(rf"({'|'.join(layout.MANIFESTS)})/\d{{6}}\.parquet|{layout.SEGMENTS}/{FILE}")
LISTS = re.compile(rf"({layout.WINDOWS}|{layout.STUDIO}|{layout.TARS})/.*|lanes\.json")
BINARY = (".arrow", ".tar", ".part", ".tmp")
PIECE_BYTES = 64 << 20


class Named:
    """The names of videos: their ids, alone or followed by times."""

    def __init__(self, video_ids: Collection[str], keys: Collection[str]) -> None:
        # An id that is an ordinary word or a short number names a video only if times follow it.
        bare = {one: is_telling(one) and not (one.isalpha() and one.islower()) for one in video_ids}
        ids = [rf"{re.escape(one)}(_\d+){{{0 if is_bare else 1},2}}" for one, is_bare in bare.items()]
        self._pattern = re.compile(rf"(?<![A-Za-z0-9_-])({'|'.join(ids)})(?![A-Za-z0-9_-])")
        self._keys = [key.encode() for key in keys]

    @property
    def pattern(self) -> str:
        """The regular expression that finds them, in Python and in PostgreSQL."""
        return self._pattern.pattern

    def __call__(self, text: str | None) -> bool:
        """Whether a text names one of them."""
        return bool(text and self._pattern.search(text))

    def without(self, text: str) -> str:
        """The text without them."""
        return self._pattern.sub(NAME, text)

    def in_bytes(self, data: bytes) -> bool:
        """Whether bytes hold the key of one of their segments, whatever surrounds it."""
        return any(key in data for key in self._keys)


def find_traces(root: Path, state: Path, named: Named, parts: Collection[int] = ()) -> list[Path]:
    """Our files under a root and its state folder that still name one of the videos; `parts` have their slots.

    Of a store's shards and features, those of other parts are not read: that would transfer the whole corpus.
    """
    ours = [(path, root, SLOTS) for name in OURS for path in sorted((root / name).rglob("*"))]
    ours += [(root / name, root, SLOTS) for name in ("README.md", "build.json", layout.OVERVIEW)]
    ours += [(path, state, LISTS) for path in sorted(state.rglob("*"))]
    found = []
    for path, folder, allowed in ours:
        inner = path_under(folder, path)
        if _is_link(path) or not path.is_file() or allowed.fullmatch(inner):
            continue
        if named(inner) or (_is_near(path, parts) and _names(path, named)):
            found.append(path)
    return found


def _is_link(path: Path) -> bool:
    return is_local(path) and path.is_symlink()


def _is_near(path: Path, parts: Collection[int]) -> bool:
    return is_local(path) or path.suffix not in BINARY or any(f"{part:06d}" in path.name for part in parts)


def _names(path: Path, named: Named) -> bool:
    """Whether the content of a file names one of the videos; false for a file that is removed meanwhile."""
    try:
        with as_local(path) as file:
            return _names_here(file, named)
    except FileNotFoundError:
        return False


def _names_here(path: Path, named: Named) -> bool:
    with path.open("rb") as file:
        head = file.read(len(DATABASE))
    if path.suffix == ".parquet":
        return any(named(text) for text in _texts(pq.read_table(path)))
    if head == DATABASE:
        return any(True for _ in _fields(path, named))
    if path.suffix == ".tar":
        with tarfile.open(path) as tar:
            return any(named(member.name) for member in tar)
    if path.suffix in BINARY:
        return any(named.in_bytes(piece) for piece in _pieces(path)) and not _names_others(path, named)
    return any(named(piece.decode("latin-1")) for piece in _pieces(path))


def _names_others(path: Path, named: Named) -> bool:
    """Whether a feature file has the bytes of a name only within longer names, as `11_0_2000` contains `1_0_2000`."""
    try:
        with open_members(path) as table:
            keys = set(table["key"].to_pylist())
    except (DataError, KeyError, UnicodeDecodeError):
        return False
    return any(named.in_bytes(key.encode()) for key in keys) and not any(named(key) for key in keys)


def _pieces(path: Path) -> Iterator[bytes]:
    """The bytes of a file in pieces, each preceded by the end of the previous one."""
    end = b""
    with path.open("rb") as file:
        while piece := file.read(PIECE_BYTES):
            yield end + piece
            end = piece[-200:]


def _texts(table: pa.Table) -> Iterator[str | None]:
    for column in table.columns:
        for chunk in column.chunks:
            flat = chunk
            while pa.types.is_list(flat.type):
                flat = flat.flatten()
            if pa.types.is_string(flat.type):
                yield from flat.to_pylist()


def clean_database(path: Path, named: Named) -> bool:
    """Removes the names from the texts and the freed pages of an SQLite database; returns whether there were any.

    The database's own row ids stay. Other processes may use it meanwhile.
    """
    if not path.is_file():
        return False
    fields = list(_fields(path, named))
    with closing(_opened(path, named)) as database:
        for table, column in fields:
            where = f"{table} SET {column} = without({column}) WHERE named({column})"
            database.execute(f"UPDATE {where}")  # noqa: S608  (names out of the database itself)
        database.commit()
        if fields:
            database.execute("VACUUM")
            database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return bool(fields)


def _fields(path: Path, named: Named) -> Iterator[tuple[str, str]]:
    """Table and column of every text in a database that names one of the videos."""
    with closing(_opened(path, named)) as database:
        tables = database.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
        for (name,) in tables:
            table = f'"{name}"'
            for _, column, *_ in database.execute(f"PRAGMA table_info({table})").fetchall():
                field = f'"{column}"'
                where = f"{table} WHERE named({field}) LIMIT 1"
                if database.execute(f"SELECT 1 FROM {where}").fetchone():  # noqa: S608  (the same)
                    yield table, field


def _opened(path: Path, named: Named) -> sqlite3.Connection:
    database = sqlite3.connect(path, timeout=BUSY_S)
    database.create_function("named", 1, lambda value: isinstance(value, str) and named(value))
    database.create_function("without", 1, named.without)
    return database


def clean_log(path: Path, named: Named) -> bool:
    """Removes the names from a text that others may be appending to; returns whether there were any."""
    text = path.read_text(encoding="utf-8", errors="surrogateescape")
    cleaned = named.without(text)
    if cleaned == text:
        return False
    with path.open(
        "r+", encoding="utf-8", errors="surrogateescape"
    ) as file:  # in place: a server has it open
        file.write(cleaned)
        file.truncate()
        file.flush()
        os.fsync(file.fileno())  # once done, no power loss may undo it
    return True
