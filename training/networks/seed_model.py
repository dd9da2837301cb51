"""What the networks of the seed papers share: sound input, two trunks, the loss over all pairs, and chance.

Deviations of all three from their papers' training: sounds are moved against their frame by up to 0.1 s instead of 1
s (`Sampling.jitter_ms`), by one law for matching and other pairs as there; hue, grey, contrast, spectral tilt and
masks are augmented beside brightness, saturation and loudness (6 dB instead of 10 %); AdamW at 3e-3 with weight decay
0.05 instead of Adam with 1e-5, at 1e-4 in 2017 (2018 prints no rate); warm-up and half a cosine instead of a rate
that falls by 0.94 every 16 epochs (2018); batches of 128 instead of 256 (2017) and 2,048 (2018); gradients are
clipped to norm 1; weights are averaged; the loss takes all pairs of a batch instead of as many matching as other ones,
with the same weight. `TrainConfig` and `Augmentation` can have the papers' numbers.

B batch, C channels, F frequency, T time, N steps.
"""

from typing import Literal

import torch
from torch import Tensor, nn

from schemas.waveforms import SAMPLE_RATE_HZ
from training.interface import AvcModel
from training.networks import losses
from training.networks.frontend import LogSpectrogram
from training.networks.trunks import SeedTrunks
from training.reading.negatives import Steps
from training.reading.sampling import View

SoundInput = Literal["log_mel", "spectrogram"]  # as stored, or the papers' 257 bins of waves at 48 kHz
RATE_HZ: dict[SoundInput, int] = {"log_mel": SAMPLE_RATE_HZ, "spectrogram": 48_000}


class SeedModel(AvcModel):
    """A pair of `vgg` trunks whose vectors are judged by the two-way cross-entropy over the full combination."""

    is_centred: Tensor

    def __init__(self, width: int, stem_stride: int, frame_px: int, front_end: SoundInput) -> None:
        if front_end == "spectrogram":
            super().__init__(View(frame_px, sound="wave"), LogSpectrogram(RATE_HZ[front_end]))
        else:
            super().__init__(View(frame_px))
        self.trunks = SeedTrunks(width, stem_stride)
        self.register_buffer("is_centred", torch.tensor(False))

    def heard(self, spectrogram_BFT: Tensor) -> Tensor:
        """The map (B, C, f, t) of the trunk for sound, of the standardized output of the front end."""
        return self.trunks.audio((spectrogram_BFT - self.audio_mean) / self.audio_std)

    def loss(self, V: Tensor, A: Tensor, steps: Steps) -> Tensor:
        """Cross-entropy over all pairs."""
        self.centre(V, A)
        return losses.pairs(self.similarity(V, A), steps.negatives)

    def centre(self, V: Tensor, A: Tensor) -> None:
        """Adjusts the `centred_bias`, if there is one, to a training's first batch, so that chance is at logit 0."""
        bias = self.centred_bias()
        if bias is not None and self.training and not self.is_centred:
            with torch.no_grad():
                bias.sub_(self.similarity(V, A).mean())
                self.is_centred.fill_(True)

    def centred_bias(self) -> nn.Parameter | None:
        """The bias that puts half of the pairs of the first batch on either side of the threshold."""
        return None

    def chance_loss(self, steps: Steps) -> float:
        """ln 2, or 0 without negatives."""
        return losses.two_way_chance(steps.negatives)
