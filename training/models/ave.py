"""AVE-Net (Arandjelovic & Zisserman, Objects that Sound, ECCV 2018, section 3): how far apart are sight and sound?

Figure 2a, b and d: each trunk's maximum goes through fc1 (512 x 128, ReLU) and fc2 (128 x 128) to a vector of norm
1; the Euclidean distance of two vectors goes through fc3. Deviations: fc3's two-way softmax is one logit, its
difference; `proj_bn` adds BatchNorm after fc1, without which pair losses stayed at ln 2 in our toy runs where
they learnt with it (False is the paper's); `Config()` is the quarter-width, 112 px network that CPUs train, on the
stored log-mel. `PRESETS["paper"]` has the paper's size and hears its 257-bin spectrogram of 48 kHz (profile `seed`),
`PRESETS["spectrogram"]` is the small network on that. What differs in training (jitter, augmentation, optimizer,
schedule) stands in `training/networks/seed_model.py`.

N pictures, M sounds, B batch, C channels, H height, W width, F frequency, T time, D embedding.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from training.interface import ModelCard, Needs
from training.networks.seed_model import RATE_HZ, SeedModel, SoundInput
from training.networks.trunks import everywhere, projection

# The slope of the logit over the distance at the start: near things belong together (sec. 3.3, last paragraph). The
# paper does not say how steep it is: after 915 steps on 2,000 generated scenes, one seed, 68.0 % of the pairs of one
# family were right with -1.4, 76.5 with -5 and 74.1 with -10.
SLOPE = -5.0
LEAST_SQUARED = 1e-6  # a distance of 0 has no gradient

CARD = ModelCard(
    paper=(
        "R. Arandjelovic, A. Zisserman, Objects that Sound, ECCV 2018, section 3, "
        "https://arxiv.org/abs/1712.06651"
    ),
    weights="none ship with mcgurk: all are learnt from the dataset version that a run names",
    input="a picture of 112 px, and 1 s of sound at 16000 Hz, 1 channel, as the stored log-mel",
    num_parameters=654_274,
)


@dataclass(frozen=True)
class Config:
    """The size of the network."""

    width: int = 16  # of the first pair of convolutions; the paper's is 64
    embedding: int = 128
    stem_stride: int = 2
    proj_bn: bool = True
    frame_px: int = 112
    front_end: SoundInput = "log_mel"


PRESETS = {
    "small": Config(),
    "spectrogram": Config(front_end="spectrogram"),
    "paper": Config(width=64, proj_bn=False, frame_px=224, front_end="spectrogram"),
}


def needs(config: Config) -> Needs:
    """Frames with room for a random crop, and sound at the front end's rate."""
    return Needs(config.frame_px, RATE_HZ[config.front_end])


def build(config: Config) -> "Ave":
    """The model, untrained."""
    return Ave(config)


class Ave(SeedModel):
    """Two trunks, two projections, one distance, and an affine that starts with the right sign."""

    def __init__(self, config: Config) -> None:
        super().__init__(config.width, config.stem_stride, config.frame_px, config.front_end)
        self.image_head = projection(8 * config.width, config.embedding, proj_bn=config.proj_bn)
        self.audio_head = projection(8 * config.width, config.embedding, proj_bn=config.proj_bn)
        self.fc3_weight = nn.Parameter(torch.tensor([SLOPE]))
        self.fc3_bias = nn.Parameter(torch.tensor([-SLOPE * math.sqrt(2.0)]))  # of unrelated directions

    def encode_image(self, images_BCHW: Tensor) -> dict[str, Tensor]:
        """`vector` (B, D), rows of norm 1; `map` (B, C, h, w): the trunk's."""
        x_BCHW = self.trunks.image(images_BCHW)
        return {"vector": _unit(self.image_head(x_BCHW.amax((2, 3)))), "map": x_BCHW}

    def encode_audio(self, audio_BFT: Tensor) -> dict[str, Tensor]:
        """`vector` (B, D), rows of norm 1; `map` (B, C, t): the trunk's largest response at each moment."""
        x_BCFT = self.heard(audio_BFT)
        return {"vector": _unit(self.audio_head(x_BCFT.amax((2, 3)))), "map": x_BCFT.amax(2)}

    def similarity(self, V: Tensor, A: Tensor) -> Tensor:
        """The logit of every pair: (Nv, Na)."""
        return self.fc3_weight * distance(V.float() @ A.float().T) + self.fc3_bias

    def paired(self, V: Tensor, A: Tensor) -> Tensor:
        """The logit of each row of V with the same row of A: (N,)."""
        return self.fc3_weight * distance((V.float() * A.float()).sum(1)) + self.fc3_bias

    def heat(self, image_map_BCHW: Tensor, audio_BD: Tensor) -> Tensor:
        """The logit if the picture were that position only: (B, h, w)."""
        vectors_BDHW = _unit(everywhere(self.image_head, image_map_BCHW))
        cosine_BHW = super().heat(vectors_BDHW, audio_BD)
        return self.fc3_weight * distance(cosine_BHW) + self.fc3_bias

    def centred_bias(self) -> nn.Parameter:
        """fc3's."""
        return self.fc3_bias

    def logged_scalars(self) -> dict[str, float]:
        """fc3's slope: if it rises above 0, the network has learnt to separate what belongs together."""
        return {"fc3_weight": self.fc3_weight.item()}


def distance(cosine: Tensor) -> Tensor:
    """The Euclidean distance of vectors of norm 1 with that cosine: 0 to 2."""
    return (2.0 - 2.0 * cosine).clamp_min(LEAST_SQUARED).sqrt()


def _unit(x: Tensor) -> Tensor:
    return functional.normalize(x.float(), dim=1)  # norms of bfloat16 vectors are off by a percent
