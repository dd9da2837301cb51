"""The attempts ledger: append-only, one line per segment, committed after each video, so that a kill loses one video.

Lines are compacted to Parquet, part by part. Every file of lines has a generation in its name, and the Parquet file
records the generation up to which it includes them: a kill between the two steps neither loses an attempt nor counts it
twice.
"""

from collections.abc import Collection, Iterable, Iterator
from pathlib import Path

import pyarrow as pa

from schemas.clip import CLIPS
from schemas.files import (
    append_lines,
    encoded_table,
    open_table,
    opened_line,
    read_table,
    sealed_line,
    write_bytes,
)
from schemas.layout import ATTEMPTS
from schemas.manifest import Row
from schemas.storage import remove as remove_files

COMPACTED_BYTES = 1 << 20  # of lines: once a part has that many, they are compacted; about 2,000 attempts
COLUMNS = frozenset(CLIPS.names)
GENERATION = b"mcgurk-generation"
REMEDY = (
    "restore it from a copy, or remove it: then its attempts are forgotten, but what they fetched is kept"
)


def append(state: Path, part: int, rows: Iterable[Row]) -> None:
    """Adds what became of the segments of one video; on disk when this returns."""
    path = _lines_path(state, part, _generation(state, part) + 1)
    append_lines(path, [sealed_line(row) for row in rows])


def latest(state: Path, part: int) -> dict[str, Row]:
    """The ledger's latest record of each segment of a part, by key: the fold of its attempts."""
    return {row["key"]: row for row in attempts(state, part)}


def attempts(state: Path, part: int) -> Iterator[Row]:
    """Every attempt of a part, in order; torn lines are skipped."""
    path = compacted_path(state, part)
    if path.is_file():
        yield from read_table(path, remedy=REMEDY).to_pylist()
    yield from _lines(_lines_path(state, part, _generation(state, part) + 1))


def compact(state: Path, part: int, *, least_bytes: int = COMPACTED_BYTES) -> None:
    """Moves the lines of a part into its Parquet file once there are many."""
    generation = _generation(state, part)
    lines = _lines_path(state, part, generation + 1)
    if lines.is_file() and lines.stat().st_size >= least_bytes:
        _write(state, part, list(attempts(state, part)), generation + 1)
        lines.unlink()


def remove(state: Path, part: int, keys: Collection[str]) -> None:
    """Rewrites the ledger of a part without the segments `keys` and without torn lines."""
    rows = list(attempts(state, part))
    generation = _generation(state, part)
    kept = [row for row in rows if row["key"] not in keys]
    if len(kept) < len(rows):
        _write(state, part, kept, generation + 1)
    generations = range(1, _generation(state, part) + 1)  # those of a killed compaction too
    remove_files(*(_lines_path(state, part, old) for old in generations))


def compacted_path(state: Path, part: int) -> Path:
    """The path of the compacted attempts of a part, one row per attempt, in the schema CLIPS."""
    return _folder(state) / f"{part:06d}.parquet"


def _write(state: Path, part: int, rows: list[Row], generation: int) -> None:
    table = pa.Table.from_pylist(rows, schema=CLIPS).replace_schema_metadata({GENERATION: str(generation)})
    write_bytes(compacted_path(state, part), encoded_table(table, compression="zstd"))


def _generation(state: Path, part: int) -> int:
    """The generation of lines up to which the Parquet file of a part includes them."""
    path = compacted_path(state, part)
    if not path.is_file():
        return 0
    return int((open_table(path, REMEDY).schema_arrow.metadata or {}).get(GENERATION, 0))


def _lines(path: Path) -> Iterator[Row]:
    text = path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""
    for line in text.splitlines():
        if row := opened_line(line, COLUMNS):
            yield row


def _folder(state: Path) -> Path:
    return state / ATTEMPTS


def _lines_path(state: Path, part: int, generation: int) -> Path:
    suffix = "jsonl" if generation == 1 else f"{generation}.jsonl"
    return _folder(state) / f"{part:06d}.{suffix}"
