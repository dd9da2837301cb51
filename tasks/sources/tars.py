"""Media in tars: `tars:PATH`, a folder or pattern of tars in WebDataset's layout, as copies of AudioSet circulate.

A member is known by its name: `tasks.stems`. The state folder keeps where the bytes of each lie: the headers of a tar
are read once, and a video costs one seek a member. A gzipped tar is unpacked once, for that and for its own index.
"""

import hashlib
import logging
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from schemas.manifest import write_bytes
from schemas.outcome import ItemError, Outcome
from tasks.access import Access
from tasks.archives import members
from tasks.bytes_at import BytesAt, Gzipped, is_gzipped, opened
from tasks.failures import failure
from tasks.progress import tracked
from tasks.sources import Fetch
from tasks.stems import STEM, Stems
from tasks.suffixes import AUDIO_SUFFIXES, MEDIA_SUFFIXES

log = logging.getLogger(__name__)

FOLDER = "tars"  # in the state folder: the index of each tar
SUFFIXES = (".tar", ".tar.gz", ".tgz")
PIECES = "pieces"  # in the folder that a video is fetched to
CHUNK_BYTES = 16 << 20  # most members are read at once
INDEX = pa.schema(
    [("stem", pa.string()), ("suffix", pa.string()), ("offset", pa.int64()), ("size_bytes", pa.int64())]
)


@dataclass(frozen=True)
class _Media:
    """The media of all tars, by stem; of the same stem pictures before sounds, then as they stand in the tars."""

    tars: list[BytesAt]
    table: pa.Table

    @property
    def stems(self) -> Stems:
        """What is found by name."""
        return Stems(self.table.num_rows, lambda row: self.table["stem"][row].as_py())


@contextmanager
def open_source(spec: str, state: Path, access: Access) -> Iterator[Fetch]:
    """Yields `fetch`, which gives a folder of what the tars hold of a video. Raises ValueError where nothing is."""
    tars = _tars(spec)
    table = _table(tars, state)
    with ExitStack() as stack:
        files: list[BytesAt] = [stack.enter_context(opened(tar, _bytes_index(tar, state))) for tar in tars]
        yield partial(_fetch, _Media(files, table), spec, access.limits.size_bytes)


def _tars(spec: str) -> list[Path]:
    name = spec.partition(":")[2]
    if not name:
        raise ValueError(f"--source {spec}: name the tars as tars:FOLDER or 'tars:PATTERN'")
    path = Path(name).expanduser()
    anchor = Path(path.anchor or ".")
    if path.is_dir():
        found = [one for one in path.rglob("*") if one.name.lower().endswith(SUFFIXES)]
    else:
        found = [path] if path.is_file() else anchor.glob(str(path.relative_to(path.anchor)))
    tars = sorted(one.absolute() for one in found if one.is_file())
    if not tars:
        raise ValueError(f"--source {spec}: there is no tar")
    return tars


def _table(tars: list[Path], state: Path) -> pa.Table:
    tables = []
    for number, tar in enumerate(tracked(tars, len(tars), "tars", log)):
        table = _index(tar, state)
        tables.append(table.append_column("tar", pa.repeat(pa.scalar(number, pa.int32()), table.num_rows)))
    table = pa.concat_tables(tables)
    if not table.num_rows:
        raise ValueError(
            f"there is no media file in {tars[0]}" + (f" and {len(tars) - 1} more" if tars[1:] else "")
        )
    is_sound = pa.array([one in AUDIO_SUFFIXES for one in table["suffix"].to_pylist()])
    order = [(name, "ascending") for name in ("stem", "is_sound", "tar", "offset")]
    return table.append_column("is_sound", is_sound).sort_by(order).combine_chunks()


def _index(tar: Path, state: Path) -> pa.Table:
    """The media of one tar; read anew if it is another file than it was."""
    kept = _kept(tar, state)
    facts = tar.stat()
    stamp = f"{tar} {facts.st_size} {facts.st_mtime_ns}".encode(errors="surrogateescape")
    if kept.is_file():
        table = pq.read_table(kept)
        if (table.schema.metadata or {}).get(b"tar") == stamp:
            return table.replace_schema_metadata()
    table, sink = pa.Table.from_pylist(_rows_of(tar, state), INDEX), pa.BufferOutputStream()
    pq.write_table(table.replace_schema_metadata({b"tar": stamp}), sink)
    write_bytes(kept, sink.getvalue())
    return table


def _kept(tar: Path, state: Path) -> Path:
    return state / FOLDER / f"{hashlib.sha256(str(tar).encode()).hexdigest()[:32]}.parquet"


def _bytes_index(tar: Path, state: Path) -> Path | None:
    """What is known of a gzipped tar, if it is one."""
    kept = _kept(tar, state).with_suffix(".gzidx")
    return kept if kept.is_file() and is_gzipped(tar) else None


def _rows_of(tar: Path, state: Path) -> list[dict]:
    rows, index = [], _kept(tar, state).with_suffix(".gzidx")
    index.unlink(missing_ok=True)
    with opened(tar) as file:
        try:
            for member in members(file):
                stem, _, suffix = member.name.rpartition("/")[2].rpartition(".")
                suffix = f".{suffix.lower()}"
                if suffix in MEDIA_SUFFIXES and STEM.fullmatch(stem):
                    place = {"offset": member.offset, "size_bytes": member.size_bytes}
                    rows.append({"stem": stem, "suffix": suffix, **place})
        except ValueError as error:
            log.warning("tars: %s; what stands before it is used", error)
        if isinstance(file, Gzipped):
            file.keep_index(index)
    return rows


def _fetch(media: _Media, spec: str, most_bytes: int, video_id: str, folder: Path) -> Path:
    """A folder with the files of a video. Raises ItemError where there are none, or too much."""
    found = media.stems.of(video_id)
    if not found:
        raise ItemError(Outcome.UNAVAILABLE, "removed", f"nothing of {video_id} in {spec}")
    rows = {stem: media.table.slice(row, 1).to_pylist()[0] for stem, row in found.items()}
    total = sum(row["size_bytes"] for row in rows.values())
    if total > most_bytes:
        raise failure("too_large", f"{total:,} bytes of {video_id}, more than {most_bytes:,}")
    pieces = folder / PIECES
    pieces.mkdir(exist_ok=True)
    for stem, row in rows.items():
        _copy(media.tars[row["tar"]], row, pieces / f"{stem}{row['suffix']}")
    return pieces


def _copy(tar: BytesAt, row: dict, target: Path) -> None:
    offset, left = row["offset"], row["size_bytes"]
    with target.open("wb") as copy:
        try:
            while left and (chunk := tar.read_at(offset, min(CHUNK_BYTES, left))):
                copy.write(chunk)
                offset += len(chunk)
                left -= len(chunk)
        except ValueError as error:
            raise failure("not_media", str(error)) from None
    if left:
        raise ItemError(Outcome.UNAVAILABLE, "removed", f"{tar.path.name} has become shorter")
