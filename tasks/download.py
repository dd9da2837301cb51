"""Download: segments -> clips on disk. Each video is fetched once, probed, and cut into its segments.

This is the only stage whose result depends on the day: rows record their attempts and when to try again.
"""

import logging
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path

from schemas import layout
from schemas.clip import CLIPS
from schemas.errors import OperationalError
from schemas.layout import stage_facts
from schemas.manifest import DUE_COLUMN, LAST_DUE, REFETCH, Row, part_path, read_header, read_part
from schemas.outcome import BUG, TRACE, Outcome
from schemas.storage import is_whole, make_folder, sweep
from tasks.acquisition import ledger
from tasks.acquisition.appeals import NOTHING, Reopened
from tasks.acquisition.clips import is_released
from tasks.acquisition.fetching import DownloadConfig, DownloadContext, fetched, standing_row
from tasks.acquisition.retry_schedule import LADDER_DAYS
from tasks.parts import (
    Headers,
    Inputs,
    PartPlan,
    Plan,
    Stage,
    check_bugs,
    commit_part,
    header_of,
    propagate_failure,
    read_inputs,
)
from tasks.progress import tracked
from tasks.standing import sampled_keys
from tasks.transport.failure_classes import CLASSES, Fault
from tasks.transport.partials import sweep_scratch

log = logging.getLogger(__name__)

VERSION = 2
LONGEST = timedelta(days=LADDER_DAYS[-1])  # the longest pause of a segment
FEW_TRACES = 5  # fewer unexpected answers in a part come from individual videos,
TRACE_SHARE = 0.02  # and so does a smaller share
MIN_TRIED = 8  # fewer failures than this say nothing about the world


@dataclass
class _PartInProgress:
    """One part in progress: its input, the rows that stay, and the segments to fetch."""

    inputs: Inputs
    rows: dict[str, Row]
    due: list[Row]


def stage(root: Path, config: DownloadConfig) -> Stage:
    """The stage `download` over `root`."""
    settings = {"min_covered_share": config.min_covered_share}
    facts = stage_facts("download")
    return Stage(facts.name, VERSION, root, facts.reads, facts.writes, CLIPS, settings)


def with_due(
    stage: Stage,
    planned: Plan,
    now: datetime,
    headers_of: Headers = header_of,
    reopened: Reopened = NOTHING,
) -> Plan:
    """A plan of this stage in which parts are `failed` if one of their rows is due again, or reopened."""
    parts = [_with_due(stage, part, now, headers_of) for part in planned.parts]
    return Plan(stage.name, [_with_reopened(stage, part, now, reopened) for part in parts])


def _with_reopened(stage: Stage, planned: PartPlan, now: datetime, reopened: Reopened) -> PartPlan:
    if planned.state != "done" or planned.part not in reopened:
        return planned
    rows = read_part(part_path(stage.target, planned.part), ("key", "tried_at"))
    count = sum(_is_reopened(row, reopened[planned.part], now) for row in rows)
    return PartPlan(planned.part, "failed", f"{count} segment(s) reopened") if count else planned


def _is_reopened(row: Row, keys: Collection[str], now: datetime) -> bool:
    """Whether a row is to be tried again, and was not tried yet since `now`, when the build began."""
    return row["key"] in keys and (row["tried_at"] or "") < now.isoformat()


def _with_due(stage: Stage, planned: PartPlan, now: datetime, headers_of: Headers) -> PartPlan:
    if planned.state != "done":
        return planned
    header = headers_of(stage.root, stage.writes, planned.part)
    if header is None or not (_is_due(header.facts, now) or _is_due(header.facts, now, LAST_DUE)):
        return planned
    due = sum(_is_due(row, now) for row in read_part(part_path(stage.target, planned.part), (DUE_COLUMN,)))
    return PartPlan(planned.part, "failed", f"{due} segment(s) due again")


def _is_due(row: Row, now: datetime, column: str = DUE_COLUMN) -> bool:
    """Whether its time has come, or lies further ahead than any pause: then a wrong clock wrote it, and it is due."""
    at = row.get(column)
    return bool(at) and not now.isoformat() < at <= (now + LONGEST).isoformat()


def run(stage: Stage, parts: Sequence[int], config: DownloadConfig, context: DownloadContext) -> int:
    """Fetches what is due in `parts`, as far as lanes and the disk budget allow; returns how many videos were tried.

    Raises OperationalError if more than `max_transient_share` of the videos fail for the world's fault.
    """
    _remove_partial_files(context.state)
    works = {part: _work(stage, part, context) for part in parts}
    videos: dict[str, list[tuple[int, Row]]] = {}
    for part, work in works.items():
        for segment in work.due:
            videos.setdefault(segment["video_id"], []).append((part, segment))
    # Never tried first, then least recently tried: a video that always stops the lane does not starve the others.
    videos = dict(sorted(videos.items(), key=lambda one: one[1][0][1]["before"].get("tried_at") or ""))
    if videos and context.budget.is_spent:
        videos = {}  # known results are written all the same: readers of parts must not trust lost media
    tried = broken = 0
    for part_rows in tracked(_fetched(stage, videos, config, context), len(videos), "download", log):
        tried = tried + 1
        broken = broken + any(_is_of_the_world(row) for _, row in part_rows)
        for part, row in part_rows:
            works[part].rows[row["key"]] = row
    for work in works.values():
        _commit(stage, work, context)
    _check_answers(works)
    if tried >= MIN_TRIED and broken > config.max_transient_share * tried:
        raise OperationalError(
            f"{broken} of {tried} videos failed through no fault of their own: see `mcgurk status`"
        )
    return tried


