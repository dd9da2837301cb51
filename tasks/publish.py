"""Publish: the shards that stand -> a dataset version with its funnel and its data card."""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from schemas.feature import Profile
from schemas.manifest import Row, part_numbers, part_path, read_part
from schemas.outcome import Outcome, funnel
from schemas.rules import Rules
from schemas.shard import Version, make_version, write_version
from tasks.card import Labels, write_card
from tasks.duplicates import write_duplicates
from tasks.pack import packed
from tasks.validate import judge

log = logging.getLogger(__name__)

# From the last manifest to the first: the furthest one that has a part says what became of its rows.
MANIFESTS = (
    "shards", "features/checked", "features", "clips/checked", "clips", "segments/checked", "segments",
)  # fmt: skip
VERDICT = ("key", "outcome", "reason")


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


def measure_funnel(root: Path) -> dict:
    """What became of every segment of the index. Raises RuntimeError if one is lost or counted twice."""
    rows = list(fates(root))
    counts = funnel(rows)
    indexed = sum(len(read_part(part_path(root / "segments", n), ("key",))) for n in _indexed(root))
    if counts["segments"] != indexed or len({row["key"] for row in rows}) != indexed:
        raise RuntimeError(f"the index has {indexed} segments, the manifests {counts['segments']}")
    return counts


def fates(root: Path) -> Iterator[Row]:
    """key, outcome and reason of every segment; what has not reached a shard yet waits as `pending`."""
    for part in _indexed(root):
        paths = ((name, part_path(root / name, part)) for name in MANIFESTS)
        name, path = next((name, path) for name, path in paths if path.is_file())
        for row in read_part(path, VERDICT):
            is_pending = row["outcome"] == Outcome.OK and name != "shards"
            yield {**row, "outcome": Outcome.WAITING.value, "reason": "pending"} if is_pending else row


def _indexed(root: Path) -> Sequence[int]:
    return part_numbers(root / "segments")
