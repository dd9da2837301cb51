"""Lanes: each is one way out with one identity and a rate of requests. Its state survives restarts.

All requests of a lane pass through one queue, which is kept in the state folder behind a lock: more threads, processes
or runs never raise its rate.
"""

import fcntl
import logging
import random
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from schemas.errors import DataError
from schemas.files import read_json, write_json
from schemas.layout import LANES
from schemas.storage import make_folder

log = logging.getLogger(__name__)

HOUR_S = 3600.0
DAY_S = 86_400.0
COOL_DOWN_S = (1.0 * HOUR_S, 1.5 * HOUR_S)  # YouTube says "for up to an hour"
BREAKER_S = 6 * HOUR_S  # a bot check needs a human; each further one keeps the lane closed twice as long
MAX_BREAKER_S = 4 * DAY_S
SUSPECT = 3  # this many refusals in a row are the lane's fault: one video alone can cause fewer
MAX_SLOWDOWN = 16.0
TIMES = ("next_request_s", "next_video_s", "closed_until_s")  # times in a lane's memory, in the future
WITNESS_STEP_S = 60.0  # a witness is recorded once a minute, not for each video


class Clock:
    """The time, and waiting for a time; tests have their own."""

    def now_s(self) -> float:
        """Seconds since 1970."""
        return time.time()

    def sleep_until(self, then_s: float) -> None:
        """Returns at `then_s`; if the clock is set back meanwhile, after as long as `then_s` was ahead."""
        ends_s = time.monotonic() + then_s - self.now_s()
        while (left_s := min(then_s - self.now_s(), ends_s - time.monotonic())) > 0:
            threading.Event().wait(left_s)


@dataclass(frozen=True)
class LaneConfig:
    """One way out and its rates; 0 means no limit. Proxy and cookies are names of secrets, never secrets.

    `env:NAME` names an environment variable, `block:NAME` a Secret block of Prefect; `hours` are of the day in UTC.
    """

    name: str = "direct"
    concurrency: int = 1
    requests_per_hour: float = 0.0
    videos_per_hour: float = 0.0
    videos_per_day: int = 0
    jitter_share: float = 0.5  # of the time between two, by which each may be later
    hours: tuple[int, int] = (0, 24)
    patience_s: float = 900.0  # how long a run waits for its turn; anything longer is left to a later run
    proxy: str = ""
    cookies: str = ""
    user_agent: str = ""
    extractor_args: Mapping[str, Any] = field(default_factory=dict)  # this and what follows: `hatches.py`
    po_token_provider: str = ""
    impersonate: str = ""
    cookies_from_browser: str = ""
    through: str = ""

    @property
    def is_limited(self) -> bool:
        """Whether a video has to wait for its turn."""
        return bool(self.videos_per_hour or self.videos_per_day or self.hours != (0, 24))


@dataclass(frozen=True)
class LaneState:
    """The state of a lane. Times are seconds since 1970."""

    next_request_s: float = 0.0
    next_video_s: float = 0.0
    day: int = 0  # since 1970
    videos_today: int = 0
    closed_until_s: float = 0.0
    why: str = ""
    slowdown: float = 1.0
    refusals: int = 0  # in a row
    breaks: int = 0  # of the circuit, in a row
    tool: str = ""  # the tool that was broken when the lane closed
    witness_s: float = 0.0  # when a video last came through


class LaneClosed(Exception):  # noqa: N818  (a state, not a fault)
    """The lane may not send requests before `until_s`: the run continues without it."""

    def __init__(self, name: str, why: str, until_s: float) -> None:
        super().__init__(name, why, until_s)
        self.name = name
        self.why = why
        self.until_s = until_s