def _fetched(
    stage: Stage, videos: dict[str, list[tuple[int, Row]]], config: DownloadConfig, context: DownloadContext
) -> Iterable[list[tuple[int, Row]]]:
    if not videos:
        return
    make_folder(context.state / layout.SCRATCH)
    yield from fetched(stage, videos, config, context)


def _remove_partial_files(state: Path) -> None:
    """Removes what a killed run left in the state folder: only one run downloads at a time."""
    sweep_scratch(state)
    for name in (layout.LANES, layout.ATTEMPTS):
        sweep(state / name)


def _is_of_the_world(row: Row) -> bool:
    known = CLASSES.get(row["reason"])
    has_failed = row["outcome"] in (Outcome.WAITING, Outcome.OK)  # for a clip that stays, the reason tells
    return has_failed and known is not None and known.fault == Fault.WORLD


def _work(stage: Stage, part: int, context: DownloadContext) -> _PartInProgress:
    inputs = read_inputs(stage, part)
    path = part_path(stage.target, part)
    before = {row["key"]: row for row in read_part(path)} if read_header(path) else {}
    for key, row in ledger.latest(context.state, part).items():  # never older than the part, except its media
        if not _is_newer(before.get(key), row):
            before[key] = row
    work = _PartInProgress(inputs, {}, [])
    standing = sampled_keys(stage.root, part)
    keys = context.reopened.get(part, ())
    for segment in inputs.rows:
        row = before.get(segment["key"])
        if segment["outcome"] != Outcome.OK:
            work.rows[segment["key"]] = propagate_failure(stage, segment)
        elif (
            row is not None
            and not _is_reopened(row, keys, context.now)
            and _stands(stage, segment, row, context.now)
        ):
            work.rows[segment["key"]] = row
        else:
            stands = row is not None and row["outcome"] == Outcome.OK and segment["key"] in standing
            known = {**row, "path": _whole(stage, row)} if row and stands else row or {}
            work.due.append({**segment, "before": known, "stands": stands})
    return work


def _is_newer(row: Row | None, attempt: Row) -> bool:
    """Whether the part's `row` is newer than the ledger's `attempt`: its media were released, or requested again."""
    if row is None:
        return False
    is_let_go = is_released(row) and row["digest"] == attempt["digest"]
    is_asked_for = row["outcome"] == Outcome.WAITING and row["reason"] == REFETCH
    return (is_let_go or is_asked_for) and (attempt["tried_at"] or "") <= (row["tried_at"] or "")


def _stands(stage: Stage, segment: Row, row: Row, now: datetime) -> bool:
    """Whether a row needs no attempt now. A row of an earlier VERSION stays, unless our own code failed on its file."""
    if _is_due(row, now) or not _is_of_a_version(stage, segment, row):
        return False
    if row["reason"] == BUG and row["fingerprint"] != stage.row_fingerprint(segment):
        return False
    return row["outcome"] != Outcome.OK or is_released(row) or _whole(stage, row) is not None


def _whole(stage: Stage, row: Row) -> str | None:
    """The path of a clip's media if they exist."""
    is_there = row["path"] and is_whole(stage.root / row["path"], row["size_bytes"])
    return row["path"] if is_there else None


def _is_of_a_version(stage: Stage, segment: Row, row: Row) -> bool:
    versions = (replace(stage, version=number) for number in range(stage.version, 0, -1))
    return any(row["fingerprint"] == one.row_fingerprint(segment) for one in versions)


def _commit(stage: Stage, work: _PartInProgress, context: DownloadContext) -> None:
    """Writes the part; a part in which nothing was tried yet is left for a later run."""
    part = work.inputs.part
    left = [one for one in work.due if one["key"] not in work.rows]
    if len(left) == len(work.inputs.rows) and read_header(part_path(stage.target, part)) is None:
        return
    work.rows |= {one["key"]: _queued(stage, one, context) for one in left}
    rows = [work.rows[segment["key"]] for segment in work.inputs.rows]
    check_bugs(stage, part, rows)
    files = {stage.root / row["path"]: row["size_bytes"] for row in rows if row.get("path")}
    commit_part(stage, work.inputs, rows, files)
    ledger.compact(context.state, part)
    there = sum(row["outcome"] == Outcome.OK for row in rows)
    log.info("download: part %d, %d of %d clips", part, there, len(rows))


def _check_answers(works: Mapping[int, _PartInProgress]) -> None:
    """Raises OperationalError if a large share of a part got unexpected answers."""
    for part, work in works.items():
        details = [row["detail"] or "" for row in work.rows.values()]
        traces = [detail for detail in details if detail.startswith(TRACE)]
        if len(traces) >= max(FEW_TRACES, TRACE_SHARE * len(details)):
            raise OperationalError(
                f"download: {len(traces)} of {len(details)} videos of part {part} were answered in ways that "
                "neither mcgurk nor yt-dlp expects. They wait (mcgurk failures). Update both, or report it. "
                f"The first: {traces[0]}"
            )


def _queued(stage: Stage, segment: Row, context: DownloadContext) -> Row:
    """The row of a segment whose turn has not come: its last known state, and due."""
    if segment["stands"]:
        return {**standing_row(stage, segment), "next_attempt_at": context.now.isoformat()}
    was_there = segment["before"].get("outcome") == Outcome.OK
    reason, known = (REFETCH, {}) if was_there else ("queued", segment["before"])
    row: Row = {**dict.fromkeys(CLIPS.names), "digest": "", "detail": "", "reason": reason, "attempts": 0}
    row |= {
        **known,
        "key": segment["key"],
        "video_id": segment["video_id"],
        "next_attempt_at": context.now.isoformat(),
    }
    outcome = known.get("outcome", Outcome.WAITING.value)
    return {**row, "outcome": outcome, "fingerprint": stage.row_fingerprint(segment)}
