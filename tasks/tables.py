"""Columns of many parts as one table: what looks at a whole manifest reads it so, in threads."""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from schemas.clip import CLIPS
from schemas.manifest import part_path
from schemas.segment import SEGMENTS
from schemas.storage import readable

THREADS = 2  # they open files, and Arrow decodes without Python's lock; more wait for each other on two cores
TYPES = {field.name: field.type for schema in (CLIPS, SEGMENTS) for field in schema}


# Folder of a manifest, parts, columns -> one table, as `read_columns` makes it.
Reader = Callable[[Path, Sequence[int], Sequence[str]], pa.Table]


def read_columns(folder: Path, parts: Sequence[int], columns: Sequence[str]) -> pa.Table:
    """`columns` of `parts`, in order; null where a part was written before there was such a column."""
    return pa.concat_tables([_schema(columns).empty_table(), *_tables(folder, parts, columns)])


@dataclass(frozen=True)
class Once:
    """`read_columns` for several who look at the same parts: opening a part costs more than a column of it."""

    wanted: Mapping[str, Sequence[str]]  # manifest -> all columns that anybody asks it for
    _known: dict[tuple[Path, tuple[str, ...]], dict[int, pa.Table]] = field(default_factory=dict, init=False)

    def __call__(self, folder: Path, parts: Sequence[int], columns: Sequence[str]) -> pa.Table:
        """The same as `read_columns`."""
        wanted = tuple(self.wanted.get(folder.name, columns))
        known = self._known.setdefault((folder, wanted), {})
        new = [part for part in parts if part not in known]
        known.update(zip(new, _tables(folder, new, wanted), strict=True))
        return pa.concat_tables(
            [_schema(columns).empty_table(), *(known[part].select(list(columns)) for part in parts)]
        )


def _schema(columns: Sequence[str]) -> pa.Schema:
    return pa.schema([(name, TYPES[name]) for name in columns])


def _tables(folder: Path, parts: Sequence[int], columns: Sequence[str]) -> list[pa.Table]:
    schema = _schema(columns)

    def one(part: int) -> pa.Table:
        found = pq.ParquetFile(readable(part_path(folder, part)), pre_buffer=False)
        table = found.read(columns=list(columns), use_threads=False).replace_schema_metadata(None)
        if table.schema.equals(schema):
            return table  # all of them but the oldest
        for name in set(columns) - set(table.column_names):
            table = table.append_column(name, pa.nulls(table.num_rows, TYPES[name]))
        return table.select(list(columns)).cast(schema)

    with ThreadPoolExecutor(THREADS) as pool:
        return list(pool.map(one, parts))
