"""Availability: how many segments could be fetched, by class, label and day; at what rate; and what is due when.

It is read from the manifests `segments` and `clips`, whose rows are the fold of the attempts ledger.
"""

# pyarrow.compute makes its functions when it is imported: a type checker cannot see them.
# pyright: reportAttributeAccessIssue=false

from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from schemas import layout
from schemas.manifest import part_numbers
from tasks.columns import Reader, read_columns

COLUMNS = ("outcome", "reason", "tried_at", "next_attempt_at")
HORIZONS_DAYS = {
    "now": 0,
    "within 1 day": 1,
    "within 7 days": 7,
    "within 30 days": 30,
    "within 365 days": 365,
}
RATE_WINDOW = timedelta(days=1)


def availability(root: Path, now: datetime, read: Reader = read_columns) -> dict[str, Any]:
    """What `mcgurk status` reports besides the funnel, as JSON values: times as ISO texts in UTC, rates per hour."""
    parts = part_numbers(root / layout.CLIPS)
    clips = read(root / layout.CLIPS, parts, COLUMNS)
    labels = read(root / layout.SEGMENTS, parts, ("labels",))["labels"]
    unseen = sorted(set(part_numbers(root / layout.SEGMENTS)) - set(parts))
    pace = _pace(clips, read(root / layout.SEGMENTS, unseen, ("row",)).num_rows, now)
    report = {"classes": _classes(clips), "labels": _labels(clips, labels), "due": _due(clips, now), **pace}
    return {**report, "next_attempt_at": pc.min(clips["next_attempt_at"]).as_py()}


def _classes(clips: pa.Table) -> dict[str, dict[str, Any]]:
    """By class (`ok` if the clip was fetched): how many segments, and when the class first and last occurred."""
    named = pc.if_else(pc.equal(clips["outcome"], "ok"), "ok", clips["reason"])
    table = pa.table({"class": named, "tried_at": clips["tried_at"]})
    found = table.group_by("class").aggregate([("class", "count"), ("tried_at", "min"), ("tried_at", "max")])
    return {
        row["class"]: {
            "segments": row["class_count"],
            "first": row["tried_at_min"],
            "last": row["tried_at_max"],
        }
        for row in sorted(found.to_pylist(), key=lambda row: -row["class_count"])
    }


def _labels(clips: pa.Table, labels: pa.ChunkedArray) -> dict[str, dict[str, int]]:
    """By label: how many segments were tried, and how many of them were fetched."""
    lists = labels.combine_chunks()
    parents = pc.list_parent_indices(lists)
    tried = pc.is_valid(clips["tried_at"]).combine_chunks().take(parents)
    had = pc.equal(clips["outcome"], "ok").combine_chunks().take(parents)
    columns = {"label": pc.list_flatten(lists), "tried": tried.cast(pa.int64()), "had": had.cast(pa.int64())}
    found = pa.table(columns).group_by("label").aggregate([("tried", "sum"), ("had", "sum")])
    rows = sorted(found.to_pylist(), key=lambda row: (-row["tried_sum"], row["label"]))
    return {row["label"]: {"tried": row["tried_sum"], "available": row["had_sum"]} for row in rows}


def _due(clips: pa.Table, now: datetime) -> dict[str, int]:
    """How many segments are to be tried again within each horizon; each horizon includes the shorter ones."""
    again = clips["next_attempt_at"]
    return {
        name: pc.sum(pc.less_equal(again, (now + timedelta(days=days)).isoformat())).as_py() or 0
        for name, days in HORIZONS_DAYS.items()
    }


def _pace(clips: pa.Table, num_unseen: int, now: datetime) -> dict[str, Any]:
    """The backlog (never tried, or due), what was tried in the last day, and when the backlog ends at that rate."""
    since = (now - RATE_WINDOW).isoformat()
    recent = pc.sum(pc.greater_equal(clips["tried_at"], since)).as_py() or 0
    untried = (
        pc.sum(pc.and_(pc.is_null(clips["tried_at"]), pc.is_valid(clips["next_attempt_at"]))).as_py() or 0
    )
    due = pc.sum(
        pc.and_(pc.is_valid(clips["tried_at"]), pc.less_equal(clips["next_attempt_at"], now.isoformat()))
    ).as_py()
    backlog = num_unseen + untried + (due or 0)
    per_hour = recent / (RATE_WINDOW / timedelta(hours=1))
    ends = now + timedelta(hours=backlog / per_hour) if per_hour and backlog else None
    pace = {"backlog": backlog, "tried_per_hour": round(per_hour, 2)}
    return {**pace, "backlog_ends_at": ends.isoformat() if ends else None}
