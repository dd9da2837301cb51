"""Keeping: how much media may wait for extraction, and what becomes of them after it.

A clip whose media were let go stays `ok`, with its digest and without a path: nothing after it changes. Where
extraction would need them again, it becomes `waiting: refetch`.
"""

import logging
import math
import threading
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from dataclasses import replace
from datetime import datetime

from schemas.clip import CLIPS
from schemas.manifest import (
    CONTENT_COLUMNS,
    PartHeader,
    Row,
    part_numbers,
    part_path,
    read_header,
    read_part,
    write_part,
)
from schemas.outcome import Outcome
from schemas.storage import is_local, path_under
from tasks.clips import MEDIA
from tasks.parts import Headers, PartPlan, Plan, Stage, header_of, plan_stage, reusable_rows

log = logging.getLogger(__name__)

REFETCH = "refetch"
# Part -> keys of clips that extraction needs, and whose media are gone.
Lacking = Mapping[int, Collection[str]]


class Room:
    """How many more bytes of media may wait for extraction: measured when first asked for. Lanes share one."""

    def __init__(self, measure: Callable[[], float] = lambda: math.inf) -> None:
        self._measure, self._lock = measure, threading.Lock()
        self._left_bytes: float | None = None

    def take(self, size_bytes: int) -> None:
        """Notes that so much was fetched."""
        with self._lock:
            self._left_bytes = self._left() - size_bytes

    @property
    def is_full(self) -> bool:
        """Whether extraction comes first now."""
        with self._lock:
            self._left_bytes = self._left()
            return self._left_bytes <= 0

    @property
    def was_full(self) -> bool:
        """The same, if anybody has asked before: measuring takes a look at every part."""
        return self._left_bytes is not None and self._left_bytes <= 0

    def _left(self) -> float:
        return self._measure() if self._left_bytes is None else self._left_bytes


def unextracted_bytes(clips: Stage, validate: Stage, extract: Stage) -> int:
    """How much media lie in parts that are not checked and extracted yet."""
    done = {one.part for one in plan_stage(extract, plan_stage(validate)).parts if one.state == "done"}
    waiting = (part for part in part_numbers(clips.target) if part not in done)
    headers = (header_of(clips.root, clips.writes, part) for part in waiting)
    return sum(sum(header.files.values()) for header in headers if header)


def release(clips: Stage, extract: Stage) -> int:
    """Removes the media of extracted parts, except for those that a rule keeps from extraction; returns bytes.

    Nobody may read or write clips and features meanwhile.
    """
    folders = {int(path.name): path for path in (clips.root / MEDIA).glob("*") if path.name.isdecimal()}
    done = [one.part for one in plan_stage(extract, only=folders.keys()).parts if one.state == "done"]
    return sum(_release(clips, extract, part) for part in done)


def _release(clips: Stage, extract: Stage, part: int) -> int:
    path, folder = part_path(clips.target, part), clips.root / MEDIA / f"{part:06d}"
    header, rows = read_header(path), read_part(path)
    if header is None:
        return 0
    extracted = read_part(part_path(extract.source, part), CONTENT_COLUMNS)
    taken = {(row["key"], row["digest"]) for row in extracted if row["outcome"] == Outcome.OK}
    gone = {row["path"] for row in rows if (row["key"], row["digest"]) in taken and row["path"]}
    if gone:
        kept = {name: size for name, size in header.files.items() if name not in gone}
        rows = [{**row, "path": None} if row["path"] in gone else row for row in rows]
        # First: a kill leaves files that nobody names, never names of files that are gone.
        header = replace(header, files=kept)
        write_part(path, rows, CLIPS, header)
    freed = 0
    for file in [file for file in folder.iterdir() if path_under(clips.root, file) not in header.files]:
        freed += file.stat().st_size
        file.unlink()
    if is_local(folder):  # a store has no empty folders, and its `rmdir` removes full ones
        with suppress(OSError):  # some are kept
            folder.rmdir()
    return freed


def lacking(
    clips: Stage, extract: Stage, headers_of: Headers = header_of, *, only: Collection[int] | None = None
) -> Lacking:
    """The clips that extraction would decode now, of the parts `only`, and whose media were let go."""
    found = {}
    for planned in plan_stage(extract, only=only, headers_of=headers_of).parts:
        header = headers_of(clips.root, clips.writes, planned.part)
        if planned.state != "done" and header and header.facts.get("num_released"):
            found[planned.part] = _lacking(clips, extract, planned.part)
    return {part: keys for part, keys in found.items() if keys}


def _lacking(clips: Stage, extract: Stage, part: int) -> list[str]:
    made = reusable_rows(extract, part)
    due = {
        row["key"]
        for row in read_part(part_path(extract.source, part))
        if row["outcome"] == Outcome.OK and extract.row_fingerprint(row) not in made
    }
    rows = read_part(part_path(clips.target, part), ("key", "outcome", "path"))
    return [row["key"] for row in rows if row["key"] in due and is_released(row)]


def is_released(row: Row | None) -> bool:
    """Whether a clip is there in all but its media."""
    return row is not None and row["outcome"] == Outcome.OK and not row["path"]


def ask_again(clips: Stage, lacking: Lacking, now: datetime) -> int:
    """Makes these clips `waiting: refetch`, due now; returns how many they are."""
    for part, keys in lacking.items():
        path = part_path(clips.target, part)
        rows = [_asked_again(row, now) if row["key"] in keys else row for row in read_part(path)]
        write_part(path, rows, CLIPS, read_header(path) or PartHeader(clips.name, "", {}))
    return num_clips(lacking)


def _asked_again(row: Row, now: datetime) -> Row:
    why = {"outcome": Outcome.WAITING.value, "reason": REFETCH, "digest": ""}
    return {**row, **why, "next_attempt_at": now.isoformat()}


def num_clips(lacking: Lacking) -> int:
    """How many clips they are."""
    return sum(map(len, lacking.values()))


def notice(lacking: Lacking) -> str:
    """What a person is told of them."""
    return (
        f"{num_clips(lacking):,} clip(s) are fetched again: extraction changed, and their media were not kept"
    )


def with_lacking(planned: Plan, lacking: Lacking) -> Plan:
    """A plan of `download` in which parts are stale if extraction needs media of theirs that were let go."""
    if not lacking:
        return planned
    parts = [
        PartPlan(one.part, "stale", "media to fetch again")
        if one.part in lacking and one.state == "done"
        else one
        for one in planned.parts
    ]
    return Plan(planned.stage, parts, notice(lacking))
