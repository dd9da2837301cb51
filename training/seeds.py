"""What the networks of the seed papers share: two trunks, the loss over all pairs, and where chance stands.

B batch, C channels, M mel bins, F frequency, T time, N steps.
"""

import math

import torch
from torch import Tensor, nn

from training import losses
from training.models import AvcModel
from training.negatives import Steps
from training.sampling import View
from training.trunks import SeedTrunks


class SeedModel(AvcModel):
    """A pair of `vgg` trunks whose vectors are judged by the two-way cross-entropy over the full combination."""

    is_centred: Tensor

    def __init__(self, width: int, stem_stride: int, frame_px: int) -> None:
        super().__init__(View(frame_px))
        self.trunks = SeedTrunks(width, stem_stride)
        self.register_buffer("is_centred", torch.tensor(False))

    def heard(self, log_mel_BMT: Tensor) -> Tensor:
        """The hearing trunk's map (B, C, f, t) of a log-mel, standardized."""
        return self.trunks.audio((log_mel_BMT - self.audio_mean) / self.audio_std)

    def loss(self, V: Tensor, A: Tensor, steps: Steps) -> Tensor:
        """Cross-entropy over all pairs; the first batch sets where chance stands, if there is a `centred_bias`."""
        bias = self.centred_bias()
        if bias is not None and self.training and not self.is_centred:
            with torch.no_grad():
                bias.sub_(self.similarity(V, A).mean())
                self.is_centred.fill_(True)
        return losses.pairs(self.similarity(V, A), steps.negatives)

    def centred_bias(self) -> nn.Parameter | None:
        """The bias of the decision that half of the first batch's pairs should fall on either side of."""
        return None

    def chance_loss(self, steps: Steps) -> float:
        """ln 2."""
        del steps
        return math.log(2)
