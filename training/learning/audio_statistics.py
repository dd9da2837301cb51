"""What a model must know of the corpus before it learns: mean and deviation of what it hears."""

import numpy as np
import torch

from schemas.waveforms import HOP_MS
from training.interface import AvcModel
from training.networks.frontend import sounds
from training.reading.dataset import Dataset
from training.reading.decoding import sound_suffix

NUM_CLIPS = 256
LEAST_DEVIATION = 0.1  # a bin that never changes carries nothing: it may not be blown up either


@torch.no_grad()
def learn_sound_statistics(model: AvcModel, dataset: Dataset) -> None:
    """Mean and deviation of each bin of the front end over the valid sound of some clips, as the model's buffers."""
    rows = np.linspace(0, len(dataset) - 1, min(NUM_CLIPS, len(dataset))).astype(int)
    dataset = dataset.holding((row, sound_suffix(model.view)) for row in rows.tolist())
    total = torch.zeros(3, model.front_end.num_bins, dtype=torch.float64)  # count, sum, sum of squares
    for row in rows.tolist():
        heard_FT = model.front_end(sounds(_valid_sound(dataset, row, model))[None])[0].double()
        total += torch.stack([torch.ones_like(heard_FT).sum(1), heard_FT.sum(1), heard_FT.square().sum(1)])
    mean, square = total[1:] / total[0]
    least = LEAST_DEVIATION if model.front_end.is_spectrum else 1e-4  # waves are quiet numbers
    model.audio_mean.copy_(mean[:, None])
    model.audio_std.copy_((square - mean.square()).clamp_min(least**2).sqrt()[:, None])


def _valid_sound(dataset: Dataset, row: int, model: AvcModel) -> torch.Tensor:
    valid_ms = int(dataset.clips.valid_ms[row])
    if model.view.sound == "log_mel":
        return torch.from_numpy(dataset.log_mel(row)[:, : valid_ms // HOP_MS].astype(np.float32))
    return torch.from_numpy(dataset.wave(row)[:, : valid_ms * dataset.profile.sample_rate_hz // 1000].copy())
