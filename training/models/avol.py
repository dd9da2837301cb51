"""AVOL-Net (Arandjelovic & Zisserman, Objects that Sound, ECCV 2018, section 4): which place in the picture sounds?

Figure 4: the picture's map goes through conv5 (512 to 128) and conv6 (128 to 128), both 1x1, and keeps its places;
the sound's vector is AVE-Net's without normalisation. The scalar product at each place goes through conv7 (a scale
and a bias), and the largest of the places says whether the two belong together. Deviations: ReLU after conv5, as
after fc1, which the figure leaves open; the sigmoid comes after the maximum, where it gives the same; `proj_bn`
as in AVE-Net; `Config()` is the quarter-width, 112 px network that CPUs train.

N pictures, M sounds, B batch, C channels, D embedding, P places (h x w), H height, W width, F frequency, T time.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from training import losses
from training.models import AvcModel, Needs
from training.models.ave import projection
from training.trunks import SeedTrunks

PRODUCTS_AT_ONCE = 1 << 26  # of places with sounds: 256 MB of float32


@dataclass(frozen=True)
class Config:
    """The size of the network."""

    width: int = 16  # of the first pair of convolutions; the paper's is 64
    embedding: int = 128
    stem_stride: int = 2
    proj_bn: bool = True
    frame_px: int = 112


PRESETS = {"small": Config(), "paper": Config(width=64, proj_bn=False, frame_px=224)}


def needs(config: Config) -> Needs:
    """Frames with room for a random crop."""
    return Needs(frame_short_side_px=config.frame_px)


def build(config: Config) -> "Avol":
    """The model, untrained."""
    return Avol(config)


class Avol(AvcModel):
    """A picture is all its places: its `vector` is the map in a row, because no shorter one scores a pair."""

    is_centred: Tensor

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.frame_px, self.embedding = config.frame_px, config.embedding
        self.trunks = SeedTrunks(config.width, config.stem_stride)
        norm = [nn.BatchNorm2d(config.embedding)] if config.proj_bn else []
        self.image_head = nn.Sequential(
            nn.Conv2d(8 * config.width, config.embedding, 1),
            *norm,
            nn.ReLU(),
            nn.Conv2d(config.embedding, config.embedding, 1),
        )
        self.audio_head = projection(8 * config.width, config.embedding, proj_bn=config.proj_bn)
        self.conv7_weight = nn.Parameter(torch.tensor([config.embedding**-0.5]))  # products of unit variance
        self.conv7_bias = nn.Parameter(torch.zeros(1))
        self.register_buffer("is_centred", torch.tensor(False))

    def encode_image(self, images_BCHW: Tensor) -> dict[str, Tensor]:
        """`map` (B, D, h, w) and the same as `vector` (B, D * h * w)."""
        map_BDHW = self.image_head(self.trunks.image(images_BCHW)).float()
        return {"vector": map_BDHW.flatten(1), "map": map_BDHW}

    def encode_audio(self, log_mel_BMT: Tensor) -> dict[str, Tensor]:
        """`vector` (B, D); `map` (B, C, t): the trunk's largest response at each moment."""
        x_BCFT = self.trunks.audio((log_mel_BMT - self.audio_mean) / self.audio_std)
        return {"vector": self.audio_head(x_BCFT.amax((2, 3))).float(), "map": x_BCFT.amax(2)}

    def similarity(self, V: Tensor, A: Tensor) -> Tensor:
        """The logit of the best place of every pair: (Nv, Na)."""
        return self.conv7_weight * self._best(V, A) + self.conv7_bias

    def heat(self, image_map_BDHW: Tensor, audio_BD: Tensor) -> Tensor:
        """The logit of every place: (B, h, w)."""
        return self.conv7_weight * torch.einsum("bdhw,bd->bhw", image_map_BDHW, audio_BD) + self.conv7_bias

    def loss(self, V: Tensor, A: Tensor, videos_N: Tensor) -> Tensor:
        """Cross-entropy over all pairs; the first batch sets where chance stands."""
        if self.training and not self.is_centred:
            with torch.no_grad():
                self.conv7_bias.fill_(-float(self.conv7_weight * self._best(V, A).mean()))
                self.is_centred.fill_(True)
        return losses.pairs(self.similarity(V, A), videos_N)

    def chance_loss(self, videos_N: Tensor) -> float:
        """ln 2."""
        del videos_N
        return math.log(2)

    def watched(self) -> dict[str, float]:
        """conv7's scale."""
        return {"conv7_weight": self.conv7_weight.item()}

    def _best(self, V: Tensor, A: Tensor) -> Tensor:
        """The largest product of any place: (Nv, Na), a block of pictures at a time."""
        places_NPD = V.unflatten(1, (self.embedding, -1)).transpose(1, 2)
        block = max(1, PRODUCTS_AT_ONCE // (places_NPD.shape[1] * len(A)))
        return torch.cat([(some @ A.T).amax(1) for some in places_NPD.split(block)])
