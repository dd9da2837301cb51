"""Every clip encoded once: the vectors that validation and all evaluations share."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from training import frontend
from training.data import Dataset
from training.decoding import load_batch
from training.models import AvcModel
from training.negatives import Negatives, Steps
from training.precision import autocast
from training.sampling import Sampling, even_plan, moved

CLIPS_PER_CALL = 32
SINGLE_NDIM = 4  # of batches whose steps show one picture each


@dataclass(frozen=True)
class Embeddings:
    """Vectors of S evenly spaced steps of n clips; `rows` are the dataset's."""

    image: Tensor  # (n, S, D)
    audio: Tensor  # (n, S, D)
    rows: np.ndarray
    videos: np.ndarray  # (n,)
    classes: np.ndarray  # (n,): of the first label, -1 without one
    frames: np.ndarray  # (n, S): which frame each step is
    seen_ms: Tensor  # (n, S): when it is
    heard_ms: Tensor  # (n, S): when the sound is: the same, but where it was moved

    @property
    def num_steps(self) -> int:
        """Steps per clip."""
        return self.image.shape[1]

    def steps(self, policy: Negatives) -> Steps:
        """What the n * S steps are, in the order of the vectors, for a loss."""
        clips, videos, classes = (
            torch.from_numpy(numbers).repeat_interleave(self.num_steps)
            for numbers in (self.rows, self.videos, self.classes)
        )
        return Steps(clips, videos, classes, self.seen_ms.flatten(), self.heard_ms.flatten(), policy)


@torch.inference_mode()
def embed(
    model: AvcModel,
    dataset: Dataset,
    num_steps: int,
    *,
    is_bf16: bool = False,
    moving: Sampling | None = None,
) -> Embeddings:
    """The clips' vectors in evaluation mode: centre crop, sound on the frame, nothing random.

    Sounds are moved by the law of `moving` where it is given. The model is left in the mode it was in.
    """
    model.require(dataset.profile)
    was_training, device = model.training, next(model.parameters()).device
    model.eval()
    images, sounds, frames, times_ms = [], [], [], []
    for start in range(0, len(dataset), CLIPS_PER_CALL):
        rows = np.arange(start, min(start + CLIPS_PER_CALL, len(dataset)))
        plan = even_plan(dataset, rows, num_steps, model.view)
        plan = moved(dataset, plan, moving, start) if moving else plan
        batch = load_batch(dataset, plan, model.view).to(device)
        with autocast(device, is_bf16):
            images.append(model.encode_image(pictures(batch.frames))["vector"].float().cpu())
            sounds.append(
                model.encode_audio(model.front_end(frontend.sounds(batch.sound)))["vector"].float().cpu()
            )
        frames.append(plan.frames)
        times_ms.append(torch.stack([batch.seen_ms, batch.heard_ms]).cpu())
    model.train(was_training)
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


def pictures(frames: Tensor) -> Tensor:
    """uint8 pixels as pictures in [0, 1]; single ones in the memory order that convolutions like."""
    images = frames.float() / 255
    return images.contiguous(memory_format=torch.channels_last) if images.ndim == SINGLE_NDIM else images
