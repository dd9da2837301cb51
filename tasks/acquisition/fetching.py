"""Fetching: lanes take videos from one queue, fetch them, cut them into segments, and record the outcome of each."""

import logging
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property, partial
from pathlib import Path
from queue import Empty, SimpleQueue
from tempfile import TemporaryDirectory
from typing import Any

from schemas.errors import McgurkError, is_of_the_machine
from schemas.layout import SCRATCH
from schemas.manifest import Row
from schemas.outcome import TRACE, ItemError, Outcome, Transient
from tasks.acquisition import ledger
from tasks.acquisition.appeals import Reopened, stamps_of
from tasks.acquisition.clips import ClipMaker, opened
from tasks.acquisition.retention import DiskBudget
from tasks.acquisition.retry_schedule import Attempts, after_failure, after_success
from tasks.parts import Stage
from tasks.sources import Fetch, module_of, open_source
from tasks.transport.answers import scrubbed
from tasks.transport.failure_classes import CLASSES, Fault, hint
from tasks.transport.hatches import Hatches, with_secrets
from tasks.transport.lane_config import read_lanes
from tasks.transport.lanes import Clock, Lane, LaneClosed, LaneConfig, moment
from tasks.transport.partials import drop, scratch_of
from tasks.transport.policy import Access, DownloadLimits, no_secret
from tasks.transport.templates import expanded, hidden, origin

log = logging.getLogger(__name__)

TRIES = 3  # in place, for passing trouble
FIRST_WAIT_S = 0.5
TRACE_CHARS = 2000
REPORT_S = 60.0  # without a finished video, until the videos in progress are logged

Segments = list[tuple[int, Row]]  # (part, row), of one video


@dataclass(frozen=True)
class DownloadConfig:
    """Where media come from and how they are cut. Only `min_covered_share` can change what a clip is."""

    source: str = "youtube"
    lanes: int = 1  # videos at once, if neither the source nor the state folder lists lanes
    min_covered_share: float = 0.9  # sound that ends up to 10 % early is zero-padded; less is another clip
    max_transient_share: float = 0.5
    turn_s: float = (
        3600.0  # if lanes have limits: then the fetched media are extracted, and a later run continues
    )
    canary: str = ""  # a video that is always available; the source's own if none is named
    unextracted_gb: float = 100.0  # of media; more is fetched only when extraction has caught up
    keep_media: bool = True  # after extraction; without them, another extraction has to fetch them again
    limits: DownloadLimits = DownloadLimits()


@dataclass(frozen=True)
class DownloadContext:
    """The time of a run, the folder of its ledger and lanes, the lookup of their secrets, and the disk budget."""

    now: datetime
    state: Path
    clock: Clock = field(default_factory=Clock)
    secret: Callable[[str], str] = no_secret
    budget: DiskBudget = field(default_factory=DiskBudget)
    reopened: Reopened = field(default_factory=dict)  # segments that are tried though they are not due


def lanes_of(config: DownloadConfig, state: Path) -> tuple[LaneConfig, ...]:
    """The lanes of a run: those that the state folder lists, else the source's, else a single one without limits."""
    default = getattr(module_of(config.source), "LANES", (LaneConfig(concurrency=config.lanes),))
    return read_lanes(state, default)


def fetched(
    stage: Stage, videos: Mapping[str, Segments], config: DownloadConfig, context: DownloadContext
) -> Iterator[Segments]:
    """[(part, clip row)] for each tried video, in order of completion; by then the ledger has recorded it."""
    return through_lanes(LaneWorkers, stage, videos, config, context)


def through_lanes(
    kind: type["LaneWorkers"],
    stage: Stage,
    videos: Mapping[str, Segments],
    config: DownloadConfig,
    context: DownloadContext,
) -> Iterator[Any]:
    """The results of the workers of `kind` for each video, in order of completion.

    Ends early if every lane has closed. Raises what a lane raised.
    """
    waiting = deque(videos.values())
    done = SimpleQueue()
    lanes = lanes_of(config, context.state)
    with ExitStack() as stack:
        lanes_at_work = [
            kind(stage, config, context, Lane(one, context.state, context.clock)) for one in lanes
        ]
        work = [
            _LaneLoop(workers, stack.enter_context(workers.open()), waiting, done)
            for workers in lanes_at_work
        ]
        pool = stack.enter_context(_threads(sum(one.concurrency for one in lanes)))
        stack.callback(waiting.clear)  # if the caller has stopped reading, or a lane has failed
        futures = [pool.submit(one.run) for one in work for _ in range(one.workers.lane.config.concurrency)]
        for _ in futures:
            yield from iter(partial(_next, done, lanes_at_work), None)
        for future in futures:
            future.result()
        left = len(waiting)
    if left and context.budget.is_spent:
        log.info("%s: %d video(s) wait until the media on disk have been extracted", kind.what, left)
    elif left:
        log.warning("%s: every lane is closed; %d video(s) are left for a later run", kind.what, left)


