"""Models with sides that do not learn: their features are computed once, and then training takes seconds."""

from collections.abc import Collection, Generator
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from training.interface import AvcModel
from training.networks.embeddings import pictures
from training.networks.frontend import sounds
from training.networks.precision import autocast
from training.reading.dataset import Dataset
from training.reading.decoding import Batch, load_frames, load_sounds, needed, sound_suffix, timed
from training.reading.sampling import Epoch, Plan, View, even_plan, valid_steps

Side = Literal["image", "audio"]
FEATURES_NDIM = 2  # of a batch's frames or sounds, if they are features already
CLIPS_PER_CALL = 8


class FrozenModel(AvcModel):
    """A model of trunks and heads: `features` of a side, which never change for the `frozen` ones, then `head`."""

    frozen: tuple[Side, ...] = ()

    def features(self, side: Side, inputs: Tensor) -> Tensor:
        """Features that the trunk of a side computes from pictures, or from the front end's output: (B, F)."""
        raise NotImplementedError

    def head(self, side: Side, features_BF: Tensor) -> Tensor:
        """Vectors made of features: (B, D)."""
        raise NotImplementedError


@dataclass(frozen=True)
class Features:
    """Features of every step of every clip, by row and frame; None for a side that learns. In float16."""

    image: Tensor | None
    audio: Tensor | None

    def of(self, side: Tensor | None, plan: Plan) -> Tensor | None:
        """The features of a side for the steps of a plan."""
        return None if side is None else side[plan.rows, plan.frames].float()


@torch.no_grad()
def compute_features(model: FrozenModel, clips: Dataset, *, is_bf16: bool) -> Features:
    """Encodes every step once: centre crop, sound on the frame, in evaluation mode."""
    device = model.calibration.device
    tables = {}
    model.eval()
    for side in model.frozen:
        rows = []
        for start in range(0, len(clips), CLIPS_PER_CALL):
            plan = _every_step(clips, np.arange(start, min(start + CLIPS_PER_CALL, len(clips))), model)
            held = _held(clips, plan, model.view, (side,))
            with autocast(device, is_bf16):
                rows.append((plan, model.features(side, _inputs(model, held, plan, side)).half().cpu()))
        shape = (len(clips), clips.profile.num_frames, rows[0][1].shape[1])
        tables[side] = torch.zeros(shape, dtype=torch.float16)
        for plan, features in rows:
            tables[side][plan.rows, plan.frames] = features
    return Features(tables.get("image"), tables.get("audio"))


def cached_batches(epoch: Epoch, features: Features) -> Generator[Batch, None, None]:
    """The batches of an epoch with features in place of the pictures or sounds that are frozen."""
    dataset = epoch.dataset
    view = epoch.sampling.view
    for plan in epoch:
        # Features exist only for the sound on the frame, not for a moved one.
        still = replace(plan, shifts_ms=np.zeros_like(plan.shifts_ms)) if features.audio is not None else plan
        seen = features.of(features.image, still)
        heard = features.of(features.audio, still)
        sides: dict[Side, Tensor | None] = {"image": seen, "audio": heard}
        held = _held(dataset, still, view, [side for side, known in sides.items() if known is None])
        frames = load_frames(held, still, view) if seen is None else seen
        sound = load_sounds(held, still, view) if heard is None else heard
        yield timed(dataset, still, view, (frames, sound))


def _held(dataset: Dataset, plan: Plan, view: View, sides: Collection[Side]) -> Dataset:
    """The dataset with the members ready that `plan` needs on these sides, in few requests from remote shards."""
    heard = sound_suffix(view)
    members = needed(dataset, plan, view)
    return dataset.holding(
        (row, suffix) for row, suffix in members if ("audio" if suffix == heard else "image") in sides
    )


def _every_step(clips: Dataset, rows: np.ndarray, model: AvcModel) -> Plan:
    plans = []
    for row in rows:
        steps = valid_steps(clips.profile, int(clips.clips.valid_ms[row]), model.view)
        plans.append(replace(even_plan(clips, np.array([row]), len(steps), model.view), frames=steps))
    return Plan(*(np.concatenate([getattr(plan, name) for plan in plans]) for name in vars(plans[0])))


def _inputs(model: AvcModel, clips: Dataset, plan: Plan, side: Side) -> Tensor:
    device = model.calibration.device
    if side == "image":
        return pictures(load_frames(clips, plan, model.view).to(device))
    return model.front_end(sounds(load_sounds(clips, plan, model.view).to(device)))
