"""Columns of many parts as one table, read in threads, for code that looks at a whole manifest."""

import json
import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import cast

import pyarrow as pa
from pyarrow import ipc

from schemas.clip import CLIPS
from schemas.feature import FEATURES
from schemas.files import digest_of, read_table
from schemas.manifest import PART_NAME, part_path
from schemas.segment import SEGMENTS
from schemas.shard import SHARDS
from schemas.storage import is_local, replacing

THREADS = 2  # they open files, and Arrow decodes without Python's lock; more wait for each other on two cores
FEW = 32  # parts are opened sooner than all columns of a manifest are written
TYPES = {field.name: field.type for schema in (SHARDS, FEATURES, CLIPS, SEGMENTS) for field in schema}

Kept = tuple[Path, tuple[str, ...]]  # a manifest's folder, and columns of it
FileState = tuple[int, int, int]  # of a file: time of its last change in ns, bytes, inode
# Folder of a manifest, parts, columns -> one table, such as `read_columns` returns.
Reader = Callable[[Path, Sequence[int], Sequence[str]], pa.Table]


def read_columns(folder: Path, parts: Sequence[int], columns: Sequence[str]) -> pa.Table:
    """`columns` of `parts`, in order; null if a part is older than the column."""
    return pa.concat_tables([_schema(columns).empty_table(), *_tables(folder, parts, columns)])


class Once:
    """`read_columns` for several readers of the same parts: opening a part costs more than reading a column.

    As a context manager it also remembers columns for the next process, in the local folder `memory`, together with the
    state of each file: only files whose state has changed are opened again. That folder may be deleted.
    """

    def __init__(self, wanted: Mapping[str, Sequence[str]], memory: Path | None = None) -> None:
        self._wanted = wanted  # manifest -> all columns that are ever read from it
        self._memory = memory
        self._known: dict[Kept, dict[int, pa.Table]] = {}
        self._states: dict[Kept, dict[int, FileState]] = {}
        self._num_opened: Counter[Kept] = Counter()

    def __call__(self, folder: Path, parts: Sequence[int], columns: Sequence[str]) -> pa.Table:
        """The same as `read_columns`."""
        kept = folder, tuple(self._wanted.get(folder.name, columns))
        if kept not in self._known:
            self._states[kept] = states_of(folder) if self._memory and is_local(folder) else {}
            self._known[kept] = self._remembered(kept)
        known = self._known[kept]
        new = [part for part in parts if part not in known]
        known.update(zip(new, _tables(folder, new, kept[1]), strict=True))
        self._num_opened[kept] += len(new)
        tables = (known[part].select(list(columns)) for part in parts)
        return pa.concat_tables([_schema(columns).empty_table(), *tables])

    def __enter__(self) -> "Once":
        return self

    def __exit__(self, *raised: object) -> None:
        with suppress(OSError):  # reading works without the right to write there
            for kept, num_opened in self._num_opened.items():
                if num_opened > FEW and not any(raised):
                    self._remember(kept)

    def _remember(self, kept: Kept) -> None:
        known = self._known[kept]
        states = self._states[kept]
        parts = [part for part, table in known.items() if part in states and table.num_rows]
        if not parts:
            return
        schema = _schema(kept[1]).with_metadata(
            {"states": json.dumps([(part, *states[part]) for part in parts])}
        )
        options = ipc.IpcWriteOptions(compression="lz4")
        with replacing(self._path(kept)) as path, ipc.new_file(str(path), schema, options=options) as file:
            for part in parts:
                file.write_batch(known[part].combine_chunks().to_batches()[0])

    def _remembered(self, kept: Kept) -> dict[int, pa.Table]:
        """The remembered columns of files that have not changed since."""
        states = self._states[kept]
        if not states or not self._path(kept).is_file():
            return {}
        try:
            file = ipc.open_file(pa.memory_map(str(self._path(kept))))
            stored = [(part, tuple(state)) for part, *state in json.loads(file.schema.metadata[b"states"])]
            same = [(n, part) for n, (part, state) in enumerate(stored) if states.get(part) == state]
            batches = {part: file.get_batch(n) for n, part in same}
        except (OSError, ValueError):  # Arrow's errors are ValueErrors: what can't be read is not remembered
            return {}
        return {
            part: pa.Table.from_batches([batch]).replace_schema_metadata(None)
            for part, batch in batches.items()
        }

    def _path(self, kept: Kept) -> Path:
        return cast(Path, self._memory) / f"{digest_of(str(kept[0]), kept[1])}.arrow"


def states_of(folder: Path) -> dict[int, FileState]:
    """The state of every part in a local folder, which changes when the part is rewritten."""
    if not folder.is_dir():
        return {}
    with os.scandir(folder) as entries:
        found = {m[1]: entry.stat() for entry in entries if (m := PART_NAME.fullmatch(entry.name))}
    return {int(part): (at.st_mtime_ns, at.st_size, at.st_ino) for part, at in found.items()}


def _schema(columns: Sequence[str]) -> pa.Schema:
    return pa.schema([(name, TYPES[name]) for name in columns])


def _tables(folder: Path, parts: Sequence[int], columns: Sequence[str]) -> list[pa.Table]:
    schema = _schema(columns)

    def one(part: int) -> pa.Table:
        table = read_table(part_path(folder, part), columns).replace_schema_metadata(None)
        if table.schema.equals(schema):
            return table  # all of them but the oldest
        for name in set(columns) - set(table.column_names):
            table = table.append_column(name, pa.nulls(table.num_rows, TYPES[name]))
        return table.select(list(columns)).cast(schema)

    with ThreadPoolExecutor(THREADS) as pool:
        return list(pool.map(one, parts))
