"""What differs between two versions, segment by segment, and why: from their receipts, without any media."""

# pyarrow.compute makes its functions when it is imported: a type checker cannot see them.
# pyright: reportAttributeAccessIssue=false

import re
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from schemas.outcome import Outcome
from schemas.receipt import Receipt, marked_among
from tasks.transport.failure_classes import CLASSES, Fault

Slot = Mapping[str, Any]  # a row of a receipt
# The causes, in the order in which they are reported, and what each means.
CAUSES = {
    "taken_down": "taken down",
    "gone": "gone at the source",
    "waiting": "not here yet",
    "re_encoded": "re-encoded at the source: its packets differ",
    "other_media": "fetched again: the clip is another file, and a version has no receipt",
    "repackaged": "in another container at the source: its packets are the same",
    "another_tool": "made by another tool from the same packets",
    "another_profile": "made in another profile from the same packets",
    "another_rule": "judged by another rule",
    "rejected": "judged by the same rules, and rejected now",
    "relabelled": "other labels",
    "returned": "here now, and missing before",
    "gone_otherwise": "missing in both, for another reason",
    "unexplained": "made from the same packets by the same tools, but with other bytes: report it",
    "unknown": "other bytes, and the evidence for why is gone",
    "added": "only in the second",
    "left_out": "only in the first",
}
SEPARATORS = re.compile(
    r"[;,()]"
)  # of what made a sample: `extract 4 (audio 1, frames 2); av 17.0, numpy 2.4`
PAIRED = ("outcome", "reason", "labels", "packets", "features", "sample", "made_by")


@dataclass(frozen=True)
class Difference:
    """A segment that differs between two receipts: why, on what evidence, and where it was before."""

    key: str
    cause: str  # of CAUSES
    detail: str
    part: int


@dataclass(frozen=True)
class Differences:
    """All differences between two versions."""

    before: str  # digests
    after: str
    num_same: int  # samples with the same bytes in both
    num_hidden: int  # slots of the first whose videos had been taken down already
    num_same_shards: int
    num_shards: int  # of the first
    settings: list[str]  # which settings differ
    segments: list[Difference] = field(default_factory=list)
    excluded: list[str] = field(default_factory=list)  # keys that are only on the second's exclusion list
    included: list[str] = field(default_factory=list)  # keys that are only on the first's
    untold: list[str] = field(default_factory=list)  # what can't be determined, because files are gone

    @property
    def counts(self) -> dict[str, int]:
        """How many segments differ by each cause, in the order of CAUSES."""
        counts = Counter(one.cause for one in self.segments)
        return {cause: counts[cause] for cause in CAUSES if counts[cause]}


def differences(before: Receipt, after: Receipt) -> Differences:
    """What differs from `before` to `after`."""
    old = before.table.append_column("key", before.keys)
    new = after.table.append_column("key", after.keys)
    is_hidden = pc.is_null(old["key"])
    at = pc.index_in(old["key"], value_set=new["key"].combine_chunks())
    at = pc.if_else(is_hidden, pa.scalar(None, pa.int32()), at)
    paired = pc.is_valid(at)
    first = old.filter(paired)
    second = new.take(at.filter(paired))
    same = _is_same(first, second)
    found = list(_explained(first.filter(pc.invert(same)), second.filter(pc.invert(same)), before, after))
    found += _of_one(old.filter(pc.and_(pc.invert(paired), pc.invert(is_hidden))), after, "left_out")
    is_new = pc.invert(pc.is_in(new["key"], value_set=old["key"].combine_chunks()))
    found += _of_one(new.filter(pc.and_(is_new, pc.is_valid(new["key"]))), before, "added")
    shards = [one.sha256 for one in before.version.shards]
    return Differences(
        before.version.digest,
        after.version.digest,
        pc.sum(pc.and_(same, pc.is_valid(first["sample"]))).as_py() or 0,
        is_hidden.to_pylist().count(True),
        len(set(shards) & {one.sha256 for one in after.version.shards}),
        len(shards),
        _settings(before, after),
        sorted(found, key=lambda one: (list(CAUSES).index(one.cause), one.part, one.key)),
        _only(second, first),
        _only(first, second),
    )


def _is_same(first: pa.Table, second: pa.Table) -> pa.Array:
    """Whether each pair has the same fate, labels and bytes. What is missing in both may still differ."""
    fates = [_equal(first[name], second[name]) for name in ("outcome", "reason", "sample")]
    labels = _equal(_text(first["labels"]), _text(second["labels"]))
    return pc.and_(pc.and_(fates[0], fates[1]), pc.and_(fates[2], labels))


def _text(labels: pa.ChunkedArray) -> pa.ChunkedArray:
    return pc.binary_join(labels, "\n")


def _equal(first: pa.ChunkedArray, second: pa.ChunkedArray) -> pa.Array:
    both_null = pc.and_(pc.is_null(first), pc.is_null(second))
    return pc.or_(pc.fill_null(pc.equal(first, second), False), both_null).combine_chunks()


def _only(one: pa.Table, other: pa.Table) -> list[str]:
    """The keys that are on the exclusion list of `one` but not of `other`; their rows are the same segments."""
    return one.filter(pc.and_not(one["is_excluded"], other["is_excluded"]))["key"].to_pylist()


