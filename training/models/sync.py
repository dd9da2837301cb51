"""Offset between sound and picture: where do movements and onsets fit each other best?

A picture tower looks at differences of frames, a sound tower at rises of the log-mel; both give a vector every
40 ms, and the mean product of the two at each lag from -2 to 2 s is a curve whose peak is the offset. Positive:
the sound is late. 21 classes of 0.2 s as SparseSync and Synchformer count them (Iashin et al. 2022, 2024); the
offset itself is the peak of the curve, refined by a parabola. Deviations from theirs: no transformer over
segments, but a correlation, which needs no training to be equivariant to time and learns from few clips.

The towers are local in time, so position in the window says nothing about the offset; training moves the sound by
up to 2 s either way all the same. B batch, D embedding, H height, W width, T moments of 40 ms, L lags, N steps.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from training.interface import ModelCard, Needs
from training.learning.augment import LUMA, Augmentation
from training.networks.offsets import MAX_LAG, MS_PER_LAG, RATE_HZ, OffsetModel
from training.reading.negatives import Steps
from training.reading.sampling import Sampling, View

SOUND_STRIDE = 4  # columns of the log-mel per moment
TARGET_LAGS = 1.0  # deviation of the soft target: a frame gives no more exact time for an event

TRAINING_OVERRIDES = {
    "sampling": Sampling(16, 1, jitter_ms=2000),
    "validation_steps": 1,
    "validation_clips": 64,  # of 150 frames each
    # The model ignores colour and brightness, and changing them in each of 150 frames costs time.
    "augmentation": Augmentation(brightness=0.0, contrast=0.0, saturation=0.0, hue_turns=0.0, grey_share=0.0),
}

CARD = ModelCard(
    paper=(
        "no single paper: classes of offsets as in SparseSync (Iashin et al. 2022, "
        "https://arxiv.org/abs/2210.07055) and Synchformer (Iashin et al. 2024, "
        "https://arxiv.org/abs/2401.16423)"
    ),
    weights="none ship with mcgurk: all are learnt from the dataset version that a run names",
    input=(
        "150 pictures of 56 px at 25 a second, and 6 s of sound at 16000 Hz, 1 channel, as the stored log-mel"
    ),
    num_parameters=410_945,
)


@dataclass(frozen=True)
class Config:
    """The size of the network, and how much of a clip it sees."""

    width: int = 16
    embedding: int = 32
    frame_px: int = 56
    seconds: int = 6  # of a 10 s clip: room for 2 s either way


PRESETS = {"small": Config(), "large": Config(width=64, embedding=128, frame_px=112)}


def needs(config: Config) -> Needs:
    """Exactly 25 frames/s, and enough sound for it to be moved."""
    length_ms = 1000 * config.seconds + 4000
    return Needs(config.frame_px, frame_rate_hz=RATE_HZ, length_ms=length_ms, is_frame_rate_exact=True)


def build(config: Config) -> "Sync":
    """The model, untrained."""
    return Sync(config)


class Sync(OffsetModel):
    """Two towers, local in time, and the correlation of their outputs."""

    luma: Tensor

    def __init__(self, config: Config) -> None:
        super().__init__(View(config.frame_px, RATE_HZ * config.seconds, sound_ms=1000 * config.seconds))
        self.embedding = config.embedding
        self.register_buffer("luma", torch.tensor(LUMA).view(3, 1, 1))
        width = config.width
        bins = self.front_end.num_bins
        self.seen = nn.Sequential(
            *_flat(2, width, 4), *_flat(width, 2 * width, 2), *_flat(2 * width, 4 * width, 2)
        )
        self.seen_in_time = _temporal(8 * width, 8 * width, config.embedding)
        self.heard = nn.Sequential(*_line(2 * bins, 8 * width, 1), *_line(8 * width, 8 * width, SOUND_STRIDE))
        self.heard_in_time = _temporal(8 * width, 8 * width, config.embedding)
        self.log_scale = nn.Parameter(torch.tensor(10.0).log())

    def encode_image(self, images: Tensor) -> dict[str, Tensor]:
        """`vector` (B, D * T): what moves at each moment, of mean square 1; `map` (B, C, h, w): where."""
        grey_BTHW = (images * self.luma).sum(2)
        change_BTHW = torch.diff(grey_BTHW, dim=1, prepend=grey_BTHW[:, :1])
        # Brightness of the picture and size of the change must not distinguish scenes: both are relative.
        change_BTHW = change_BTHW / change_BTHW.std((1, 2, 3), keepdim=True).clamp_min(1e-3)
        both = torch.stack([change_BTHW, change_BTHW.abs()], 2).flatten(0, 1)
        x = self.seen(both).unflatten(0, images.shape[:2])
        pooled_BCT = torch.cat([x.amax((3, 4)), x.mean((3, 4))], 2).transpose(1, 2)
        return {"vector": _unit(self.seen_in_time(pooled_BCT)).flatten(1), "map": x.mean(1)}

    def encode_audio(self, audio_BFT: Tensor) -> dict[str, Tensor]:
        """`vector` (B, D * T): what begins at each moment, of mean square 1; `map` (B, D, T): the same."""
        normal_BFT = (audio_BFT - self.audio_mean) / self.audio_std
        rise_BFT = torch.diff(normal_BFT, dim=2, prepend=normal_BFT[..., :1]).clamp_min(0)
        x_BDT = _unit(self.heard_in_time(self.heard(torch.cat([normal_BFT, rise_BFT], 1))))
        return {"vector": x_BDT.flatten(1), "map": x_BDT}

    def curve(self, V: Tensor, A: Tensor) -> Tensor:
        """How well each row of V fits the same row of A at every lag from -2 to 2 s: logits (B, L)."""
        v_BDT, a_BDT = (x.float().unflatten(1, (self.embedding, -1)) for x in (V, A))
        moments = v_BDT.shape[2]
        padded_BDT = functional.pad(a_BDT, (MAX_LAG, MAX_LAG))
        products = torch.einsum("bdt,bdlt->bl", v_BDT, padded_BDT.unfold(2, moments, 1))
        overlap_L = moments - torch.arange(-MAX_LAG, MAX_LAG + 1, device=V.device).abs()
        return self.log_scale.exp() * products / overlap_L

    def similarity(self, V: Tensor, A: Tensor) -> Tensor:
        """The mean product of every picture with every sound without a shift, at lag 0: (Nv, Na)."""
        return V.float() @ A.float().T * self.embedding / V.shape[1]

    def paired(self, V: Tensor, A: Tensor) -> Tensor:
        """The mean product of each row of V with the same row of A, at lag 0: (N,)."""
        return (V.float() * A.float()).sum(1) * self.embedding / V.shape[1]

    def loss(self, V: Tensor, A: Tensor, steps: Steps) -> Tensor:
        """Cross-entropy of each step's own curve with a soft target at the lag by which its sound was moved."""
        # A window of sound that begins later contains the same event earlier: the sound is early, the lag negative.
        lag_N = (steps.seen_ms - steps.heard_ms) / MS_PER_LAG
        lags_L = torch.arange(-MAX_LAG, MAX_LAG + 1, device=V.device)
        target_NL = (-((lags_L - lag_N[:, None]) / TARGET_LAGS).square() / 2).softmax(1)
        return functional.cross_entropy(self.curve(V, A), target_NL)

    def chance_loss(self, steps: Steps) -> float:
        """The log of the number of lags."""
        del steps
        return math.log(2 * MAX_LAG + 1)

    def heat(self, image_map_BDHW: Tensor, audio_BD: Tensor) -> Tensor:
        """Where something moves: the mean response of the picture's tower over the window, whatever is heard."""
        del audio_BD
        return image_map_BDHW.mean(1)

    def logged_scalars(self) -> dict[str, float]:
        """The scale of the curve."""
        return {"scale": self.log_scale.exp().item()}


