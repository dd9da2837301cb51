"""The state of a root, measured: the funnel, its story, availability, pace, lanes, and what is due when."""

from collections import Counter
from datetime import datetime
from pathlib import Path
from typing import Any

from schemas.layout import CLIPS, SEGMENTS
from schemas.shard import latest_digest, read_version
from tasks.acquisition.availability import COLUMNS, availability
from tasks.acquisition.recheck import gone
from tasks.columns import Once
from tasks.failures import left_out
from tasks.funnel import FATE, count_fates, main_loss
from tasks.standing import num_kept
from tasks.story import losses, story
from tasks.transport.lanes import lane_report


def measure_status(root: Path, state: Path | None, now: datetime, command: str) -> dict[str, Any]:
    """Funnel, latest version, availability, pace, lanes and what is due; `reason` says why there is no sample.

    `story` says it in sentences, with the `command` that continues. The root must have segments.
    """
    wanted = {SEGMENTS: ("row", "labels", *FATE), CLIPS: tuple(dict.fromkeys((*FATE, *COLUMNS)))}
    with Once(wanted, state / "looked" if state else None) as read:
        status: dict[str, Any] = {**count_fates(root, read), "dataset_version": latest_digest(root)}
        status["is_emptied"] = bool(status["dataset_version"]) and not read_version(root).shards
        status["kept"] = num_kept(root)
        status["gone_at_source"] = dict(Counter(one.reason for one in gone(state))) if state else {}
        status["left_out"] = list(left_out(root, state).values())
        status["reason"] = "" if status["in_shards"] else main_loss(root)
        status |= {**availability(root, now, read), "lanes": lane_report(state)}
        return {**status, "story": story(status, losses(root, state, status, read), command)}
