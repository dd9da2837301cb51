"""The rows of a table as texts: CSV in any dialect, JSON lines and Parquet, read a few at a time."""

import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from schemas.errors import DataError
from tasks.lists.dialects import Dialect, columns_named, dialect_of
from tasks.lists.lines import MAX_CHARS, NOT_DECODED, Line, lines

LOOKED_AT = 100  # lines from which the dialect is determined: one of them is well-formed
HEAD_CHARS = 1 << 16  # of these lines, all together
PARQUET = b"PAR1"
ARRAY = re.compile(r"\s*\[\s*(\{|$)")
BATCH_ROWS = 4096
GROUP_BYTES = 1 << 30  # of the relevant columns in one group of rows: 2 M segments have a tenth of that

Value = str | tuple[str, ...]  # several only for labels
Columns = tuple[str | None, ...]


class Record(NamedTuple):
    """The values of a row, one per column; or why it can't be read."""

    number: int  # of the line, or of the row
    values: Sequence[Value] = ()
    fault: str = ""


class Records(NamedTuple):
    """The meaning of each column (a name in `dialects.NAMES`, or `clip`), the rows, and the remarks before them."""

    columns: Columns
    rows: Iterator[Record]
    remarks: str = ""


def open_records(path: Path) -> Records:
    """The rows of a list. Raises DataError if it is not a table."""
    with path.open("rb") as file:
        if file.read(len(PARQUET)) == PARQUET:
            return _of_parquet(path)
    head = _head(path)
    if any(line.text.lstrip().startswith("{") for line in head[:1]):
        names = tuple(_Object.columns)
        return Records(names, _of_objects(path))
    if any(ARRAY.match(line.text) for line in head[:1]):
        raise DataError(f"{path} is not a list of segments: a JSON array; write one object per line")
    try:
        dialect = dialect_of(head)
    except DataError as error:
        raise DataError(f"{path} is not a list of segments: {error}") from None
    remarks = "\n".join(line.text for line in head if line.text.startswith("#"))
    return Records(dialect.columns, _of_lines(path, dialect), remarks)


def _head(path: Path) -> list[Line]:
    found = []
    left = HEAD_CHARS
    for line in islice(lines(path), LOOKED_AT):
        found.append(line)
        left -= len(line.text)
        if left < 0:
            break
    return found


def _of_lines(path: Path, dialect: Dialect) -> Iterator[Record]:
    for line in lines(path):
        text = line.text
        if line.number < dialect.first_row or not text.strip():
            continue
        if text.startswith("#") and not dialect.has_header:
            continue
        if fault := _fault_of(line):
            yield Record(line.number, fault=fault)
            continue
        try:
            yield Record(line.number, dialect.fields(text))
        except ValueError as error:
            yield Record(line.number, fault=str(error))


def _fault_of(line: Line) -> str:
    if line.is_cut:
        return f"it is longer than {MAX_CHARS:,} characters: {line.text[:80]!r}"
    if NOT_DECODED in line.text:
        return f"it is not UTF-8 (save it as UTF-8, or as UTF-16 with a byte order mark): {line.text[:80]!r}"
    return ""


class _Object:
    """The columns of a JSON object, whatever their order and however many others it has."""

    columns = (
        "video_id", "start", "start_ms", "end", "end_ms", "duration", "labels", "split", "file", "segment_id",
    )  # fmt: skip

    @staticmethod
    @lru_cache(maxsize=256)
    def places(names: tuple[str, ...]) -> Mapping[str, str]:
        """Column -> name of a key. Raises DataError if the keys name no segment."""
        held = columns_named(names)
        if held is None:
            raise DataError(f"its keys name no segment: {', '.join(names)[:80]}")
        return {column: name for column, name in zip(held, names, strict=True) if column}


def _of_objects(path: Path) -> Iterator[Record]:
    for line in lines(path):
        if not line.text.strip():
            continue
        if fault := _fault_of(line):
            yield Record(line.number, fault=fault)
            continue
        try:
            found = json.loads(line.text)
            if not isinstance(found, dict):
                raise DataError(f"no object: {line.text[:80]!r}")
            places = _Object.places(tuple(found))
            values = [_value(found[places[name]]) if name in places else "" for name in _Object.columns]
            yield Record(line.number, values)
        except json.JSONDecodeError:
            yield Record(line.number, fault=f"it is not JSON: {line.text[:80]!r}")
        except (ValueError, RecursionError) as error:
            yield Record(line.number, fault=str(error))


def _value(value: Any) -> Value:
    """A value as text, empty for null; a list of texts as a tuple. Raises DataError for anything else."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    if isinstance(value, str):
        return value
    if isinstance(value, int | float | Decimal) and not isinstance(value, bool):
        return str(value)
    if isinstance(value, list) and all(isinstance(one, str) for one in value):
        return tuple(value)
    raise DataError(f"neither a text nor a number: {str(value)[:80]!r}")


def _of_parquet(path: Path) -> Records:
    try:
        file = pq.ParquetFile(path, pre_buffer=False, buffer_size=1 << 20)
    except (pa.ArrowInvalid, OSError) as error:
        raise DataError(f"{path} is not a list of segments: a damaged Parquet file: {error}") from None
    names = file.schema_arrow.names
    held = columns_named(names)
    if held is None:
        raise DataError(f"{path} is not a list of segments: its columns are {', '.join(names)[:200]}")
    used = [name for name, column in zip(names, held, strict=True) if column]
    _require_small(file, used, path)
    return Records(tuple(column for column in held if column), _of_batches(file, used, path))


def _require_small(file: pq.ParquetFile, used: Sequence[str], path: Path) -> None:
    meta = file.metadata
    for group in (meta.row_group(number) for number in range(meta.num_row_groups)):
        chunks = (group.column(place) for place in range(group.num_columns))
        size = sum(one.total_uncompressed_size for one in chunks if one.path_in_schema.split(".")[0] in used)
        if size > GROUP_BYTES:
            raise DataError(
                f"{path} is not a list of segments: one row group has {size:,} bytes; write smaller ones"
            )


def _of_batches(file: pq.ParquetFile, used: Sequence[str], path: Path) -> Iterator[Record]:
    number = 0
    try:
        for batch in file.iter_batches(BATCH_ROWS, columns=list(used), use_threads=False):
            columns = [batch.column(batch.schema.get_field_index(name)).to_pylist() for name in used]
            for row in zip(*columns, strict=True):
                number += 1
                try:
                    yield Record(number, [_value(one) for one in row])
                except ValueError as error:
                    yield Record(number, fault=str(error))
    except (pa.ArrowInvalid, OSError) as error:
        raise DataError(f"{path}: a damaged Parquet file after row {number:,}: {error}") from None
