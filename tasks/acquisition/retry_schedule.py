"""The retry schedule: whether a failure counts against a segment, whether it is confirmed, and when to try again."""

from datetime import datetime, timedelta
from typing import TypedDict

from schemas.manifest import Row
from schemas.outcome import BUG, ItemError, Outcome, Transient
from tasks.transport.failure_classes import CLASSES, SURE, Fault

LADDER_DAYS = (1, 7, 30, 90, 365)
SETBACK_HOURS = (0, 1, 4, 12, 24)  # for consecutive trouble of the world: at once, then within hours
UNVOUCHED = timedelta(days=1)


class Attempts(TypedDict, total=False):
    """The columns of a clip's row that record its attempts."""

    outcome: str
    attempts: int
    setbacks: int
    charged_at: str | None
    next_attempt_at: str | None


def after_success() -> Attempts:
    """The record of a segment whose clip was fetched: a later loss has to be confirmed from the start."""
    return {"attempts": 0, "setbacks": 0, "next_attempt_at": None}


def after_failure(
    before: Row, error: ItemError | Transient, at: datetime, *, is_vouched: bool, is_local: bool = False
) -> Attempts:
    """The record of a segment after it failed with `error` at `at`.

    Only its own fault counts against it, at most once a day, and only if something vouches for the lane. A defect of a
    file on our own disk (`is_local`) counts at once: no host needs to be checked twice.
    """
    if isinstance(error, ItemError) and (error.reason == BUG or (is_local and error.reason != "removed")):
        verdict = _row(error.outcome, before.get("attempts") or 0, None)
    else:
        verdict = _verdict(before, error, at, is_vouched=is_vouched)
    return {**verdict, "charged_at": verdict.get("charged_at", before.get("charged_at"))}


def _verdict(before: Row, error: ItemError | Transient, at: datetime, *, is_vouched: bool) -> Attempts:
    attempts = before.get("attempts") or 0
    setbacks = before.get("setbacks") or 0
    if isinstance(error, Transient):
        return _unchanged(error, at, attempts, setbacks)
    if not is_vouched:
        return _row(Outcome.WAITING, attempts, at + UNVOUCHED)
    is_new = not _was_charged_today(before, at)
    attempts = attempts + is_new
    charged_at = at.isoformat() if is_new else before["charged_at"]
    is_confirmed = attempts >= CLASSES.get(error.reason, SURE).sightings
    again = at + timedelta(days=LADDER_DAYS[min(attempts, len(LADDER_DAYS)) - 1])
    row = _row(error.outcome if is_confirmed else Outcome.WAITING, attempts, again)
    return {**row, "charged_at": charged_at}


def _unchanged(error: Transient, at: datetime, attempts: int, setbacks: int) -> Attempts:
    if CLASSES[error.reason].fault != Fault.WORLD:
        return {**_row(Outcome.WAITING, attempts, at), "setbacks": setbacks}
    hours = SETBACK_HOURS[min(setbacks, len(SETBACK_HOURS) - 1)]
    return {**_row(Outcome.WAITING, attempts, at + timedelta(hours=hours)), "setbacks": setbacks + 1}


def _row(outcome: Outcome, attempts: int, again: datetime | None) -> Attempts:
    next_attempt_at = again.isoformat() if again else None
    return {"outcome": outcome.value, "attempts": attempts, "setbacks": 0, "next_attempt_at": next_attempt_at}


def _was_charged_today(before: Row, at: datetime) -> bool:
    if not before.get("attempts") or not before.get("charged_at"):
        return False
    return datetime.fromisoformat(before["charged_at"]).date() == at.date()
