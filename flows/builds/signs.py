"""Signs of trouble: an open breaker of a lane, far fewer videos than usual that come through, a gate that refuses.

Each is reported once when it starts and once when it ends. What has been reported is recorded in the state folder, so
that neither the next build nor a restart reports it again.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from flows.services.receivers import Message
from schemas.files import read_json, write_json
from schemas.layout import CLIPS, LANES, SIGNS
from schemas.manifest import part_numbers
from tasks.columns import read_columns
from tasks.leases import lease
from tasks.transport.failure_classes import hint
from tasks.transport.lanes import LaneState, moment, read_state

# pyarrow.compute makes its functions when it is imported: a type checker cannot see them.
# pyright: reportAttributeAccessIssue=false

REMEDY = "remove it: what fails now is reported once more"
PASSING = ("rate_limited", "its hours")  # a lane recovers from these by itself, at half its rate
RECENT = timedelta(days=1)
LEAST = 20  # videos: fewer prove nothing
DROPPED = 0.5  # of the usual share
RESTORED = 0.75
PROMOTION = "promotion to champion"


@dataclass(frozen=True)
class Sign:
    """Something that fails or works: what it is about, whether it fails, and the evidence with a remedy."""

    about: str
    is_failing: bool
    text: str


def news(root: Path, state: Path, now: datetime) -> list[Message]:
    """What a build finds that started to fail, or works again, since the last call; it is recorded as reported."""
    return _changes(root, state, now, lambda known: [*_lanes(state, known), *_availability(root, now)])


def verdict_news(root: Path, state: Path, now: datetime, refusal: str) -> list[Message]:
    """The same for the gate's verdict on a model: `refusal` says why it was refused; empty for a new champion."""
    return _changes(
        root, state, now, lambda known: [Sign(PROMOTION, bool(refusal), refusal or "there is a new champion")]
    )


def _changes(
    root: Path, state: Path, now: datetime, find: Callable[[Mapping[str, str]], Iterable[Sign]]
) -> list[Message]:
    """Messages about what is new in the signs from `find`, which gets what is known to fail, and since when."""
    path = state / SIGNS
    messages = []
    with lease(state, "signs"):  # a build and a training may end at the same time
        known: dict[str, str] = read_json(path, REMEDY) if path.is_file() else {}
        failing = dict(known)
        for sign in find(known):
            if sign.is_failing and sign.about not in known:
                failing[sign.about] = now.isoformat(timespec="seconds")
                messages.append(_message(sign, "fails", failing[sign.about], root))
            elif not sign.is_failing and sign.about in known:
                messages.append(_message(sign, "works again", failing.pop(sign.about), root))
        if failing != known:
            write_json(path, failing)
    return messages


def _message(sign: Sign, what: str, since: str, root: Path) -> Message:
    body = (
        f"What: {sign.about} {what}\nSince: {since}\nEvidence: {sign.text}\nNext: mcgurk status --root {root}"
    )
    return Message(f"mcgurk: {sign.about} {what}", body)


def _lanes(state: Path, known: Mapping[str, str]) -> Iterator[Sign]:
    """Lanes that are closed by what does not pass by itself, and those that have fetched a video after that."""
    now_s = time.time()
    for path in sorted((state / LANES).glob("*.json")):
        lane = read_state(state, path.stem)
        about = f"lane {path.stem}"
        if lane.closed_until_s > now_s and lane.why not in PASSING:
            until = moment(lane.closed_until_s)[:16]
            yield Sign(about, True, f"{lane.why}, closed until {until} UTC{hint(lane.why)}")
        elif about in known and _is_back(lane, known[about]):
            yield Sign(about, False, f"a video came through at {moment(lane.witness_s)[:16]} UTC")


def _is_back(lane: LaneState, since: str) -> bool:
    return lane.witness_s > max(lane.closed_until_s, datetime.fromisoformat(since).timestamp())


def _availability(root: Path, now: datetime) -> Iterator[Sign]:
    """The share of videos first tried in the last day that came through, compared with that of all earlier ones."""
    clips = read_columns(root / CLIPS, part_numbers(root / CLIPS), ("outcome", "attempts", "tried_at"))
    attempts = pc.fill_null(clips["attempts"], 0)
    is_there = pc.equal(clips["outcome"], "ok")
    # What the network or a lane did to a video says nothing about the video: that is reported elsewhere.
    is_judged = pc.and_(pc.is_valid(clips["tried_at"]), pc.or_(is_there, pc.greater(attempts, 0)))
    since = (now - RECENT).isoformat()
    is_first = pc.and_(
        pc.less_equal(attempts, 1), pc.greater_equal(pc.fill_null(clips["tried_at"], ""), since)
    )
    recent = is_there.filter(pc.and_(is_judged, is_first))
    before = is_there.filter(pc.and_(is_judged, pc.invert(is_first)))
    if min(len(recent), len(before)) < LEAST:
        return
    share = _share(recent)
    usual = _share(before)
    text = (
        f"{share:.0%} of {len(recent):,} videos first tried in the last day came through; {usual:.0%} before"
    )
    if share < DROPPED * usual or share >= RESTORED * usual:
        yield Sign("availability", share < DROPPED * usual, text)


def _share(flags: pa.ChunkedArray) -> float:
    return pc.sum(flags).as_py() / len(flags)
