"""Publish: the shards that stand -> a dataset version with its funnel and its data card."""

# pyarrow.compute makes its functions when it is imported: a type checker cannot see them.
# pyright: reportAttributeAccessIssue=false

import logging
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from schemas.feature import Profile
from schemas.manifest import Row, part_numbers
from schemas.outcome import Outcome, funnel
from schemas.rules import Rules
from schemas.shard import Version, make_version, write_version
from tasks.card import Labels, write_card
from tasks.duplicates import write_duplicates
from tasks.pack import packed
from tasks.tables import Reader, read_columns
from tasks.validate import judge

log = logging.getLogger(__name__)

# From the last manifest to the first: the furthest one that has a part says what became of its rows.
MANIFESTS = (
    "shards", "features/checked", "features", "clips/checked", "clips", "segments/checked", "segments",
)  # fmt: skip
VERDICT = ("key", "outcome", "reason")
VERDICTS = pa.schema([(name, pa.string()) for name in VERDICT])


def publish(
    root: Path, profile: Profile, rules: Rules, labels: Labels, *, with_media: bool = False
) -> Version:
    """Checks the shards, writes the version that they make, its duplicates and card; `latest` points at it.

    Raises GateError if a shard lacks anything, RuntimeError if a segment is lost or counted twice.
    """
    judge(root, "shards", replace(rules, min_pass_share=1.0, min_rows=1), profile)
    version, counts = make_version(profile, packed(root)), measure_funnel(root)
    samples = sum(shard.num_samples for shard in version.shards)
    if samples != counts["in_shards"]:
        raise RuntimeError(f"{samples} samples in shards, but the funnel counts {counts['in_shards']}")
    write_duplicates(root, version)  # first: who finds the version finds its exclusion list
    write_version(root, version, {"funnel": counts})
    card = write_card(root, version, labels, with_media=with_media)
    log.info(
        "version %s: %d samples in %d shards (%s)", version.digest[:12], samples, len(version.shards), card
    )
    return version


def measure_funnel(root: Path, read: Reader = read_columns) -> dict:
    """What became of every segment of the index. Raises RuntimeError if one is lost or counted twice."""
    table = pa.concat_tables([VERDICTS.empty_table(), *_verdicts(root, read)])
    count = read(root / "segments", _indexed(root), ("row",)).num_rows
    if table.num_rows != count or pc.count_distinct(table["key"]).as_py() != count:
        raise RuntimeError(f"the index has {count} segments, the manifests {table.num_rows}")
    counted = table.group_by(["outcome", "reason"]).aggregate([("key", "count")])
    return funnel(counted.rename_columns({"key_count": "segments"}).to_pylist())


def fates(root: Path) -> Iterator[Row]:
    """key, outcome and reason of every segment; what has not reached a shard yet waits as `pending`."""
    for table in _verdicts(root):
        yield from table.to_pylist()


def _verdicts(root: Path, read: Reader = read_columns) -> Iterator[pa.Table]:
    """The same as tables: a manifest's parts together, the furthest first."""
    left = set(_indexed(root))
    for name in MANIFESTS:
        parts = sorted(left & set(part_numbers(root / name)))
        left -= set(parts)
        table = read(root / name, parts, VERDICT)
        if name != "shards":
            is_pending = pc.equal(table["outcome"], Outcome.OK.value)
            outcome = pc.if_else(is_pending, Outcome.WAITING.value, table["outcome"])
            reason = pc.if_else(is_pending, "pending", table["reason"])
            table = pa.table({"key": table["key"], "outcome": outcome, "reason": reason})
        yield table


def _indexed(root: Path) -> Sequence[int]:
    return part_numbers(root / "segments")
