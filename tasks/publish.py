"""Publish: the shards that stand -> a dataset version with its funnel and its data card."""

# pyarrow.compute makes its functions when it is imported: a type checker cannot see them.
# pyright: reportAttributeAccessIssue=false

import logging
from dataclasses import replace
from pathlib import Path

from schemas.feature import Profile
from schemas.rules import Rules
from schemas.shard import Version, make_version, write_version
from tasks.card import Labels, write_card
from tasks.duplicates import write_duplicates
from tasks.funnel import measure_funnel
from tasks.pack import packed
from tasks.validate import judge

log = logging.getLogger(__name__)


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
