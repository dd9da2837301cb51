"""Columns of many parts as one table: what looks at a whole manifest reads it so, in threads."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from schemas.clip import CLIPS
from schemas.manifest import part_path
from schemas.segment import SEGMENTS
from schemas.storage import readable

THREADS = 4  # they open files; Arrow decodes without Python's lock
TYPES = {field.name: field.type for schema in (CLIPS, SEGMENTS) for field in schema}


def read_columns(folder: Path, parts: Sequence[int], columns: Sequence[str]) -> pa.Table:
    """`columns` of `parts`, in order; null where a part was written before there was such a column."""
    schema = pa.schema([(name, TYPES[name]) for name in columns])

    def one(part: int) -> pa.Table:
        found = pq.ParquetFile(readable(part_path(folder, part)))
        names = [name for name in columns if name in found.schema_arrow.names]
        table = found.read(columns=names, use_threads=False).replace_schema_metadata(None)
        for name in set(columns) - set(names):
            table = table.append_column(name, pa.nulls(table.num_rows, TYPES[name]))
        return table.select(list(columns)).cast(schema)

    with ThreadPoolExecutor(THREADS) as pool:
        return pa.concat_tables([schema.empty_table(), *pool.map(one, parts)])
