"""Every clip encoded once: the vectors that validation and all evaluations share, and the scores of all pairs."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from training.interface import AvcModel
from training.networks import frontend
from training.networks.precision import autocast
from training.reading.dataset import Dataset
from training.reading.decoding import load_batch, load_sounds, sound_suffix
from training.reading.negatives import Negatives, Steps
from training.reading.sampling import Plan, Sampling, View, even_plan, moved

CLIPS_PER_CALL = 32
PICTURES_AT_ONCE = 64  # against all sounds: for L3-Net, 160 MB of hidden units for 5,000 clips
SINGLE_NDIM = 4  # of batches whose steps show one picture each


@dataclass(frozen=True)
class Embeddings:
    """Vectors of S evenly spaced steps of n clips; `rows` are those of the dataset."""

    image: Tensor  # (n, S, D)
    audio: Tensor  # (n, S, D)
    rows: np.ndarray
    videos: np.ndarray  # (n,)
    classes: np.ndarray  # (n,): of the first label, -1 without one
    frames: np.ndarray  # (n, S): index of the frame of each step
    seen_ms: Tensor  # (n, S): time of the picture
    heard_ms: Tensor  # (n, S): time of the sound, the same unless it was moved

    @property
    def num_steps(self) -> int:
        """Steps per clip."""
        return self.image.shape[1]

    def steps(self, policy: Negatives) -> Steps:
        """The n * S steps in the order of the vectors, for a loss."""
        clips, videos, classes = (
            torch.from_numpy(numbers).repeat_interleave(self.num_steps)
            for numbers in (self.rows, self.videos, self.classes)
        )
        return Steps(clips, videos, classes, self.seen_ms.flatten(), self.heard_ms.flatten(), policy)


@torch.inference_mode()
def embed(model: AvcModel, dataset: Dataset, num_steps: int, *, is_bf16: bool = False) -> Embeddings:
    """The clips' vectors in evaluation mode: centre crop, sound on the frame, nothing random.

    The model is left in its previous mode.
    """
    model.require(dataset.profile)
    device = next(model.parameters()).device
    images = []
    sounds = []
    frames = []
    times_ms = []
    with _evaluating(model), autocast(device, is_bf16):
        for plan in _plans(dataset, num_steps, model.view):
            batch = load_batch(dataset, plan, model.view).to(device)
            images.append(model.encode_image(pictures(batch.frames))["vector"].float().cpu())
            sounds.append(_heard(model, batch.sound))
            frames.append(plan.frames)
            times_ms.append(torch.stack([batch.seen_ms, batch.heard_ms]).cpu())
    shape = (len(dataset), num_steps)
    seen_ms, heard_ms = torch.cat(times_ms, 1).reshape(2, *shape)
    return Embeddings(
        image=torch.cat(images).reshape(*shape, -1),
        audio=torch.cat(sounds).reshape(*shape, -1),
        rows=np.arange(len(dataset)),
        videos=dataset.videos,
        classes=dataset.classes,
        frames=np.concatenate(frames).reshape(shape),
        seen_ms=seen_ms,
        heard_ms=heard_ms,
    )


@torch.inference_mode()
def hear_moved(
    model: AvcModel, dataset: Dataset, still: Embeddings, moving: Sampling, *, is_bf16: bool = False
) -> Embeddings:
    """The embeddings `still` of these clips, with their sounds moved as the sampling `moving` does."""
    device = next(model.parameters()).device
    sounds = []
    shifts_ms = []
    with _evaluating(model), autocast(device, is_bf16):
        for number, plan in enumerate(_plans(dataset, still.num_steps, model.view)):
            plan = moved(dataset, plan, moving, number)
            held = dataset.holding((row, sound_suffix(model.view)) for row in plan.rows.tolist())
            sounds.append(_heard(model, load_sounds(held, plan, model.view).to(device)))
            shifts_ms.append(torch.from_numpy(plan.shifts_ms))
    late_ms = torch.cat(shifts_ms).view_as(still.seen_ms)
    return replace(
        still, audio=torch.cat(sounds).view_as(still.audio), heard_ms=(still.seen_ms + late_ms).float()
    )


@torch.inference_mode()
def clip_scores(model: AvcModel, encoded: Embeddings) -> np.ndarray:
    """The mean logit of each clip's pictures with each clip's sounds, step by step: float64 (n, n)."""
    device = model.calibration.device
    total = np.zeros((len(encoded.rows), len(encoded.rows)))
    for step in range(encoded.num_steps):
        V = encoded.image[:, step].to(device)
        A = encoded.audio[:, step].to(device)
        blocks = [model.score(some, A).double().cpu() for some in V.split(PICTURES_AT_ONCE)]
        total += torch.cat(blocks).numpy()
    return total / encoded.num_steps


def _plans(dataset: Dataset, num_steps: int, view: View) -> Iterator[Plan]:
    """Evenly spaced steps, for some clips at a time."""
    for rows in np.array_split(np.arange(len(dataset)), range(CLIPS_PER_CALL, len(dataset), CLIPS_PER_CALL)):
        yield even_plan(dataset, rows, num_steps, view)


def _heard(model: AvcModel, sound: Tensor) -> Tensor:
    return model.encode_audio(model.front_end(frontend.sounds(sound)))["vector"].float().cpu()


@contextmanager
def _evaluating(model: AvcModel) -> Iterator[None]:
    """The model in evaluation mode, restored to its previous mode afterwards."""
    was_training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(was_training)


def pictures(frames: Tensor) -> Tensor:
    """uint8 pixels as pictures in [0, 1]; single ones with channels last, which makes convolutions fast."""
    images = frames.float() / 255
    return images.contiguous(memory_format=torch.channels_last) if images.ndim == SINGLE_NDIM else images
