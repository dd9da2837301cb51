"""Publish: packed shards -> a dataset version with its funnel and data card."""

# pyarrow.compute makes its functions when it is imported: a type checker cannot see them.
# pyright: reportAttributeAccessIssue=false

import logging
from dataclasses import replace
from pathlib import Path

from schemas.errors import InternalError, OperationalError
from schemas.receipt import Settings, write_receipt
from schemas.shard import (
    EMPTIED,
    Version,
    latest_digest,
    make_version,
    read_facts,
    read_version,
    receipt_path,
    write_version,
)
from tasks.features import member_suffixes
from tasks.funnel import main_loss
from tasks.shard_files import packed
from tasks.validate import judge
from tasks.versions.card import write_card
from tasks.versions.duplicates import write_duplicates
from tasks.versions.receipts import make_receipt
from tasks.versions.records import measured_facts

log = logging.getLogger(__name__)


class NotPublished(OperationalError):  # noqa: N818  (a verdict, not a fault)
    """The existing shards have no sample, or fewer than the last version for no reason that the user gave."""


def publish(
    root: Path, settings: Settings, *, with_media: bool = False, accepts_rules: bool = False
) -> Version:
    """Checks the shards, writes the version, its duplicates, receipt and card; `latest` then points at it.

    Raises GateError if a shard lacks anything, InternalError if a segment is lost or counted twice, NotPublished if the
    version would be empty, or smaller than the last; then the latest version stays. With `accepts_rules` it may be
    smaller if the rules have changed.
    """
    profile = settings.profile
    judge(root, "shards", replace(settings.rules, min_pass_share=1.0, min_rows=1), profile)
    version = make_version(profile, member_suffixes(profile), packed(root))
    facts = measured_facts(root, settings.rules)
    counted = facts["funnel"]["in_shards"]
    samples = version.num_samples
    if samples != counted:
        raise InternalError(f"{samples} samples in shards, but the funnel counts {counted}")
    _require_what_stood(root, version, facts["rules"], accepts_rules=accepts_rules)
    write_duplicates(root, version)  # first: a published version has its exclusion list and its receipt
    write_receipt(receipt_path(root, version.digest), make_receipt(root, version, settings))
    write_version(root, version, facts if samples else {**facts, EMPTIED: True})
    card = write_card(root, version, settings.labels, with_media=with_media)
    log.info(
        "version %s: %d samples in %d shards (%s)", version.digest[:12], samples, len(version.shards), card
    )
    return version


def _require_what_stood(root: Path, version: Version, rules: str, *, accepts_rules: bool) -> None:
    """Raises NotPublished if `version` is empty or smaller than the last, which no longer has what was taken down."""
    last = read_version(root) if latest_digest(root) else None
    before = last.num_samples if last else 0
    now = version.num_samples
    if not now and not (last and not before):
        raise NotPublished(f"no sample, so no version: {main_loss(root) or 'no segment'}")
    if last is None or now >= before:
        return
    fewer = (
        f"{before - now:,} sample(s) fewer than version {last.digest[:12]} ({now:,} instead of {before:,})"
    )
    has_new_rules = read_facts(root, last.digest).get("rules", rules) != rules
    if version.profile != last.profile or (has_new_rules and accepts_rules):
        log.warning("%s: its profile or rules changed", fewer)
        return
    remedy = "fix the cause and build again, or take down what was lost with `mcgurk forget`"
    if has_new_rules:  # no option sets them: they came with other code
        remedy = "the rules of its preset changed with mcgurk; to accept them, build with --preset"
    raise NotPublished(f"{fewer}, so no version: {main_loss(root)}. The last version stays; {remedy}")