def _unit(x_BDT: Tensor) -> Tensor:
    """Mean 0 over time and norm 1 on average: a constant input fits every lag alike."""
    x_BDT = x_BDT.float()
    x_BDT = x_BDT - x_BDT.mean(2, keepdim=True)
    return x_BDT / x_BDT.square().sum(1, keepdim=True).mean(2, keepdim=True).clamp_min(1e-6).sqrt()


def _flat(channels_in: int, channels: int, stride: int) -> list[nn.Module]:
    kernel = 2 * stride - 1
    conv = nn.Conv2d(channels_in, channels, kernel, stride, kernel // 2, bias=False)
    return [conv, nn.BatchNorm2d(channels), nn.ReLU()]


def _line(channels_in: int, channels: int, stride: int) -> list[nn.Module]:
    conv = nn.Conv1d(channels_in, channels, stride + 4 - stride % 2, stride, 2, bias=False)
    return [conv, nn.BatchNorm1d(channels), nn.ReLU()]


def _temporal(channels_in: int, hidden: int, channels: int) -> nn.Sequential:
    """Sees three moments either way: a movement and its sound are recognised by what comes just before and after."""
    last = nn.Conv1d(hidden, channels, 3, padding=1)
    return nn.Sequential(
        nn.Conv1d(channels_in, hidden, 5, padding=2, bias=False), nn.BatchNorm1d(hidden), nn.ReLU(), last
    )
