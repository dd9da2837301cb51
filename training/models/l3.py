"""L3-Net (Arandjelovic & Zisserman, Look, Listen and Learn, ICCV 2017): two trunks and a small judge of their sum.

Section 2.1 and figure 2; the layer table is that of Objects that Sound (2018), figure 2a-c. Deviations: the two-way
softmax is one logit (its difference), which has the same loss; `Config()` is the quarter-width, 112 px network
that CPUs train, on the stored log-mel. `PRESETS["paper"]` has the paper's size and hears its 257-bin spectrogram of
48 kHz (profile `seed`), `PRESETS["spectrogram"]` is the small network on that. What differs in training (jitter,
augmentation, optimizer, schedule) stands in `training/networks/seed_model.py`.

N pictures, M sounds, B batch, C channels, H height, W width, F frequency, T time, D hidden units.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from training.interface import ModelCard, Needs
from training.networks.seed_model import RATE_HZ, SeedModel, SoundInput
from training.networks.trunks import everywhere

CARD = ModelCard(
    paper=(
        "R. Arandjelovic, A. Zisserman, Look, Listen and Learn, ICCV 2017, https://arxiv.org/abs/1705.08168"
    ),
    weights="none ship with mcgurk: all are learnt from the dataset version that a run names",
    input="a picture of 112 px, and 1 s of sound at 16000 Hz, 1 channel, as the stored log-mel",
    num_parameters=620_737,
)


@dataclass(frozen=True)
class Config:
    """The size of the network."""

    width: int = 16  # of the first pair of convolutions; the paper's is 64
    hidden: int = 128  # of the fusion's first layer
    stem_stride: int = 2  # 1 in 2017, 2 in 2018
    frame_px: int = 112
    front_end: SoundInput = "log_mel"


PRESETS = {
    "small": Config(),
    "spectrogram": Config(front_end="spectrogram"),
    "paper": Config(width=64, stem_stride=1, frame_px=224, front_end="spectrogram"),
    "paper2018": Config(width=64, frame_px=224, front_end="spectrogram"),
}


def needs(config: Config) -> Needs:
    """Frames with room for a random crop, and sound at the front end's rate."""
    return Needs(config.frame_px, RATE_HZ[config.front_end])


def build(config: Config) -> "L3":
    """The model, untrained."""
    return L3(config)


class L3(SeedModel):
    """Concatenation, fc1 with ReLU, fc2: everything linear in one side is computed once for that side.

    fc1 of [picture, sound] is W_v picture + W_a sound + b, so N pictures and M sounds cost N + M encodings, and a
    pair only an addition and fc2.
    """

    def __init__(self, config: Config) -> None:
        super().__init__(config.width, config.stem_stride, config.frame_px, config.front_end)
        self.fc1_image = nn.Linear(8 * config.width, config.hidden)
        # One bias is enough for a sum.
        self.fc1_audio = nn.Linear(8 * config.width, config.hidden, bias=False)
        self.fc2 = nn.Linear(config.hidden, 1)

    def encode_image(self, images_BCHW: Tensor) -> dict[str, Tensor]:
        """`vector` (B, D): fc1's share of the picture; `map` (B, C, h, w): the trunk's."""
        x_BCHW = self.trunks.image(images_BCHW)
        return {"vector": self.fc1_image(x_BCHW.amax((2, 3))), "map": x_BCHW}

    def encode_audio(self, audio_BFT: Tensor) -> dict[str, Tensor]:
        """`vector` (B, D): fc1's share of the sound; `map` (B, C, t): the trunk's largest response a moment."""
        x_BCFT = self.heard(audio_BFT)
        return {"vector": self.fc1_audio(x_BCFT.amax((2, 3))), "map": x_BCFT.amax(2)}

    def similarity(self, V: Tensor, A: Tensor) -> Tensor:
        """The logit of every pair: (Nv, Na)."""
        return self.fc2(torch.relu(V.float()[:, None] + A.float()[None]))[..., 0]

    def paired(self, V: Tensor, A: Tensor) -> Tensor:
        """The logit of each row of V with the same row of A: (N,)."""
        return self.fc2(torch.relu(V.float() + A.float()))[:, 0]

    def heat(self, image_map_BCHW: Tensor, audio_BD: Tensor) -> Tensor:
        """The logit if the picture were that position only: (B, h, w)."""
        hidden_BDHW = torch.relu(everywhere(self.fc1_image, image_map_BCHW) + audio_BD[:, :, None, None])
        return torch.einsum("bdhw,d->bhw", hidden_BDHW, self.fc2.weight[0]) + self.fc2.bias
