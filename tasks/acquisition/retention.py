"""Retention: how much media may wait for extraction, and what happens to media afterwards.

A clip whose media were released stays `ok`, with its digest and without a path: nothing downstream changes. If newer
tools would make its sample differently, the sample is kept. If the settings changed, its media are missing. They are
fetched again only on request: until then, kept samples stay, and missing ones are `waiting: refetch`.
"""

import logging
import math
import threading
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, fields, replace
from datetime import datetime

from schemas.clip import CLIPS
from schemas.layout import MEDIA
from schemas.manifest import (
    OLD_CUTS,
    REFETCH,
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
from tasks.acquisition.clips import is_released
from tasks.media.old_cuts import is_beyond_mending, is_old
from tasks.parts import Headers, PartPlan, Plan, Stage, header_of, plan_stage, reusable_rows
from tasks.standing import OPEN_FACTS, stands, unmade_keys, with_returned

log = logging.getLogger(__name__)

ClipsByPart = Mapping[int, Collection[str]]  # part -> keys of clips whose media are gone


@dataclass(frozen=True)
class MediaNeeds:
    """The clips that extraction would decode now if their media were there, or in a newer cut."""

    lost: ClipsByPart  # released, and needed: the settings changed, or they have no sample
    kept: ClipsByPart  # released, but have a sample that earlier code or tools made
    apart: ClipsByPart = field(default_factory=dict)  # there, but in an old cut that can't be corrected
    mended: ClipsByPart = field(default_factory=dict)  # in one that can be corrected: nothing is needed

    @property
    def standing(self) -> ClipsByPart:
        """The clips that stay until their media are back."""
        return _joined(self.kept, self.apart)

    @property
    def all(self) -> ClipsByPart:
        """All clips that a refetch would fetch."""
        return _joined(self.lost, self.standing)


class DiskBudget:
    """How many more bytes of media may wait for extraction, measured at the first use. Lanes share one budget."""

    def __init__(self, measure: Callable[[], float] = lambda: math.inf) -> None:
        self._measure = measure
        self._lock = threading.Lock()
        self._left_bytes: float | None = None

    def spend(self, size_bytes: int) -> None:
        """Subtracts what was fetched."""
        with self._lock:
            self._left_bytes = self._left() - size_bytes

    @property
    def is_spent(self) -> bool:
        """Whether extraction must run before more is fetched."""
        with self._lock:
            self._left_bytes = self._left()
            return self._left_bytes <= 0

    @property
    def was_spent(self) -> bool:
        """The same, without measuring, which would look at every part; False if the budget has not been used."""
        return self._left_bytes is not None and self._left_bytes <= 0

    def _left(self) -> float:
        return self._measure() if self._left_bytes is None else self._left_bytes


def unextracted_bytes(clips: Stage, validate: Stage, extract: Stage) -> int:
    """The size of the media in parts that are not yet validated and extracted."""
    planned = with_returned(extract, plan_stage(extract, plan_stage(validate)))
    done = {one.part for one in planned.parts if one.state == "done"}
    waiting = (part for part in part_numbers(clips.target) if part not in done)
    headers = (header_of(clips.root, clips.writes, part) for part in waiting)
    return sum(sum(header.files.values()) for header in headers if header)


def release(clips: Stage, extract: Stage) -> int:
    """Removes the media of extracted parts, unless a rule kept a clip from extraction; returns the bytes freed.

    No other process may read or write clips and features meanwhile.
    """
    folders = {int(path.name): path for path in (clips.root / MEDIA).glob("*") if path.name.isdecimal()}
    done = [one.part for one in plan_stage(extract, only=folders.keys()).parts if one.state == "done"]
    return sum(_release(clips, extract, part) for part in done)


def _release(clips: Stage, extract: Stage, part: int) -> int:
    path = part_path(clips.target, part)
    folder = clips.root / MEDIA / f"{part:06d}"
    header = read_header(path)
    rows = read_part(path)
    if header is None:
        return 0
    waiting = unmade_keys(extract, part)
    extracted = read_part(part_path(extract.source, part), ("key", "outcome", "digest"))
    taken = {
        (row["key"], row["digest"])
        for row in extracted
        if row["outcome"] == Outcome.OK and row["key"] not in waiting
    }
    gone = {row["path"] for row in rows if (row["key"], row["digest"]) in taken and row["path"]}
    if gone:
        kept = {name: size for name, size in header.files.items() if name not in gone}
        rows = [{**row, "path": None} if row["path"] in gone else row for row in rows]
        # First: a kill may leave files that nothing names, but never names of files that are gone.
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


def missing_media(
    clips: Stage, extract: Stage, headers_of: Headers = header_of, *, only: Collection[int] | None = None
) -> ClipsByPart:
    """The clips of the parts `only` that extraction would need media for that were released."""
    return needs(clips, extract, headers_of, only=only).lost


def needs(
    clips: Stage, extract: Stage, headers_of: Headers = header_of, *, only: Collection[int] | None = None
) -> MediaNeeds:
    """The media that extraction of the parts `only` needs but that were released, or are in old cuts."""
    found: dict[int, tuple[list[str], ...]] = {}
    planned = with_returned(extract, plan_stage(extract, only=only, headers_of=headers_of), headers_of)
    for one in planned.parts:
        header = headers_of(clips.root, clips.writes, one.part)
        made = headers_of(clips.root, extract.writes, one.part)
        is_open = one.state != "done" or (made and any(made.facts.get(name) for name in OPEN_FACTS))
        # A part whose header does not count its old cuts consists of old cuts.
        may_need = header and (header.facts.get("num_released") or header.facts.get(OLD_CUTS, 1))
        if is_open and may_need:
            found[one.part] = _needs(clips, extract, one.part)
    kinds = zip(*found.values(), strict=True) if found else [()] * len(fields(MediaNeeds))
    return MediaNeeds(
        *({part: keys for part, keys in zip(found, kind, strict=True) if keys} for kind in kinds)
    )


def _needs(clips: Stage, extract: Stage, part: int) -> tuple[list[str], ...]:
    """The keys of a part that are lost, kept, apart, and mended."""
    clip_rows = {row["key"]: row for row in read_part(part_path(clips.target, part))}
    old = {row["key"]: row for row in reusable_rows(extract, part).values()}
    lost = []
    kept = []
    apart = []
    mended = []
    for row in read_part(part_path(extract.source, part)):
        if row["outcome"] != Outcome.OK:
            continue
        key = row["key"]
        clip = clip_rows[row["key"]]
        before = old.get(row["key"])
        is_due = before is None or before["fingerprint"] != extract.row_fingerprint(row)
        if is_released(clip) and is_due:
            (kept if stands(extract, before) else lost).append(key)
        elif is_old(clip) and (is_due or _was_given_up(before)):
            (apart if is_beyond_mending(clip) or not is_due else mended).append(key)
    return lost, kept, apart, mended


def _was_given_up(before: Row | None) -> bool:
    """Whether extraction found that an old cut can't be corrected: its row kept the sample, or waits."""
    return before is not None and (bool(before.get("is_kept")) or before["reason"] == REFETCH)


def _joined(one: ClipsByPart, other: ClipsByPart) -> ClipsByPart:
    return {part: [*one.get(part, ()), *other.get(part, ())] for part in {**one, **other}}


def request_refetch(
    clips: Stage, missing: ClipsByPart, now: datetime, *, kept: ClipsByPart | None = None
) -> int:
    """Makes the clips `missing` `waiting: refetch`, and those of `kept` due unchanged; returns how many there are."""
    kept = kept or {}
    for part in {**missing, **kept}:
        path = part_path(clips.target, part)
        lost = set(missing.get(part, ()))
        due = {"next_attempt_at": now.isoformat()}
        rows = [
            {**row, **(WAITS if row["key"] in lost else {}), **due}
            if row["key"] in lost or row["key"] in kept.get(part, ())
            else row
            for row in read_part(path)
        ]
        write_part(path, rows, CLIPS, read_header(path) or PartHeader(clips.name, "", {}))
    return num_clips(missing) + num_clips(kept)


WAITS = {"outcome": Outcome.WAITING.value, "reason": REFETCH, "digest": ""}


def num_clips(missing: ClipsByPart) -> int:
    """The number of clips."""
    return sum(map(len, missing.values()))


def refetch_notice(missing: ClipsByPart) -> str:
    """A line for the user about clips that will be fetched again."""
    return (
        f"{num_clips(missing):,} clip(s) are fetched again: extraction changed, and their media were not kept"
    )


def describe_needs(found: MediaNeeds) -> str:
    """Lines for the user about media that only `--refetch` would fetch; empty if none are needed."""
    lost, kept, apart, mended = map(num_clips, (found.lost, found.kept, found.apart, found.mended))
    lines = []
    if lost:
        lines.append(
            f"{lost:,} clip(s) can't be extracted: the settings changed, and their media were not kept; "
            "build --refetch fetches them again"
        )
    if kept:
        lines.append(
            f"{kept:,} sample(s) stay as earlier code or tools made them: their media were not kept; build --refetch "
            "fetches them again"
        )
    if apart:
        lines.append(
            f"{apart:,} clip(s) were cut by an earlier version, which could shift sound against picture: what "
            "was made from them is kept; build --refetch fetches them again"
        )
    if mended:
        lines.append(
            f"{mended:,} clip(s) were cut by an earlier version, which could shift sound against picture; extraction "
            "corrects them"
        )
    return "\n".join(lines)


def with_refetch(planned: Plan, missing: ClipsByPart) -> Plan:
    """A plan of `download` in which parts are also stale if extraction needs media that were released."""
    if not missing:
        return planned
    parts = [
        PartPlan(one.part, "stale", "media to fetch again")
        if one.part in missing and one.state == "done"
        else one
        for one in planned.parts
    ]
    return Plan(planned.stage, parts, refetch_notice(missing))
