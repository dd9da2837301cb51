"""Every segment that is in no shard: why, by what evidence, and what its owner can do about it."""

# pyarrow.compute makes its functions when it is imported: a type checker cannot see them.
# pyright: reportAttributeAccessIssue=false

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from schemas.layout import CLIPS
from schemas.manifest import REFETCH, part_numbers
from schemas.outcome import BUG, Outcome
from tasks.columns import read_columns
from tasks.funnel import PENDING, VERDICT, verdicts
from tasks.transport.failure_classes import CLASSES, DAMAGED, HATCHES, SURE, Fault

COLUMNS = (*VERDICT, "detail")
QUEUED = "queued"  # not yet tried
REPLACE = "replace the file by another one, which the next build sees, or take it off the list"
APPEAL = "build --retry {reason} tries it again now"
# What to do, by the reason of a row.
REMEDIES = {
    PENDING: "run the build again: it was not finished",
    QUEUED: "run the build again: it was not tried yet",
    REFETCH: "build --refetch downloads its media again",
    BUG: "report it with its evidence: our own code failed; the next release tries it again",
    DAMAGED: f"the file is damaged: {REPLACE}",
    "has_video": f"the file has no moving picture: {REPLACE}",
    "has_audio": f"the file has no sound track: {REPLACE}",
    "too_short": "the file ends before the segment does: take a shorter segment of it",
    "segment_length": "choose a segment of the length that the preset takes",
    "covers_segment": "picture or sound ends before the segment does: take another segment of the file",
    "true_duration": f"the file is not as long as it says: {REPLACE}",
    "unique_key": "two rows of the lists name the same segment: report it, because the index should have seen it",
    "all_members": "report it: a sample without all of its members should never be packed",
}
OF_QUARANTINE = "a rule of the preset rejects it: reports/validation/index.html shows the rule and the value"
OF_FAULT = {
    Fault.VIDEO: "the source has lost it, or never had it",
    Fault.LANE: "wait: the lane slows down and tries again",
    Fault.TOOL: "update yt-dlp (mcgurk doctor): then it is tried again",
    Fault.WORLD: "wait: it is tried again when it is due (mcgurk status says when)",
    Fault.MACHINE: "make room on the disk, and run the build again",
}

# What is said of one segment, by the reason of its row.
PHRASES = {
    REFETCH: "waits to be downloaded again",
    BUG: "failed by a mistake in mcgurk",
    "decodable": "is damaged",
    "has_video": "has no moving picture",
    "has_audio": "has no sound",
    "not_silent": "is silent",
    "not_black": "is black",
    "not_frozen": "has a still picture",
    "not_clipped": "is overdriven",
    "not_empty": "is empty",
    "empty": "is empty",
    "too_short": "is too short",
    "too_large": "is too large",
    "segment_length": "is longer or shorter than a segment may be",
    "covers_segment": "ends too early",
    "private": "is private",
    "removed": "is gone from the source",
    "terminated": "is gone with its account",
    "copyright": "is blocked for copyright",
    "members_only": "is for members only",
    "age_gated": "has an age limit",
    "geo_blocked": "is blocked in this country",
    "network": "is out of reach",
}
OF_FAULT_SAID = {
    Fault.VIDEO: "is no use",
    Fault.LANE: "is refused by the source for now",
    Fault.TOOL: "is more than yt-dlp can read now",
    Fault.WORLD: "failed for now",
    Fault.MACHINE: "has no room on the disk",
}
PLURALS = {"is": "are", "has": "have", "waits": "wait", "ends": "end"}  # of the verbs above


@dataclass(frozen=True)
class Failure:
    """A segment that is in no shard, as the furthest manifest that has it says."""

    key: str
    video_id: str
    file: str  # under the root; empty for one that was never acquired, or not kept
    outcome: str
    reason: str
    evidence: str
    remedy: str


def failures(root: Path) -> Iterator[Failure]:
    """The segments that are in no shard, in the order of the funnel; those that were taken down are not named."""
    files = _files(root)
    for table in verdicts(root, read_columns, COLUMNS):
        kept = (Outcome.OK.value, Outcome.FORGOTTEN.value)
        lost = table.filter(pc.invert(pc.is_in(table["outcome"], value_set=pa.array(kept))))
        for row in lost.to_pylist():
            yield _failure(row, files)


def _files(root: Path) -> Mapping[str, str]:
    """Key -> path of the clip, for those that have one."""
    table = read_columns(root / CLIPS, part_numbers(root / CLIPS), ("key", "path"))
    held = table.filter(pc.greater(pc.utf8_length(pc.fill_null(table["path"], "")), 0))
    return dict(zip(held["key"].to_pylist(), held["path"].to_pylist(), strict=True))


def _failure(row: Mapping[str, str | None], files: Mapping[str, str]) -> Failure:
    key = row["key"] or ""
    reason = row["reason"] or ""
    video_id = key.rsplit("_", 2)[0]
    evidence = row["detail"] or ""
    return Failure(
        key, video_id, files.get(key, ""), row["outcome"] or "", reason, evidence, remedy_for(reason)
    )


def remedy_for(reason: str) -> str:
    """What to do about a class of failure, or about an expectation that rejects."""
    if reason in (PENDING, QUEUED, REFETCH):
        return REMEDIES[reason]
    return f"{_remedy_of(reason)}; {APPEAL.format(reason=reason)}"


def _remedy_of(reason: str) -> str:
    if reason in REMEDIES:
        return REMEDIES[reason]
    if reason not in CLASSES:
        return OF_QUARANTINE
    settings = f"; in lanes.json, {', '.join(HATCHES[reason])} may help" if reason in HATCHES else ""
    return f"{OF_FAULT[CLASSES[reason].fault]}{settings}"


def said_of(reason: str, outcome: str, *, is_one: bool) -> str:
    """What is said of one or several segments that are in no shard: `has no sound`, `are private`."""
    said = PHRASES.get(reason) or _said_by_kind(reason)
    verb, _, rest = said.partition(" ")
    said = said if is_one else f"{PLURALS.get(verb, verb)} {rest}"
    is_of_video = CLASSES.get(reason, SURE if reason == DAMAGED else CLASSES["unknown"]).fault == Fault.VIDEO
    return f"{said} (to be confirmed)" if outcome == Outcome.WAITING and is_of_video else said


def _said_by_kind(reason: str) -> str:
    said = OF_FAULT_SAID[CLASSES[reason].fault] if reason in CLASSES else "is rejected"
    return f"{said} ({reason})"
