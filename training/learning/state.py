"""Where a training stands: its clock, and the state that lets another process go on as if nothing had happened."""

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from training.networks.checkpoint import read_checkpoint, require_same

LAST = "last.pt"
BEST = "best.pt"
# Settings that change where and how a training runs, and nothing of what it computes.
FREE = ("device", "num_threads", "reader_threads", "checkpoint_s", "is_deterministic")


@dataclass
class Progress:
    """All that a training remembers besides weights and optimizer.

    It has no state of random numbers: every one is a function of (seed, epoch, batch, clip), so the position is
    that state, on any number of ranks.
    """

    step: int = 0
    epoch: int = 0
    batch: int = 0  # of the epoch: the next one
    seconds: float = 0.0
    validations: int = 0
    best: float = -np.inf  # validation AUC, or less the loss of a model of offsets
    waited: int = 0  # validations since then
    has_probed: bool = False  # its towers, because nothing was learnt
    relative_losses: list[float] = field(default_factory=list)  # of each step: loss over chance loss


class Clock:
    """How much of the budget is spent, in steps or in seconds; what an earlier process spent counts."""

    def __init__(self, steps: int | None, seconds: float | None, spent_s: float) -> None:
        self._steps = steps
        self._seconds = seconds
        self._begin = time.monotonic() - spent_s

    @property
    def seconds(self) -> float:
        """Since the training began."""
        return time.monotonic() - self._begin

    def progress(self, step: int) -> float:
        """0 to 1, after `step` steps."""
        if self._steps is not None:
            return min(1.0, step / self._steps)
        return min(1.0, self.seconds / (self._seconds or 1.0))


def facts_of(config: Any, lineage: str, progress: Progress, tensors: dict[str, Any]) -> dict[str, Any]:
    """What a checkpoint to resume from holds beside the weights."""
    return {"train": asdict(config), "lineage": lineage, "progress": vars(progress), **tensors}


def read_last(path: Path, ours: Mapping[str, Mapping[str, Any]]) -> dict[str, Any] | None:
    """The checkpoint to resume from; None where there is none.

    `ours`: what it must have been trained as, the maps `model`, `front end`, `setting` and `dataset`. Raises
    ResumeError, with both values, where it was not.
    """
    if not path.is_file():
        return None
    content = read_checkpoint(path)
    facts = content["facts"]
    theirs = {
        "model": {"name": content["model"], **content["config"]},
        "front end": content["front_end"],
        "setting": bound(facts["train"]),
        "dataset": {"lineage": facts["lineage"]},
    }
    for what in theirs:
        require_same(path, what, theirs[what], ours[what])
    return content


def bound(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that what a training computes depends on."""
    return {name: value for name, value in settings.items() if name not in FREE}
