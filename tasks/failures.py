"""Every segment that is in no shard: why, on what evidence, and what its owner can do about it."""

# pyarrow.compute makes its functions when it is imported: a type checker cannot see them.
# pyright: reportAttributeAccessIssue=false

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from schemas.layout import CLIPS, SEGMENTS
from schemas.manifest import REFETCH, part_numbers
from schemas.outcome import BUG, Outcome
from tasks.columns import read_columns
from tasks.files.folders import recorded, uncut
from tasks.funnel import PENDING, VERDICT, verdicts
from tasks.transport.failure_classes import CLASSES, DAMAGED, HATCHES, SURE, Fault

COLUMNS = (*VERDICT, "detail")
QUEUED = "queued"  # not yet tried
LEFT_OUT = "left_out"  # a file of a person's own folder that has no segment
UNCUT = "uncut"  # its reason
REPLACE = "replace the file, which the next build notices, or take it off the list"
APPEAL = "build --retry {reason} tries it again now"
# What to do, by the reason of a row.
REMEDIES = {
    PENDING: "run the build again: it was not finished",
    QUEUED: "run the build again: it was not tried yet",
    REFETCH: "build --refetch downloads its media again",
    UNCUT: "its header can't be read, or it is shorter than a segment may be: repair or replace the file, which the "
    "next build notices",
    BUG: "report it with its evidence: our own code failed; the next release tries it again",
    DAMAGED: f"the file is damaged: {REPLACE}",
    "has_video": f"the file has no moving picture: {REPLACE}",
    "has_audio": f"the file has no sound track: {REPLACE}",
    "too_short": "the file ends before the segment does: take a shorter segment of it",
    "segment_length": "choose a segment of a length that the preset accepts",
    "covers_segment": "picture or sound ends before the segment does: take another segment of the file",
    "true_duration": f"the file is not as long as it says: {REPLACE}",
    "unique_key": "two rows of the lists name the same segment: report it, because the index should have noticed it",
    "all_members": "report it: a sample without all of its members should never be packed",
}
NOTHING_CUT = "no window could be cut from it when the folder was last scanned"
OF_QUARANTINE = "a rule of the preset rejects it: reports/validation/index.html shows the rule and the value"
OF_FAULT = {
    Fault.VIDEO: "the source has lost it, or never had it",
    Fault.LANE: "wait: the lane slows down and tries again",
    Fault.TOOL: "update yt-dlp (mcgurk doctor): then it is tried again",
    Fault.WORLD: "wait: it is tried again when it is due (mcgurk status says when)",
    Fault.MACHINE: "make room on the disk, and run the build again",
}

# What is said about one segment, by the reason of its row.
PHRASES = {
    REFETCH: "waits to be downloaded again",
    BUG: "failed because of a bug in mcgurk",
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
    Fault.TOOL: "is not readable by yt-dlp for now",
    Fault.WORLD: "failed for now",
    Fault.MACHINE: "has no room on the disk",
}
PLURALS = {"is": "are", "has": "have", "waits": "wait", "ends": "end"}  # of the verbs above


@dataclass(frozen=True)
class Failure:
    """A segment that is in no shard, according to the furthest manifest that has it; or a file without any segment."""

    key: str
    video_id: str
    file: str  # under the root; empty if it was never acquired, or not kept
    original: str  # the name of the file in its owner's folder; empty if there is none
    outcome: str
    reason: str
    evidence: str
    remedy: str


def failures(root: Path, state: Path | None) -> Iterator[Failure]:
    """The segments that are in no shard, in the order of the funnel; those that were taken down are not named.

    Then the files of a person's own folder that were left out: they have no segment.
    """
    files = _files(root)
    originals = recorded(state) if state else {}
    for table in verdicts(root, read_columns, COLUMNS):
        kept = (Outcome.OK.value, Outcome.FORGOTTEN.value)
        lost = table.filter(pc.invert(pc.is_in(table["outcome"], value_set=pa.array(kept))))
        for row in lost.to_pylist():
            yield _failure(row, files, originals)
    for video_id, name in left_out(root, state).items():
        yield Failure("", video_id, "", name, LEFT_OUT, UNCUT, NOTHING_CUT, REMEDIES[UNCUT])


def left_out(root: Path, state: Path | None) -> dict[str, str]:
    """Video id -> file, for the files of a folder cut in windows from which no segment could be cut."""
    found = uncut(state) if state else {}
    if not found:
        return found
    keys = read_columns(root / SEGMENTS, part_numbers(root / SEGMENTS), ("key",))["key"].to_pylist()
    have_some = {key.rsplit("_", 2)[0] for key in keys}
    return {video_id: name for video_id, name in found.items() if video_id not in have_some}


def _files(root: Path) -> Mapping[str, str]:
    """Key -> path of the clip, for those that have one."""
    table = read_columns(root / CLIPS, part_numbers(root / CLIPS), ("key", "path"))
    held = table.filter(pc.greater(pc.utf8_length(pc.fill_null(table["path"], "")), 0))
    return dict(zip(held["key"].to_pylist(), held["path"].to_pylist(), strict=True))


def _failure(
    row: Mapping[str, str | None], files: Mapping[str, str], originals: Mapping[str, str]
) -> Failure:
    key = row["key"] or ""
    reason = row["reason"] or ""
    video_id = key.rsplit("_", 2)[0]
    evidence = row["detail"] or ""
    names = files.get(key, ""), originals.get(video_id, "")
    return Failure(key, video_id, *names, row["outcome"] or "", reason, evidence, remedy_for(reason))


def remedy_for(reason: str) -> str:
    """What to do about a class of failure, or about an expectation that rejects a segment."""
    if reason in (PENDING, QUEUED, REFETCH, UNCUT):
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
    """What is said about one or several segments that are in no shard: `has no sound`, `are private`."""
    said = PHRASES.get(reason) or _said_by_kind(reason)
    verb, _, rest = said.partition(" ")
    said = said if is_one else f"{PLURALS.get(verb, verb)} {rest}"
    is_of_video = CLASSES.get(reason, SURE if reason == DAMAGED else CLASSES["unknown"]).fault == Fault.VIDEO
    return f"{said} (to be confirmed)" if outcome == Outcome.WAITING and is_of_video else said


def _said_by_kind(reason: str) -> str:
    said = OF_FAULT_SAID[CLASSES[reason].fault] if reason in CLASSES else "is rejected"
    return f"{said} ({reason})"