@dataclass
class Lane:
    """One lane at work. Its methods may be called from any thread and process."""

    config: LaneConfig
    state: Path
    clock: Clock = field(default_factory=Clock)
    rng: random.Random = field(default_factory=random.Random)

    def take_video(self) -> None:
        """Returns when the lane may fetch another video. Raises LaneClosed if that takes too long."""
        config = self.config
        now_s = self.clock.now_s()
        if not config.is_limited and self._read(now_s).closed_until_s <= now_s:
            return  # without recording the time: if the clock were set back, the next one would wait for that time
        with self._changing() as change:
            state = _of_today(self._read(now_s), now_s)
            at_s = max(now_s, state.next_video_s, state.closed_until_s, _opens_s(config, state, now_s))
            if at_s - now_s > config.patience_s:
                raise LaneClosed(
                    config.name, state.why if state.closed_until_s == at_s else "its hours", at_s
                )
            gap_s = _gap_s(config.videos_per_hour, state)
            change(replace(state, next_video_s=at_s + gap_s, videos_today=state.videos_today + 1))
        self.clock.sleep_until(at_s + self._jitter_s(gap_s))

    def take_request(self) -> None:
        """Returns when the lane may make another request. Raises LaneClosed if it has been closed."""
        gap_s = _gap_s(self.config.requests_per_hour, LaneState())
        if not gap_s:
            return
        with self._changing() as change:
            now_s = self.clock.now_s()
            state = self._read(now_s)
            if state.closed_until_s > now_s:
                raise LaneClosed(self.config.name, state.why, state.closed_until_s)
            gap_s = gap_s * state.slowdown
            at_s = max(now_s, state.next_request_s)
            change(replace(state, next_request_s=at_s + gap_s))
        self.clock.sleep_until(at_s + self._jitter_s(gap_s))

    def succeeded(self) -> None:
        """Records that a video came through: this vouches for the lane for an hour."""
        now_s = self.clock.now_s()
        state = self._read(now_s)
        if now_s - state.witness_s < WITNESS_STEP_S and not state.refusals:
            return
        with self._changing() as change:
            state = replace(self._read(now_s), witness_s=now_s, refusals=0, breaks=0)
            is_healed = state.closed_until_s + DAY_S <= now_s
            change(replace(state, slowdown=1.0, why="", tool="") if is_healed else state)

    def failed(self, reason: str, tool: str, after_s: float = 0.0) -> None:
        """Records a fault of the lane or the tool: it closes, for at least `after_s`, and returns at half its rate."""
        with self._changing() as change:
            now_s = self.clock.now_s()
            state = self._read(now_s)
            if state.closed_until_s > now_s:
                return  # another thread met the same failure
            refusals = state.refusals + 1
            if reason in ("forbidden", "extractor_broken") and refusals < SUSPECT:
                change(replace(state, refusals=refusals))
                return
            until_s = now_s + max(after_s, _pause_s(reason, state, self.rng))
            change(_closed(replace(state, refusals=refusals, closed_until_s=until_s, why=reason), tool))

    def has_witness(self) -> bool:
        """Whether a video came through within the last hour: then a failing video is itself to blame."""
        now_s = self.clock.now_s()
        return self._read(now_s).witness_s > now_s - HOUR_S

    def opens_s(self) -> float:
        """When the lane opens again, in seconds since 1970; in the past if it is open."""
        now_s = self.clock.now_s()
        state = self._read(now_s)
        return max(state.closed_until_s, _opens_s(self.config, _of_today(state, now_s), now_s))

    def renewed(self, tool: str) -> None:
        """Opens a lane that closed because of another version of the tool than `tool`."""
        with self._changing() as change:
            state = self._read(self.clock.now_s())
            if state.tool and state.tool != tool:
                change(replace(state, closed_until_s=0.0, tool="", why="", refusals=0))

    def _read(self, now_s: float) -> LaneState:
        return _believed(read_state(self.state, self.config.name), self.config, now_s)

    def _jitter_s(self, gap_s: float) -> float:
        # Only ever later, and never by more than a gap: a window of n gaps holds n + 1 requests at most.
        return self.rng.random() * self.config.jitter_share * gap_s

    @contextmanager
    def _changing(self) -> Iterator[Callable[[LaneState], None]]:
        path = _path(self.state, self.config.name)
        make_folder(path.parent)
        with path.with_suffix(".lock").open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield lambda state: write_json(path, asdict(state))


def _pause_s(reason: str, state: LaneState, rng: random.Random) -> float:
    if reason == "extractor_broken":
        return DAY_S
    if reason == "bot_check":
        return min(BREAKER_S * 2**state.breaks, MAX_BREAKER_S)
    return rng.uniform(*COOL_DOWN_S)


