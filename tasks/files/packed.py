"""Media inside larger files: the members of each are looked up once, and their index is kept in the state folder."""

import hashlib
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pyarrow as pa

from schemas.errors import RequestError
from schemas.files import encoded_table, read_kept, write_bytes
from schemas.layout import TARS
from schemas.outcome import ItemError, Outcome
from tasks.files.stems import STEM, Stems
from tasks.files.suffixes import AUDIO_SUFFIXES, MEDIA_SUFFIXES
from tasks.progress import tracked
from tasks.transport.failure_classes import failure

log = logging.getLogger(__name__)


PIECES = "pieces"  # in the folder that a video is fetched into
NAMED = (("stem", pa.string()), ("suffix", pa.string()))
Copy = Callable[[dict, Path], None]  # writes the content of an index row to a file


def found(spec: str, suffixes: tuple[str, ...], what: str) -> list[Path]:
    """The files that `spec` names: all with these suffixes below a folder, a single file, or those of a pattern."""
    kind, _, name = spec.partition(":")
    if not name:
        raise RequestError(f"--source {spec}: name the {kind} as {kind}:FOLDER or '{kind}:PATTERN'")
    path = Path(name).expanduser()
    if path.is_dir():
        paths = [one for one in path.rglob("*") if one.name.lower().endswith(suffixes)]
    else:
        anchor = Path(path.anchor or ".")
        paths = [path] if path.is_file() else list(anchor.glob(str(path.relative_to(path.anchor))))
    files = sorted(one.absolute() for one in paths if one.is_file())
    if not files:
        raise RequestError(f"--source {spec}: there is no {what}")
    return files


def named(name: str) -> dict[str, str] | None:
    """Stem and suffix of a media file from its name, in any folder; None for other files."""
    stem, _, suffix = name.rpartition("/")[2].rpartition(".")
    suffix = f".{suffix.lower()}"
    return {"stem": stem, "suffix": suffix} if suffix in MEDIA_SUFFIXES and STEM.fullmatch(stem) else None


def kept(path: Path, state: Path) -> Path:
    """The path of the index of a file."""
    return state / TARS / f"{hashlib.sha256(str(path).encode()).hexdigest()[:32]}.parquet"


@dataclass(frozen=True)
class Packed:
    """The media in all files, by stem; for equal stems pictures before sounds, then in the order of the files.

    A row has `stem`, `suffix`, `file` (a number) and its place in that file.
    """

    spec: str
    table: pa.Table
    most_bytes: int

    @cached_property
    def _stems(self) -> Stems:
        return Stems(self.table.num_rows, lambda row: self.table["stem"][row].as_py())

    def fetch(self, copy: Copy, video_id: str, folder: Path) -> Path:
        """A folder with the files of a video. Raises ItemError if there are none, or too much."""
        places = self._stems.of(video_id)
        if not places:
            raise ItemError(Outcome.UNAVAILABLE, "removed", f"nothing of {video_id} in {self.spec}")
        rows = {stem: self.table.slice(row, 1).to_pylist()[0] for stem, row in places.items()}
        total = sum(row["size_bytes"] for row in rows.values())
        if total > self.most_bytes:
            raise failure("too_large", f"{total:,} bytes of {video_id}, more than {self.most_bytes:,}")
        pieces = folder / PIECES
        pieces.mkdir(exist_ok=True)
        for stem, row in rows.items():
            copy(row, pieces / f"{stem}{row['suffix']}")
        return pieces


def index_of(
    files: Sequence[Path], state: Path, rows_of: Callable[[Path], list[dict]], schema: pa.Schema
) -> pa.Table:
    """The rows of all files in order, each with the number of its file. Raises RequestError if there is none."""
    tables = []
    for number, path in enumerate(tracked(files, len(files), "archives", log)):
        table = _of_file(path, state, rows_of, schema)
        tables.append(table.append_column("file", pa.repeat(pa.scalar(number, pa.int32()), table.num_rows)))
    table = pa.concat_tables(tables)
    if not table.num_rows:
        others = f" and {len(files) - 1} more" if files[1:] else ""
        raise RequestError(f"no media files in {files[0]}{others}")
    is_sound = pa.array([one in AUDIO_SUFFIXES for one in table["suffix"].to_pylist()])
    places = [name for name in schema.names if name not in dict(NAMED)]
    order = [(name, "ascending") for name in ("stem", "is_sound", "file", *places)]
    return table.append_column("is_sound", is_sound).sort_by(order).combine_chunks()


def _has(table: pa.Table, schema: pa.Schema) -> bool:
    return set(table.column_names) == set(schema.names)


def _of_file(path: Path, state: Path, rows_of: Callable[[Path], list[dict]], schema: pa.Schema) -> pa.Table:
    """The rows of one file, read again if the file has changed."""
    index = kept(path, state)
    facts = path.stat()
    stamp = f"{path} {facts.st_size} {facts.st_mtime_ns}".encode(errors="surrogateescape")
    before = read_kept(index)
    if before is not None and before.schema.metadata == {b"tar": stamp} and _has(before, schema):
        return before.replace_schema_metadata()
    table = pa.Table.from_pylist(rows_of(path), schema)
    write_bytes(index, encoded_table(table.replace_schema_metadata({b"tar": stamp})))
    return table