def _next(done: SimpleQueue, lanes_at_work: Sequence["LaneWorkers"]) -> Any:
    """The next finished video; logs now and then which are in progress, so that a hanging one is noticed."""
    while True:
        with suppress(Empty):
            return done.get(timeout=REPORT_S)
        now = time.monotonic()
        in_progress = {
            video_id: began
            for workers in lanes_at_work
            for video_id, began in list(workers.in_progress.items())
        }
        listed = ", ".join(f"{video_id} for {now - began:.0f} s" for video_id, began in in_progress.items())
        what = lanes_at_work[0].what
        log.info("%s: in progress: %s", what, listed or "nothing: every lane is waiting for its turn")


def standing_row(stage: Stage, segment: Row) -> Row:
    """The row of a clip that is being fetched again while its sample is kept."""
    return {**segment["before"], "fingerprint": stage.row_fingerprint(segment)}


@contextmanager
def _threads(count: int) -> Iterator[ThreadPoolExecutor]:
    """Threads that the end of the block waits for, unless a signal ends the process: a slow host would delay that."""
    pool = ThreadPoolExecutor(count)
    is_wanted = True
    try:
        yield pool
    except BaseException as error:
        is_wanted = isinstance(error, Exception | GeneratorExit)
        raise
    finally:
        pool.shutdown(wait=is_wanted)


@dataclass(frozen=True)
class _LaneLoop:
    """What each thread of a lane does until the queue is empty or the lane closes."""

    workers: "LaneWorkers"
    fetch: Fetch
    waiting: deque
    done: SimpleQueue

    def run(self) -> None:
        try:
            while self._takes_one():
                pass
        except BaseException:
            self.waiting.clear()  # no thread starts another
            raise
        finally:
            self.done.put(None)

    def _takes_one(self) -> bool:
        if self.workers.context.budget.is_spent:
            return False
        try:
            segments = self.waiting.popleft()
        except IndexError:
            return False
        try:
            self.workers.check_turn()
            self.workers.lane.take_video()
            self.done.put(self.workers.video(self.fetch, segments))
        except LaneClosed as closed:
            self.waiting.appendleft(segments)
            log.info(
                "lane %s is closed until %s: %s%s",
                closed.name,
                moment(closed.until_s),
                closed.why,
                hint(closed.why),
            )
            return False
        return True