def _closed(state: LaneState, tool: str) -> LaneState:
    if state.why == "extractor_broken":
        return replace(state, tool=tool)  # the rate was not the cause
    breaks = state.breaks + (state.why == "bot_check")
    return replace(state, tool="", slowdown=min(2 * state.slowdown, MAX_SLOWDOWN), breaks=breaks)


def _gap_s(per_hour: float, state: LaneState) -> float:
    return HOUR_S * state.slowdown / per_hour if per_hour else 0.0


def _of_today(state: LaneState, now_s: float) -> LaneState:
    today = int(now_s // DAY_S)
    return state if state.day == today else replace(state, day=today, videos_today=0)


def _opens_s(config: LaneConfig, state: LaneState, now_s: float) -> float:
    """The first time from now on that is within the lane's hours and its daily cap."""
    midnight_s = now_s // DAY_S * DAY_S
    first, last = config.hours
    hour = (now_s - midnight_s) / HOUR_S
    if config.videos_per_day and state.videos_today >= config.videos_per_day:
        return midnight_s + DAY_S + HOUR_S * first
    if first <= last:
        inside = first <= hour < last
        opens = first if hour < first else first + 24
    else:
        # Over midnight
        inside = hour >= first or hour < last
        opens = first
    return now_s if inside else midnight_s + HOUR_S * opens


def read_state(state: Path, name: str) -> LaneState:
    """The state of lane `name` in the folder `state`; a fresh one if there is none or it can't be read."""
    try:
        return LaneState(**read_json(_path(state, name), "the lane starts without what it had learnt"))
    except DataError as error:
        log.warning("%s", error)
    except (FileNotFoundError, TypeError):  # TypeError: of another version of this file
        pass
    return LaneState()


def _longest_s(config: LaneConfig) -> float:
    """The longest possible pause of a lane: that of the circuit breaker, or of its own rate at its slowest."""
    rates = [rate for rate in (config.requests_per_hour, config.videos_per_hour) if rate]
    queue_s = (config.concurrency + 1) * HOUR_S * MAX_SLOWDOWN / min(rates) if rates else 0.0
    return max(MAX_BREAKER_S, config.patience_s + queue_s)


def _believed(state: LaneState, config: LaneConfig, now_s: float) -> LaneState:
    """A lane's state, with times that only a wrong clock can have set so far ahead replaced by now."""
    latest_s = now_s + _longest_s(config)
    known = asdict(state)
    ahead = [name for name in TIMES if known[name] > latest_s]
    state = replace(state, **dict.fromkeys(ahead, now_s))
    return replace(state, witness_s=0.0) if state.witness_s > now_s + WITNESS_STEP_S else state


def clock_errors(state: Path, lanes: Sequence[LaneConfig], now_s: float) -> dict[str, float]:
    """The latest time, by lane, that only a wrong clock can have written; seconds since 1970."""
    configs = {one.name: one for one in lanes}
    paths = sorted((state / LANES).glob("*.json"))
    found = {path.stem: read_state(state, path.stem) for path in paths}
    return {
        name: max(getattr(one, time) for time in (*TIMES, "witness_s"))
        for name, one in found.items()
        if _believed(one, configs.get(name, LaneConfig()), now_s) != one
    }


def lane_report(state: Path | None) -> dict[str, dict[str, Any]]:
    """The state of every lane that was ever used, by name, for people and programs; times are ISO texts."""
    paths = sorted((state / LANES).glob("*.json")) if state else []
    now_s = time.time()
    found = {path.stem: read_state(path.parent.parent, path.stem) for path in paths}
    lanes = {name: _believed(one, LaneConfig(), now_s) for name, one in found.items()}
    return {
        name: {
            "closed_until": moment(one.closed_until_s) if one.closed_until_s > now_s else None,
            "why": one.why,
            "slowdown": one.slowdown,
            "videos_today": _of_today(one, now_s).videos_today,
        }
        for name, one in lanes.items()
    }


def moment(at_s: float) -> str:
    """A time as ISO text in UTC."""
    return datetime.fromtimestamp(at_s, UTC).isoformat()


def _path(state: Path, name: str) -> Path:
    return state / LANES / f"{name}.json"
