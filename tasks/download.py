"""Download: segments -> clips on disk. Each video is fetched once, probed, and cut into its segments.

The one stage whose result depends on the day: rows keep their attempts and when to try again.
"""

import logging
import shutil
import threading
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from schemas.clip import CLIPS
from schemas.manifest import DUE_COLUMN, Row, digest_of, part_path, read_header, read_part, sha256_of_file
from schemas.outcome import ItemError, Outcome, Transient
from schemas.storage import is_whole, path_under, place
from tasks import isolation, ledger
from tasks.media import Probe
from tasks.parts import Headers, Inputs, PartPlan, Plan, Stage, carried, commit_part, header_of, read_inputs
from tasks.progress import tracked
from tasks.sources import Fetch, open_source

log = logging.getLogger(__name__)

VERSION = 1
MEDIA = "clips/media"
# Gone is confirmed on other days: one lab's missing list and another's differ by hundreds (region, time).
CONFIRMATIONS = 3
LADDER_DAYS = (1, 7, 30, 90, 365)
DEFINITE = {"too_short"}  # measured on the file that we hold
TRIES = 3  # in place, for passing trouble
FIRST_WAIT_S = 0.5
MIN_TRIED = 8  # fewer failures than this say nothing about the world


@dataclass(frozen=True)
class DownloadConfig:
    """Where media come from and how they are cut. Only `min_covered_share` can change what a clip is."""

    source: str = "youtube"
    lanes: int = 1
    min_covered_share: float = 0.9  # audio that ends up to 10 % early is zero-padded, less is another clip
    max_transient_share: float = 0.5


@dataclass(frozen=True)
class Day:
    """When this run happens, and the folder of its ledger."""

    now: datetime
    state: Path


@dataclass
class _Work:
    """One part under way: its input, the rows that stand, and the segments to fetch."""

    inputs: Inputs
    rows: dict[str, Row]
    due: list[Row]


def stage(root: Path, config: DownloadConfig) -> Stage:
    """The stage `download` over `root`."""
    settings = {"min_covered_share": config.min_covered_share}
    return Stage("download", VERSION, root, "segments/checked", "clips", CLIPS, settings)


def with_due(stage: Stage, planned: Plan, now: datetime, headers_of: Headers = header_of) -> Plan:
    """A plan of this stage in which parts are `failed` when one of their rows is due again."""
    return Plan(stage.name, [_with_due(stage, part, now, headers_of) for part in planned.parts])


def _with_due(stage: Stage, planned: PartPlan, now: datetime, headers_of: Headers) -> PartPlan:
    if planned.state != "done":
        return planned
    header = headers_of(stage.root, stage.writes, planned.part)
    if header is None or not _is_due(header.facts, now):
        return planned
    due = sum(_is_due(row, now) for row in read_part(part_path(stage.target, planned.part), (DUE_COLUMN,)))
    return PartPlan(planned.part, "failed", f"{due} segment(s) due again")


def _is_due(row: Row, now: datetime) -> bool:
    return bool(row[DUE_COLUMN]) and row[DUE_COLUMN] <= now.isoformat()


def run(stage: Stage, parts: Sequence[int], config: DownloadConfig, day: Day) -> int:
    """Fetches what is due in `parts`; returns how many videos that were.

    Raises RuntimeError if more than `max_transient_share` of the videos fail for no fault of their own.
    """
    works = [_work(stage, part, day) for part in parts]
    videos: dict[str, list[tuple[int, Row]]] = {}
    for work in works:
        for segment in work.due:
            videos.setdefault(segment["video_id"], []).append((work.inputs.part, segment))
    by_part = {work.inputs.part: work for work in works}
    transient = 0
    for part_rows in _fetched(stage, videos, config, day):
        transient += any(_is_due(row, day.now) for _, row in part_rows)
        for part, row in part_rows:
            by_part[part].rows[row["key"]] = row
    for work in works:
        _commit(stage, work)
    if len(videos) >= MIN_TRIED and transient > config.max_transient_share * len(videos):
        raise RuntimeError(
            f"{transient} of {len(videos)} videos failed for no fault of their own: see `status`"
        )
    return len(videos)


def _work(stage: Stage, part: int, day: Day) -> _Work:
    inputs = read_inputs(stage, part)
    path = part_path(stage.target, part)
    before = {row["key"]: row for row in read_part(path)} if read_header(path) else {}
    before |= ledger.latest(day.state, part)  # it is never older than the part
    work = _Work(inputs, {}, [])
    for segment in inputs.rows:
        row = before.get(segment["key"])
        if segment["outcome"] != Outcome.OK:
            work.rows[segment["key"]] = carried(stage, segment)
        elif row is not None and _stands(stage, segment, row, day.now):
            work.rows[segment["key"]] = row
        else:
            work.due.append({**segment, "attempts": (row or {}).get("attempts") or 0})
    return work


def _stands(stage: Stage, segment: Row, row: Row, now: datetime) -> bool:
    if row["fingerprint"] != stage.row_fingerprint(segment) or _is_due(row, now):
        return False
    return row["outcome"] != Outcome.OK or is_whole(stage.root / row["path"], row["size_bytes"])


def _commit(stage: Stage, work: _Work) -> None:
    rows = [work.rows[segment["key"]] for segment in work.inputs.rows]
    files = {stage.root / row["path"]: row["size_bytes"] for row in rows if row.get("path")}
    commit_part(stage, work.inputs, rows, files)
    log.info("download: part %d, %d of %d clips", work.inputs.part, len(files), len(rows))


