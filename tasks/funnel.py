"""The funnel: the fate of every segment, according to the furthest manifest that has its part."""

# pyarrow.compute makes its functions when it is imported: a type checker cannot see them.
# pyright: reportAttributeAccessIssue=false

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from schemas import layout
from schemas.errors import InternalError
from schemas.manifest import part_numbers
from schemas.outcome import Funnel, Outcome, funnel
from tasks.columns import Reader, read_columns

FATE = ("outcome", "reason")
VERDICT = ("key", *FATE)
PENDING = "pending"  # made by one stage, but not yet by the next
LOSS = (*FATE, "detail")


def measure_funnel(root: Path) -> Funnel:
    """What became of every segment of the index. Raises InternalError if one is lost or counted twice."""
    table = _whole(root, read_columns, VERDICT)
    if (distinct := pc.count_distinct(table["key"]).as_py()) != table.num_rows:
        raise InternalError(f"the index has {table.num_rows} segments, the manifests {distinct}, some twice")
    return _funnel(table)


def count_fates(root: Path, read: Reader = read_columns) -> Funnel:
    """The same without looking at every key. Raises InternalError if the manifests lack rows."""
    return _funnel(_whole(root, read, FATE))


def _whole(root: Path, read: Reader, columns: Sequence[str]) -> pa.Table:
    empty = pa.schema([(name, pa.string()) for name in columns]).empty_table()
    table = pa.concat_tables([empty, *verdicts(root, read, columns)])
    count = read(root / layout.SEGMENTS, _indexed(root), ("row",)).num_rows
    if table.num_rows != count:
        raise InternalError(f"the index has {count} segments, the manifests {table.num_rows}")
    return table


def _funnel(table: pa.Table) -> Funnel:
    counted = table.group_by(["outcome", "reason"]).aggregate([([], "count_all")])
    return funnel(counted.rename_columns({"count_all": "segments"}).to_pylist())


def main_loss(root: Path) -> str:
    """The most frequent reason why segments are in no shard, with an example; empty if none is lost.

    For example `18 of 18: connection refused by 127.0.0.1:9 (waiting: network)`.
    """
    empty = pa.schema([(name, pa.string()) for name in LOSS]).empty_table()
    table = pa.concat_tables([empty, *verdicts(root, read_columns, LOSS)])
    counted = table.group_by(list(LOSS)).aggregate([([], "count_all")]).to_pylist()
    kinds: Counter[tuple[str, str]] = Counter()
    for one in counted:
        if one["outcome"] != Outcome.OK:
            kinds[one["outcome"], one["reason"]] += one["count_all"]
    if not kinds:
        return ""
    (kind, count), *_ = kinds.most_common(1)
    of_kind = [one for one in counted if (one["outcome"], one["reason"]) == kind]
    example = max(of_kind, key=lambda one: one["count_all"])["detail"] or ""
    named = ": ".join(name for name in kind if name)
    return f"{count:,} of {table.num_rows:,}: " + (f"{example} ({named})" if example else named)


def verdicts(root: Path, read: Reader = read_columns, columns: Sequence[str] = VERDICT) -> Iterator[pa.Table]:
    """These columns of every segment, in one table per manifest, the furthest first.

    Segments that have not reached a shard yet are waiting, with the reason `pending`.
    """
    left = set(_indexed(root))
    for name in layout.MANIFESTS:
        parts = sorted(left & set(part_numbers(root / name)))
        left -= set(parts)
        table = read(root / name, parts, columns)
        if name != layout.SHARDS:
            is_pending = pc.equal(table["outcome"], Outcome.OK.value)
            for column, pending in (("reason", PENDING), ("outcome", Outcome.WAITING.value)):
                at = table.schema.get_field_index(column)
                table = table.set_column(at, column, pc.if_else(is_pending, pending, table[column]))
        yield table


def _indexed(root: Path) -> Sequence[int]:
    return part_numbers(root / layout.SEGMENTS)
