"""Outcomes: what became of an item, `ok` or why not; and the errors that decide it.

ItemError   this item is lost, waiting or rejected: it becomes a row, and its part continues
Transient   the world is broken, not the item: retried in place, then a row to try again later
(others)    a bug or a broken machine: stops the stage, except for a bug that the bytes of one item trigger, which
            quarantines that item as `bug`
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import Any, TypedDict

BUG = "bug"  # the reason of a row whose bytes made our own code fail: tried again by the next VERSION
TRACE = (
    "trace: "  # prefix of the detail of a row whose host answered what our code, or yt-dlp's, did not expect
)


class Outcome(StrEnum):
    """The five fates of a segment; `reason` beside it names the class or the expectation."""

    OK = "ok"
    WAITING = "waiting"  # failed, and will be tried again: not confirmed yet, or not its own fault
    UNAVAILABLE = "unavailable"  # the source has lost it, or never had all of it
    QUARANTINED = "quarantined"  # an expectation rejects it; comes back when the rule changes
    FORGOTTEN = "forgotten"  # taken down on request


class ItemError(Exception):
    """This item ends as a row with `outcome`, `reason` (a class or an expectation) and `detail`.

    `status` is the HTTP status that a host answered with, if any.
    """

    def __init__(self, outcome: Outcome, reason: str, detail: str = "", status: int | None = None) -> None:
        super().__init__(outcome, reason, detail, status)
        self.outcome = outcome
        self.reason = reason
        self.detail = detail
        self.status = status

    def __str__(self) -> str:
        return f"{self.outcome.value} ({self.reason}): {self.detail}"


class Transient(Exception):  # noqa: N818  (the design's word)
    """Passing trouble with the world around an item; `reason` is its class, such as `network`.

    `after_s` is how long the host asks not to be contacted, if it does.
    """

    def __init__(
        self, reason: str, detail: str = "", status: int | None = None, after_s: float = 0.0
    ) -> None:
        super().__init__(reason, detail, status, after_s)
        self.reason = reason
        self.detail = detail
        self.status = status
        self.after_s = after_s

    def __str__(self) -> str:
        return f"{self.reason}: {self.detail}"


class Funnel(TypedDict):
    """How many segments there are, and what became of them; losses are counted by reason."""

    segments: int
    in_shards: int
    quarantined: dict[str, int]
    unavailable: dict[str, int]
    waiting: dict[str, int]
    forgotten: int


def funnel(rows: Iterable[Mapping[str, Any]]) -> Funnel:
    """The law that every run obeys: segments = in shards + the four kinds of loss, each by its reason.

    Takes rows with `outcome` and `reason`: the latest of any stage for a segment, or for as many segments as the
    field `segments` says.
    """
    counts: Counter[tuple[str, str]] = Counter()
    for row in rows:
        counts[row["outcome"], row["reason"]] += row.get("segments", 1)

    def by_reason(outcome: Outcome) -> dict[str, int]:
        return {reason: n for (kind, reason), n in sorted(counts.items()) if kind == outcome}

    return {
        "segments": sum(counts.values()),
        "in_shards": sum(by_reason(Outcome.OK).values()),
        "quarantined": by_reason(Outcome.QUARANTINED),
        "unavailable": by_reason(Outcome.UNAVAILABLE),
        "waiting": by_reason(Outcome.WAITING),
        "forgotten": sum(by_reason(Outcome.FORGOTTEN).values()),
    }