def _fetched(
    stage: Stage, videos: dict[str, list[tuple[int, Row]]], config: DownloadConfig, day: Day
) -> Iterable[list[tuple[int, Row]]]:
    """[(part, clip row)] for each video, in the order in which they end; each is in the ledger by then."""
    if not videos:
        return
    scratch = day.state / "scratch"
    shutil.rmtree(scratch, ignore_errors=True)  # of a run that was killed: one downloads at a time
    scratch.mkdir(parents=True)
    with open_source(config.source, day.state) as fetch, ThreadPoolExecutor(config.lanes) as lanes:
        lane = _Lane(stage, config, day, fetch)
        yield from tracked(lanes.map(lane.video, videos.values()), len(videos), "download", log)


@dataclass(frozen=True)
class _Lane:
    stage: Stage
    config: DownloadConfig
    day: Day
    fetch: Fetch

    def video(self, segments: list[tuple[int, Row]]) -> list[tuple[int, Row]]:
        """Fetches one video and cuts all its segments."""
        with TemporaryDirectory(dir=self.day.state / "scratch") as scratch:
            try:
                source = self._fetch(segments[0][1]["video_id"], Path(scratch))
                facts = Probe(**isolation.call("probe", {"path": str(source)})[0])
                if not (facts.has_video or facts.has_audio):
                    raise ItemError(Outcome.UNAVAILABLE, "empty", "the file holds neither picture nor sound")
            except (ItemError, Transient) as error:
                made = [(part, self._failed(segment, error)) for part, segment in segments]
            else:
                cuts = _Cuts(source, facts, Path(scratch))
                made = [(part, self._segment(part, segment, cuts)) for part, segment in segments]
        for part in {part for part, _ in made}:
            ledger.append(self.day.state, part, [row for of_part, row in made if of_part == part])
        return made

    def _fetch(self, video_id: str, scratch: Path) -> Path:
        for attempt in range(TRIES):
            try:
                return self.fetch(video_id, scratch)
            except Transient:
                if attempt == TRIES - 1:
                    raise
                threading.Event().wait(FIRST_WAIT_S * 2**attempt)
        raise AssertionError("unreachable")

    def _segment(self, part: int, segment: Row, cuts: "_Cuts") -> Row:
        try:
            return self._clip(part, segment, cuts)
        except ItemError as error:
            return self._failed(segment, error)

    def _clip(self, part: int, segment: Row, cuts: "_Cuts") -> Row:
        start_s, end_s = segment["start_ms"] / 1000, segment["end_ms"] / 1000
        duration_s = cuts.facts.duration_s
        covered_s = min(end_s, duration_s or end_s) - start_s
        if covered_s < self.config.min_covered_share * (end_s - start_s):
            detail = f"the video ends at {duration_s:.2f} s, the segment is {start_s:g} to {end_s:g} s"
            raise ItemError(Outcome.UNAVAILABLE, "too_short", detail)
        file, begins_s = cuts.cut(segment["key"], (start_s, end_s))
        root = self.stage.root
        target = root / MEDIA / f"{part:06d}" / f"{segment['key']}{file.suffix}"
        sha256, size = sha256_of_file(file), file.stat().st_size
        place(file, target)
        row = self._row(segment, Outcome.OK, digest=digest_of(sha256, begins_s, segment["key"]))
        row |= {"path": path_under(root, target), "size_bytes": size, "sha256": sha256}
        row |= {"begins_s": begins_s, "length_s": end_s - start_s, "covered_s": covered_s}
        return {**row, **_header_facts(cuts.facts)}

    def _failed(self, segment: Row, error: ItemError | Transient) -> Row:
        """The row of a failure: what is not definite waits, to be confirmed on other days."""
        attempts, now = segment["attempts"] + 1, self.day.now
        if isinstance(error, Transient):
            row = self._row(segment, Outcome.WAITING, error)
            return {**row, "next_attempt_at": now.isoformat()}
        if error.outcome == Outcome.QUARANTINED or error.reason in DEFINITE:
            return self._row(segment, error.outcome, error)
        again = now + timedelta(days=LADDER_DAYS[min(attempts, len(LADDER_DAYS)) - 1])
        outcome = Outcome.UNAVAILABLE if attempts >= CONFIRMATIONS else Outcome.WAITING
        return {
            **self._row(segment, outcome, error),
            "attempts": attempts,
            "next_attempt_at": again.isoformat(),
        }

    def _row(
        self, segment: Row, outcome: Outcome, error: ItemError | Transient | None = None, digest: str = ""
    ) -> Row:
        why = {"reason": error.reason, "detail": error.detail} if error else {"reason": "", "detail": ""}
        fingerprint = self.stage.row_fingerprint(segment)
        row: dict[str, Any] = dict.fromkeys(CLIPS.names)
        row |= {"key": segment["key"], "outcome": outcome.value, "digest": digest, "fingerprint": fingerprint}
        return {
            **row,
            **why,
            "video_id": segment["video_id"],
            "attempts": segment["attempts"],
            "source": self.config.source.split("{")[0],
        }


@dataclass(frozen=True)
class _Cuts:
    """A fetched video, and the folder where its segments are cut out of it."""

    source: Path
    facts: Probe
    scratch: Path

    def cut(self, key: str, segment_s: tuple[float, float]) -> tuple[Path, float]:
        """The file of one segment, and where in it the segment begins. Raises ItemError."""
        target = self.scratch / f"cut-{key}"
        asked = {"source": str(self.source), "facts": asdict(self.facts), "segment_s": segment_s}
        made, _ = isolation.call("cut", {**asked, "target": str(target)})
        return Path(made["path"]), made["begins_s"]


def _header_facts(facts: Probe) -> Row:
    names = set(CLIPS.names) & set(Probe.__dataclass_fields__)
    return {name: getattr(facts, name) for name in names} | {
        "has_video": facts.has_video,
        "has_audio": facts.has_audio,
    }
