"""Models of offsets: what they return, and how an offset is read from it.

A curve says how well a picture fits its sound at each lag from -2 to 2 s; its peak is the offset. Positive: the sound
is late. 21 classes of 0.2 s as SparseSync and Synchformer count them (Iashin et al. 2022, 2024).

B batch, L lags.
"""

import torch
from torch import Tensor
from torch.nn import functional

from training.interface import AvcModel

RATE_HZ = 25  # moments per second: frames, and every fourth column of the log-mel
MAX_LAG = 2 * RATE_HZ
CLASS_LAGS = RATE_HZ // 5  # a class is 0.2 s
NUM_CLASSES = 2 * MAX_LAG // CLASS_LAGS + 1  # 21
MS_PER_LAG = 1000.0 / RATE_HZ


class OffsetModel(AvcModel):
    """A model that learns by how much a sound is late, and not whether it belongs to the picture."""

    learns_offsets = True

    def curve(self, V: Tensor, A: Tensor) -> Tensor:
        """How well each row of V fits the same row of A at every lag from -2 to 2 s: logits (B, L)."""
        raise NotImplementedError


def offset_classes(curves_BL: Tensor) -> Tensor:
    """Log-probabilities of the 21 classes of 0.2 s: (B, 21)."""
    half = CLASS_LAGS // 2
    padded = functional.pad(curves_BL.log_softmax(1), (half, half), value=-torch.inf)
    return padded.unfold(1, CLASS_LAGS, CLASS_LAGS).logsumexp(2)


def offsets_ms(curves_BL: Tensor) -> tuple[Tensor, Tensor]:
    """How late each sound is in ms, and the probability of its class: (B,) and (B,).

    The peak is refined by the parabola through it and its neighbours, if it has two.
    """
    peak_B1 = curves_BL.argmax(1, keepdim=True).clamp(1, curves_BL.shape[1] - 2)
    left, top, right = (curves_BL.gather(1, peak_B1 + k)[:, 0] for k in (-1, 0, 1))
    bend = (left - 2 * top + right).clamp_max(-1e-6)
    refined = ((left - right) / (2 * bend)).clamp(-1, 1)
    offset_ms = (peak_B1[:, 0] - MAX_LAG + refined) * MS_PER_LAG
    class_B1 = (peak_B1 + CLASS_LAGS // 2) // CLASS_LAGS
    return offset_ms, offset_classes(curves_BL).exp().gather(1, class_B1)[:, 0]
