"""The state of a training: its clock, and what another process needs to resume it."""

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from training.networks.checkpoint import Checkpoint, read_checkpoint, require_same

LAST = "last.pt"
BEST = "best.pt"
# Settings that change where and how a training runs, but not what it computes.
FREE = ("device", "num_threads", "reader_threads", "checkpoint_s", "is_deterministic")


@dataclass
class Progress:
    """The state of a training besides weights and optimizer.

    Random numbers need no state: each is a function of (seed, epoch, batch, clip), so the position is that state, on
    any number of ranks.
    """

    step: int = 0
    epoch: int = 0
    batch: int = 0  # the next one of the epoch
    seconds: float = 0.0
    validations: int = 0
    best: float = -np.inf  # validation AUC, or the negative loss of a model of offsets
    waited: int = 0  # validations since then
    has_probed: bool = False  # whether its towers were probed, because nothing was learnt
    relative_losses: list[float] = field(default_factory=list)  # of each step: loss over chance loss


class Clock:
    """How much of the budget is spent, in steps or in seconds, including earlier processes."""

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
    """The facts of a checkpoint to resume from: everything that it holds besides the weights."""
    return {"train": asdict(config), "lineage": lineage, "progress": vars(progress), **tensors}


def read_last(path: Path, ours: Mapping[str, Mapping[str, Any]]) -> Checkpoint | None:
    """The checkpoint to resume from; None if there is none.

    `ours` has the mappings `model`, `front end`, `setting` and `dataset` of this training. Raises ResumeError, with
    both values, if the checkpoint has others.
    """
    if not path.is_file():
        return None
    content = read_checkpoint(path)
    facts = content["facts"]
    theirs = {
        "model": {"name": content["model"], **content["config"]},
        "front end": content["front_end"],
        "setting": binding_settings(facts["train"]),
        "dataset": {"lineage": facts["lineage"]},
    }
    for what in theirs:
        require_same(path, what, theirs[what], ours[what])
    return content


def binding_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that the result of a training depends on."""
    return {name: value for name, value in settings.items() if name not in FREE}
