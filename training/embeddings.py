"""Every clip encoded once: the vectors that validation and all evaluations share."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from training.data import Dataset
from training.models import AvcModel
from training.precision import autocast
from training.sampling import even_plan, load_batch

CLIPS_PER_CALL = 32


@dataclass(frozen=True)
class Embeddings:
    """Vectors of S evenly spaced steps of n clips; `rows` are the dataset's."""

    image: Tensor  # (n, S, D)
    audio: Tensor  # (n, S, D)
    rows: np.ndarray
    videos: np.ndarray  # (n,)
    frames: np.ndarray  # (n, S): which frame each step is

    @property
    def num_steps(self) -> int:
        """Steps per clip."""
        return self.image.shape[1]


@torch.inference_mode()
def embed(model: AvcModel, dataset: Dataset, num_steps: int, *, is_bf16: bool = False) -> Embeddings:
    """The clips' vectors in evaluation mode: centre crop, sound on the frame, nothing random.

    The model is left in the mode it was in.
    """
    was_training, device = model.training, next(model.parameters()).device
    model.eval()
    images, sounds, frames = [], [], []
    for start in range(0, len(dataset), CLIPS_PER_CALL):
        rows = np.arange(start, min(start + CLIPS_PER_CALL, len(dataset)))
        plan = even_plan(dataset, rows, num_steps)
        batch = load_batch(dataset, plan, model.frame_px).to(device)
        with autocast(device, is_bf16):
            images.append(model.encode_image(pictures(batch.frames))["vector"].float().cpu())
            sounds.append(model.encode_audio(batch.log_mel)["vector"].float().cpu())
        frames.append(plan.frames)
    model.train(was_training)
    shape = (len(dataset), num_steps, -1)
    image, audio = torch.cat(images).reshape(shape), torch.cat(sounds).reshape(shape)
    return Embeddings(
        image, audio, np.arange(len(dataset)), dataset.videos, np.concatenate(frames).reshape(shape[:2])
    )


def pictures(frames_BCHW: Tensor) -> Tensor:
    """uint8 pixels as pictures in [0, 1], in the memory order that convolutions like."""
    return (frames_BCHW.float() / 255).contiguous(memory_format=torch.channels_last)
