"""The state of a root in a few sentences: what is usable, what is missing and why, and what happens next.

Losses are named if they are few, by the file's own name if the root knows it, and counted if they are many.
"""

# pyarrow.compute makes its functions when it is imported: a type checker cannot see them.
# pyright: reportAttributeAccessIssue=false

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from schemas.layout import MANIFESTS, SEGMENTS
from schemas.manifest import part_numbers, part_path, read_part
from tasks.columns import Reader
from tasks.failures import QUEUED, said_of
from tasks.files.folders import recorded
from tasks.funnel import FATE, PENDING

Kind = tuple[str, str]  # outcome and reason
FATES = ("quarantined", "unavailable", "waiting")
UNFINISHED = (PENDING, QUEUED)  # not losses: the build will get to them
MOST_KINDS = 3
MOST_NAMED = 3  # files or videos of one kind
MOST_READ = 100  # segments of one kind whose keys are looked up to find how many files they come from


@dataclass(frozen=True)
class Loss:
    """Segments that are in no shard for one reason; `names` are those of their files or videos, if these are few."""

    outcome: str
    reason: str
    count: int
    names: tuple[str, ...] = ()

    def __str__(self) -> str:
        said = said_of(self.reason, self.outcome, is_one=(len(self.names) or self.count) == 1)
        if not self.names:
            return f"{self.count:,} {said}"
        segments = f" ({self.count:,} segments)" if self.count > len(self.names) else ""
        return f"{_listed(self.names)} {said}{segments}"


def story(status: Mapping[str, Any], lost: Sequence[Loss], command: str) -> list[str]:
    """What is usable, which files have no segment, what `command` does next and when, and which lane is closed."""
    sentences = [_standing(status, lost)]
    if files := status["left_out"]:
        named = _listed(files) if len(files) <= MOST_NAMED else f"{len(files):,} files"
        were = "was" if len(files) == 1 else "were"
        sentences.append(f"{named} {were} left out: no segment could be cut (mcgurk failures).")
    sentences.append(_next(status, command))
    closed = [(name, lane) for name, lane in status["lanes"].items() if lane["closed_until"]]
    if closed:
        name, lane = closed[0]
        others = f" and {len(closed) - 1} more" if closed[1:] else ""
        sentences.append(f"Lane {name}{others} is closed until {when(lane['closed_until'])}: {lane['why']}.")
    return sentences


def _standing(status: Mapping[str, Any], lost: Sequence[Loss]) -> str:
    parts = [f"{status['in_shards']:,} of {status['segments']:,} usable"]
    parts += [str(one) for one in lost[:MOST_KINDS]]
    if others := lost[MOST_KINDS:]:
        why = "another reason" if len(others) == 1 else f"{len(others)} other reasons"
        parts.append(f"{sum(one.count for one in others):,} more are missing for {why}")
    if forgotten := status["forgotten"]:
        parts.append(f"{forgotten:,} {'was' if forgotten == 1 else 'were'} taken down")
    first, *rest = parts
    return f"{first}{'; ' if rest else ''}{', '.join(rest)}."


def _next(status: Mapping[str, Any], command: str) -> str:
    unfinished = sum(status["waiting"].get(reason, 0) for reason in UNFINISHED)
    due = status["due"]["now"]
    if unfinished or due:
        count = max(unfinished, due)
        ends = status["backlog_ends_at"]
        pace = f", which at the pace of the last day takes until {ends[:10]}" if ends else ""
        return f"{count:,} {'waits' if count == 1 else 'wait'} for the next build{pace}: {command}"
    if status["next_attempt_at"]:
        return f"Next: what is missing is tried again from {when(status['next_attempt_at'])} on: {command}"
    return "Nothing is due."


def when(moment: str) -> str:
    """A moment in UTC in readable form: `2026-12-01 08:30 UTC`."""
    return f"{datetime.fromisoformat(moment):%Y-%m-%d %H:%M} UTC"


def losses(root: Path, state: Path | None, status: Mapping[str, Any], read: Reader) -> list[Loss]:
    """What is in no shard, by reason, the most frequent first. Opens only parts that hold what is named."""
    kinds = {(fate, reason): n for fate in FATES for reason, n in status[fate].items()}
    kinds = {kind: n for kind, n in kinds.items() if kind[1] not in UNFINISHED}
    few = {kind for kind, count in kinds.items() if count <= MOST_READ}
    files = recorded(state) if state and few else {}
    names: dict[Kind, list[str]] = {}
    for kind, key in _keys(root, few, read) if few else ():
        video_id = key.rsplit("_", 2)[0]
        names.setdefault(kind, []).append(files.get(video_id, video_id))
    found = [Loss(*kind, count, _few(names.get(kind, ()))) for kind, count in kinds.items()]
    return sorted(found, key=lambda one: -one.count)


def _few(names: Sequence[str]) -> tuple[str, ...]:
    distinct = tuple(dict.fromkeys(names))
    return distinct if len(distinct) <= MOST_NAMED else ()


def _keys(root: Path, kinds: set[Kind], read: Reader) -> Iterator[tuple[Kind, str]]:
    """Kind and key of the segments of these kinds, from the furthest manifest that has their part."""
    left = set(part_numbers(root / SEGMENTS))
    for name in MANIFESTS:
        folder = root / name
        parts = sorted(left & set(part_numbers(folder)))
        left -= set(parts)
        for part in _holding(folder, parts, kinds, read):
            for row in read_part(part_path(folder, part), ("key", *FATE)):
                if (row["outcome"], row["reason"]) in kinds:
                    yield (row["outcome"], row["reason"]), row["key"]


def _holding(folder: Path, parts: Sequence[int], kinds: set[Kind], read: Reader) -> Iterator[int]:
    """The parts that hold segments of these kinds, found by bisection: the reasons are in memory, the keys are not."""
    table = read(folder, parts, FATE)
    if not any(_has(table, kind) for kind in kinds):
        return
    if len(parts) == 1:
        yield parts[0]
        return
    middle = len(parts) // 2
    yield from _holding(folder, parts[:middle], kinds, read)
    yield from _holding(folder, parts[middle:], kinds, read)


def _has(table: pa.Table, kind: Kind) -> bool:
    outcome, reason = kind
    is_of_kind = pc.and_(pc.equal(table["outcome"], outcome), pc.equal(table["reason"], reason))
    return bool(pc.any(is_of_kind).as_py())


def _listed(names: Sequence[str]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    *before, last = names or [""]
    return f"{', '.join(before)} and {last}" if before else last
