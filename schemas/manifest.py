"""A manifest: a folder of Parquet parts, one row an item; each part carries its fingerprint."""

import hashlib
import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, is_dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

# Every row of every manifest after the first says which segment it is and what became of it.
ROW_FIELDS: list[tuple[str, pa.DataType]] = [
    ("key", pa.string()),
    ("outcome", pa.string()),
    ("reason", pa.string()),
    ("detail", pa.string()),
    ("digest", pa.string()),  # of the item's content: what the next stage depends on
    ("fingerprint", pa.string()),  # of the stage and of this row's input: equal means it can be copied
]
PART_NAME = re.compile(r"(\d{6})\.parquet")
METADATA_KEY = b"mcgurk"

Row = dict[str, Any]


@dataclass(frozen=True)
class PartHeader:
    """What a part says of itself: who made it from what, and which files belong to it with their sizes."""

    stage: str
    fingerprint: str
    files: dict[str, int]


def part_path(folder: Path, part: int) -> Path:
    """Where part number `part` of the manifest in `folder` lies."""
    return folder / f"{part:06d}.parquet"


def part_numbers(folder: Path) -> list[int]:
    """The numbers of the parts that exist, ascending."""
    if not folder.is_dir():
        return []
    names = (PART_NAME.fullmatch(path.name) for path in folder.iterdir())
    return sorted(int(match[1]) for match in names if match)


def write_part(path: Path, rows: Sequence[Mapping[str, Any]], schema: pa.Schema, header: PartHeader) -> None:
    """Writes a part whole or not at all."""
    table = pa.Table.from_pylist(list(rows), schema=schema)
    write_table(path, table, header)


def write_table(path: Path, table: pa.Table, header: PartHeader) -> None:
    """Writes `table` as a part whole or not at all, with `header` in its Parquet metadata."""
    metadata = {METADATA_KEY: json.dumps(asdict(header), sort_keys=True).encode()}
    with replacing(path) as temporary:
        pq.write_table(table.replace_schema_metadata(metadata), temporary, compression="zstd")


def read_part(path: Path, columns: Sequence[str] | None = None) -> list[Row]:
    """The rows of a part, in slot order."""
    return pq.ParquetFile(path).read(columns=list(columns) if columns else None).to_pylist()


def read_header(path: Path) -> PartHeader | None:
    """What the part at `path` says of itself; None where there is no such part or it is not readable."""
    try:
        metadata = pq.read_schema(path).metadata or {}
        return PartHeader(**json.loads(metadata[METADATA_KEY]))
    except (OSError, KeyError, ValueError, TypeError):  # pyarrow's ArrowInvalid is a ValueError
        return None


def read_manifest(folder: Path, columns: Sequence[str] | None = None) -> Iterator[tuple[int, Row]]:
    """(part, row) for every row of every part, in order."""
    for part in part_numbers(folder):
        for row in read_part(part_path(folder, part), columns):
            yield part, row


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary path that takes the place of `path` when the block ends well, and goes if it does not."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{os.urandom(4).hex()}.tmp")
    try:
        yield temporary
        with temporary.open("rb") as written:
            os.fsync(written.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Writes a text file whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def digest_of(*values: Any) -> str:
    """sha256 of values as canonical JSON; dataclasses count by their fields, so a new field changes it."""
    return hashlib.sha256(canonical_json(values).encode()).hexdigest()


def digest_of_rows(rows: Iterable[Mapping[str, Any]]) -> str:
    """The input digest of a part: each row's key, outcome and content; never attempts, messages or dates."""
    digest = hashlib.sha256()
    for row in rows:
        digest.update(f"{row['key']}|{row['outcome']}|{row['digest']}\n".encode())
    return digest.hexdigest()


def canonical_json(value: Any) -> str:
    """JSON that depends on the value only: sorted keys, no spaces."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), default=_plain)


def sha256_of_file(path: Path) -> str:
    """sha256 of a file's bytes, as hex digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _plain(value: Any) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"{value!r} has no canonical form")