def _settings(before: Receipt, after: Receipt) -> list[str]:
    old = before.settings
    new = after.settings
    changed = {
        "profile": old.profile != new.profile,
        "rules": old.rules != new.rules,
        "names of labels": bool(_renamed(before, after)),
    }
    return [name for name, is_other in changed.items() if is_other]


def _renamed(before: Receipt, after: Receipt) -> set[str]:
    """The labels that occur in segments of both, with different names or numbers."""
    old, new = (set(pc.unique(pc.list_flatten(one.table["labels"])).to_pylist()) for one in (before, after))
    return {one for one in old & new if before.settings.labels.get(one) != after.settings.labels.get(one)}


def _explained(first: pa.Table, second: pa.Table, before: Receipt, after: Receipt) -> Iterator[Difference]:
    columns = ["key", "part", *PAIRED]
    pairs = zip(first.select(columns).to_pylist(), second.select(columns).to_pylist(), strict=True)
    settings = _settings(before, after)
    renamed = _renamed(before, after)
    for old, new in pairs:
        cause, detail = _why(old, new, settings, renamed)
        yield Difference(old["key"], cause, detail, old["part"])


def _why(old: Slot, new: Slot, settings: list[str], renamed: Collection[str]) -> tuple[str, str]:
    """The cause of a difference, and the evidence."""
    was_there = old["outcome"] == Outcome.OK
    is_there = new["outcome"] == Outcome.OK
    fates = f"{_fate(old)} -> {_fate(new)}"
    if not was_there:
        if _fate(old) == _fate(new):
            return "relabelled", _labels(old, new)
        return "returned" if is_there else "gone_otherwise", fates
    if new["outcome"] == Outcome.UNAVAILABLE:
        return "gone", new["reason"]
    if new["outcome"] == Outcome.WAITING:
        known = CLASSES.get(new["reason"])
        is_of_video = known is not None and known.fault == Fault.VIDEO
        return ("gone", f"{new['reason']}, to be confirmed") if is_of_video else ("waiting", new["reason"])
    media = _media(old, new)
    if not is_there:
        return media or _rejected(old, new, settings), fates
    if media:
        return media, ""
    return _made(old, new, settings, renamed)


def _rejected(old: Slot, new: Slot, settings: list[str]) -> str:
    """Why the same packets are rejected now; for a clip rejected before extraction, its maker is not known."""
    if "rules" in settings:
        return "another_rule"
    if "profile" in settings:
        return "another_profile"
    return "another_tool" if new["made_by"] and _tools(old["made_by"], new["made_by"]) else "rejected"


def _media(old: Slot, new: Slot) -> str:
    """Why the media differ; empty if the packets are the same."""
    if old["packets"] is None or new["packets"] is None:
        return "unknown"
    return "" if old["packets"] == new["packets"] else "re_encoded"


def _made(old: Slot, new: Slot, settings: list[str], renamed: Collection[str]) -> tuple[str, str]:
    """Why samples of the same packets differ."""
    features = _digests(old), _digests(new)
    changed = sorted(name for name in features[0].keys() | features[1].keys() if _differs(name, *features))
    tools = _tools(old["made_by"], new["made_by"])
    if changed and "profile" in settings:
        return "another_profile", ", ".join(changed)
    if changed:
        return (
            ("another_tool", f"{', '.join(changed)}: {tools}")
            if tools
            else ("unexplained", ", ".join(changed))
        )
    if old["labels"] != new["labels"]:
        return "relabelled", _labels(old, new)
    if not set(renamed).isdisjoint(new["labels"]):
        return "relabelled", "their names"
    if "profile" in settings:
        return "another_profile", "its JSON"
    return ("another_tool", f"its JSON: {tools}") if tools else ("repackaged", "")


def _labels(old: Slot, new: Slot) -> str:
    return f"{', '.join(old['labels'])} -> {', '.join(new['labels'])}"


def _differs(name: str, old: Mapping[str, bytes], new: Mapping[str, bytes]) -> bool:
    return old.get(name) != new.get(name)


def _digests(slot: Slot) -> dict[str, bytes]:
    return {one["name"]: one["digest"] for one in slot["features"] or ()}


def _tools(old: str | None, new: str | None) -> str:
    """What differs between two lists of code and tools; empty if nothing does."""
    before = [one.strip() for one in SEPARATORS.split(old or "")]
    after = [one.strip() for one in SEPARATORS.split(new or "")]
    gone = [one for one in before if one not in after]
    come = [one for one in after if one not in before]
    return f"{', '.join(gone) or 'none'} -> {', '.join(come) or 'none'}" if gone or come else ""


def _fate(slot: Slot) -> str:
    return f"{slot['outcome']} ({slot['reason']})" if slot["reason"] else slot["outcome"]


def _of_one(table: pa.Table, other: Receipt, cause: str) -> Iterator[Difference]:
    """Segments that the other receipt does not name: it may hide them."""
    hidden = marked_among(other.marks, table["video_id"].to_pylist()) if other.marks else set()
    for row in table.select(["key", "part", "video_id"]).to_pylist():
        yield Difference(row["key"], "taken_down" if row["video_id"] in hidden else cause, "", row["part"])
