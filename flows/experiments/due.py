"""When a training is due, and which version the last one was started on: kept in the state folder, not on a server."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Literal

from flows.experiments.trainable import missing_to_train
from schemas.files import read_json, write_json
from schemas.shard import Version
from tasks.leases import unread

LAST = "trained.json"
GROWTH = 0.2  # of the samples, since the last version that was trained on
LONGEST = timedelta(days=7)


@dataclass(frozen=True)
class Trained:
    """The training for promotion that was started last."""

    digest: str
    num_samples: int
    begun_at: str
    outcome: Literal["running", "finished", "failed"] = "running"


def last_trained(state: Path) -> Trained | None:
    """The record of the last training, if there was one."""
    path = state / LAST
    return Trained(**read_json(path, "remove it: the next build decides anew")) if path.is_file() else None


@contextmanager
def recorded(state: Path, version: Version) -> Iterator[None]:
    """Records which version is trained on, and how the training ended; after a kill it is still recorded as running."""
    begun = datetime.now(UTC).isoformat(timespec="seconds")
    record = Trained(version.digest, version.num_samples, begun)
    _write(state, record)
    try:
        yield
    finally:
        error = sys.exception()
        if error is None or isinstance(error, Exception):  # others are signals: the next one continues
            _write(state, replace(record, outcome="failed" if error else "finished"))


def why_done(state: Path, version: Version) -> str:
    """Why a version needs no training any more: the last one was on it, and ended. Empty if it needs one."""
    last = last_trained(state)
    if last is None or last.digest != version.digest or last.outcome == "running":
        return ""
    return f"version {version.digest[:12]} was trained on at {last.begun_at}, which {last.outcome}"


def why_due(root: Path, state: Path, version: Version, growth: float, now: datetime) -> str:
    """Why a training on the newest version is due: it is the first, has grown by a share, or a week has passed.

    Empty if none is due: there is too little to train on, or the last training was on it, and was not cut short.
    """
    if not version.shards or missing_to_train(root, version):
        return ""
    last = last_trained(state)
    count = version.num_samples
    if last is None:
        return "no version has been trained on yet"
    if last.digest == version.digest:
        with unread(state, version.digest) as is_unread:
            return "the last training was cut short" if last.outcome == "running" and is_unread else ""
    if count >= (1 + growth) * last.num_samples:
        return f"{count:,} samples instead of {last.num_samples:,}"
    if now - datetime.fromisoformat(last.begun_at) >= LONGEST:
        return f"the last training started at {last.begun_at}"
    return ""


def _write(state: Path, record: Trained) -> None:
    write_json(state / LAST, asdict(record))