@dataclass(frozen=True)
class LaneWorkers:
    """The workers of one lane, and what they need to turn a video into rows."""

    stage: Stage
    config: DownloadConfig
    context: DownloadContext
    lane: Lane
    in_progress: dict[str, float] = field(
        default_factory=dict
    )  # videos under way -> since when, by the monotonic clock

    what = "download"  # in the log
    takes_media = True

    def open(self):
        """The source, through this lane."""
        lane = self.lane.config
        secret = self.context.secret
        self.lane.renewed(self.tool)
        access = Access(
            self.lane.take_request,
            proxy=secret(lane.proxy) if lane.proxy else "",
            cookies=secret(lane.cookies) if lane.cookies else "",
            user_agent=lane.user_agent,
            hatches=Hatches(
                with_secrets(lane.extractor_args, secret),
                lane.po_token_provider,
                lane.impersonate,
                lane.cookies_from_browser,
                lane.through,
            ),
            secret=secret,
            limits=self.config.limits,
            takes_media=self.takes_media,
        )
        return open_source(self.config.source, self.context.state, access)

    @property
    def tool(self) -> str:
        """The program that fetches, with its version."""
        return getattr(module_of(self.config.source), "TOOL", "mcgurk")

    @property
    def canary(self) -> str:
        """A video that is always available; empty if none is known."""
        return self.config.canary or getattr(module_of(self.config.source), "CANARY", "")

    @cached_property
    def _stamps(self) -> Callable[[str], str] | None:
        return stamps_of(self.config.source, self.context.state)

    def check_turn(self) -> None:
        """Raises LaneClosed once a lane with limits has used up its turn: extraction is waiting for its media."""
        ends_s = self.context.now.timestamp() + self.config.turn_s
        now_s = self.context.clock.now_s()
        if self.lane.config.is_limited and now_s > ends_s:
            raise LaneClosed(self.lane.config.name, "its turn is over", now_s)

    def video(self, fetch: Fetch, segments: Segments) -> Segments:
        """Fetches one video and cuts all its segments. Raises LaneClosed."""
        video_id = segments[0][1]["video_id"]
        stamp = self._stamps(video_id) if self._stamps else None  # before its file is read
        segments = [(part, {**segment, "stamp": stamp}) for part, segment in segments]
        with self._tracking(video_id), scratch_of(self.context.state, video_id) as scratch:
            try:
                cuts = opened(self._fetch(self._wanting(fetch, segments), video_id, scratch), scratch)
            except (ItemError, Transient) as error:
                if isinstance(error, ItemError):
                    drop(scratch)
                is_vouched = self._is_vouched(fetch, error)
                made = [(part, self._failed(segment, error, is_vouched)) for part, segment in segments]
            else:
                self.lane.succeeded()
                maker = ClipMaker(self.stage, self.config.min_covered_share)
                made = [(part, self._segment(maker, part, segment, cuts)) for part, segment in segments]
        self.context.budget.spend(sum(row["size_bytes"] or 0 for _, row in made if row["path"]))
        for part in {part for part, _ in made}:
            ledger.append(self.context.state, part, [row for of_part, row in made if of_part == part])
        return made

    @contextmanager
    def _tracking(self, video_id: str) -> Iterator[None]:
        self.in_progress[video_id] = time.monotonic()
        try:
            yield
        finally:
            del self.in_progress[video_id]

    def _wanting(self, fetch: Fetch, segments: Segments) -> Fetch:
        """`fetch`, restricted to little more than these segments if the source supports it."""
        if not getattr(module_of(self.config.source), "SECTIONS", False):
            return fetch
        return partial(fetch, spans=[(row["start_ms"] / 1000, row["end_ms"] / 1000) for _, row in segments])

    def _fetch(self, fetch: Fetch, video_id: str, scratch: Path) -> Path:
        for attempt in range(TRIES):
            try:
                return self._guarded(fetch, video_id, scratch)
            except Transient as error:
                fault = CLASSES[error.reason].fault
                if fault in (Fault.LANE, Fault.TOOL):
                    self.lane.failed(error.reason, self.tool, error.after_s)
                is_known = fault == Fault.WORLD and not error.detail.startswith(TRACE)
                if not is_known or attempt == TRIES - 1:  # what broke a parser once breaks it again
                    raise
                self.context.clock.sleep_until(self.context.clock.now_s() + FIRST_WAIT_S * 2**attempt)
        raise AssertionError("unreachable")

    def _guarded(self, fetch: Fetch, video_id: str, scratch: Path) -> Path:
        """What `fetch` returns. If it can't handle an answer, the outcome is `unknown`, with the trace as evidence.

        So a single video never ends a build; if this happens to a large share of a part, `tasks.download` ends it.
        """
        try:
            return fetch(video_id, scratch)
        except (ItemError, Transient, LaneClosed, McgurkError):
            raise
        except Exception as error:
            if is_of_the_machine(error):
                raise
            trace = scrubbed(traceback.format_exc()[-TRACE_CHARS:])
            secrets = expanded(self.config.source, self.context.secret)[1]
            raise Transient("unknown", TRACE + hidden(trace, secrets)) from error

    def _is_vouched(self, fetch: Fetch, error: ItemError | Transient) -> bool:
        """Whether the lane works: a video came through within the last hour, or the canary does now."""
        if isinstance(error, Transient) or not self.canary or self.lane.has_witness():
            return True
        self.lane.take_video()
        with TemporaryDirectory(dir=self.context.state / SCRATCH) as scratch:
            try:
                self._fetch(fetch, self.canary, Path(scratch))
            except (ItemError, Transient) as failed:
                log.warning("lane %s: the canary fails too: %s", self.lane.config.name, failed)
                self.lane.failed("forbidden", self.tool)
                return False
        self.lane.succeeded()
        return True

    def _segment(self, maker: ClipMaker, part: int, segment: Row, cuts) -> Row:
        try:
            made = maker.clip(part, segment, cuts)
        except ItemError as error:
            return self._failed(segment, error, is_vouched=True)
        return {**made, **self._evidence(segment), **after_success()}

    def _failed(self, segment: Row, error: ItemError | Transient, is_vouched: bool) -> Row:
        row = ClipMaker(self.stage, self.config.min_covered_share).row(segment, error)
        at = datetime.fromtimestamp(self.context.clock.now_s(), UTC)
        is_local = self._stamps is not None
        verdict = after_failure(segment["before"], error, at, is_vouched=is_vouched, is_local=is_local)
        if verdict.get("next_attempt_at") == at.isoformat():  # at once: for a retry of this very run too
            verdict["next_attempt_at"] = self.context.now.isoformat()
        if segment["stands"]:
            return self._kept(segment, row, error, verdict)
        return {**row, **self._evidence(segment, error.status), **verdict}

    def _kept(self, segment: Row, row: Row, error: ItemError | Transient, verdict: Attempts) -> Row:
        """The row of a clip whose sample exists and that could not be fetched again: the clip, with the failure."""
        clip = standing_row(self.stage, segment)
        evidence = {**self._evidence(segment, error.status), "source": clip["source"]}
        failure = {"reason": row["reason"], "detail": row["detail"], **evidence}
        is_gone = verdict.get("outcome") != Outcome.WAITING  # it is not tried again
        attempts = {**verdict, "outcome": clip["outcome"]} | ({"next_attempt_at": None} if is_gone else {})
        return {**clip, **failure, **attempts}

    def _evidence(self, segment: Row, status: int | None = None) -> Row:
        shown = {"lane": self.lane.config.name, "tool": self.tool, "status": status}
        shown["stamp"] = segment["stamp"]
        return {
            **shown,
            "source": origin(self.config.source),
            "tried_at": moment(self.context.clock.now_s()),
        }
