"""AVOL-Net (Arandjelovic & Zisserman, Objects that Sound, ECCV 2018, section 4): which place in the picture sounds?

Figure 4: the picture's map goes through conv5 (512 to 128) and conv6 (128 to 128), both 1x1, and keeps its places;
the sound's vector is AVE-Net's without normalisation. The scalar product at each place goes through conv7 (a scale
and a bias), and the largest of the places says whether the two belong together. Deviations: ReLU after conv5, as
after fc1, which the figure leaves open; the sigmoid comes after the maximum, where it gives the same; `proj_bn`
as in AVE-Net; `Config()` and the presets are AVE-Net's. What differs in training (jitter, augmentation, optimizer,
schedule) stands in `training/networks/seed_model.py`.

This is the only model that imports another: its sizes, presets and needs are those of AVE-Net, by the paper, and a
change there is meant to reach it.

N pictures, M sounds, B batch, C channels, D embedding, P places (h x w), H height, W width, F frequency, T time.
"""

import torch
from torch import Tensor, nn

from training.interface import ModelCard
from training.models import ave
from training.networks.seed_model import SeedModel
from training.networks.trunks import everywhere, projection

PRODUCTS_AT_ONCE = 1 << 26  # of places with sounds: 256 MB of float32

CARD = ModelCard(
    paper=(
        "R. Arandjelovic, A. Zisserman, Objects that Sound, ECCV 2018, section 4, "
        "https://arxiv.org/abs/1712.06651"
    ),
    weights="none ship with mcgurk: all are learnt from the dataset version that a run names",
    input="a picture of 112 px, and 1 s of sound at 16000 Hz, 1 channel, as the stored log-mel",
    num_parameters=654_274,
)

Config = ave.Config  # the networks differ in what they make of their trunks' maps
PRESETS = ave.PRESETS
needs = ave.needs


def build(config: Config) -> "Avol":
    """The model, untrained."""
    return Avol(config)


class Avol(SeedModel):
    """A picture is all its places: its `vector` is the flattened map, because no shorter one can score a pair."""

    def __init__(self, config: Config) -> None:
        super().__init__(config.width, config.stem_stride, config.frame_px, config.front_end)
        self.embedding = config.embedding
        self.image_head = projection(8 * config.width, config.embedding, proj_bn=config.proj_bn)
        self.audio_head = projection(8 * config.width, config.embedding, proj_bn=config.proj_bn)
        self.conv7_weight = nn.Parameter(torch.tensor([config.embedding**-0.5]))  # products of unit variance
        self.conv7_bias = nn.Parameter(torch.zeros(1))

    def encode_image(self, images_BCHW: Tensor) -> dict[str, Tensor]:
        """`map` (B, D, h, w) and the same as `vector` (B, D * h * w)."""
        map_BDHW = everywhere(self.image_head, self.trunks.image(images_BCHW)).float()
        return {"vector": map_BDHW.flatten(1), "map": map_BDHW}

    def encode_audio(self, audio_BFT: Tensor) -> dict[str, Tensor]:
        """`vector` (B, D); `map` (B, C, t): the trunk's largest response at each moment."""
        x_BCFT = self.heard(audio_BFT)
        return {"vector": self.audio_head(x_BCFT.amax((2, 3))).float(), "map": x_BCFT.amax(2)}

    def similarity(self, V: Tensor, A: Tensor) -> Tensor:
        """The logit of the best place of every pair: (Nv, Na)."""
        return self._best(V, self.conv7_weight * A) + self.conv7_bias

    def paired(self, V: Tensor, A: Tensor) -> Tensor:
        """The logit of the best place of each row of V for the same row of A: (N,)."""
        scaled_ND = self.conv7_weight * A  # before the maximum: a scale below zero reverses the order
        products_NP = torch.einsum("ndp,nd->np", V.unflatten(1, (self.embedding, -1)), scaled_ND)
        return products_NP.amax(1) + self.conv7_bias

    def heat(self, image_map_BDHW: Tensor, audio_BD: Tensor) -> Tensor:
        """The logit of every place: (B, h, w)."""
        return self.conv7_weight * super().heat(image_map_BDHW, audio_BD) + self.conv7_bias

    def centred_bias(self) -> nn.Parameter:
        """conv7's."""
        return self.conv7_bias

    def logged_scalars(self) -> dict[str, float]:
        """conv7's scale."""
        return {"conv7_weight": self.conv7_weight.item()}

    def _best(self, V: Tensor, A: Tensor) -> Tensor:
        """The largest product of any place: (Nv, Na), a block of pictures at a time."""
        places_NPD = V.unflatten(1, (self.embedding, -1)).transpose(1, 2)
        block = max(1, PRODUCTS_AT_ONCE // (places_NPD.shape[1] * len(A)))
        return torch.cat([(some @ A.T).amax(1) for some in places_NPD.split(block)])
