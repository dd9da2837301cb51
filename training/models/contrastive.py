"""The default model: a ResNet pair under a contrastive loss, with the map that its score is the mean of.

Each position of the picture and each moment of the sound is projected on its own, and weighed: most of a
picture is background. The vector is the mean of the weighed projections. So cosine(picture, sound) is exactly
the mean of scores over positions, and the localization map is no second network but the score, taken apart.

B batch, C channels, D embedding, H height, W width, M mel bins, F frequency, T time, N a count of items.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from schemas.signal import N_MELS
from training import losses
from training.models import AvcModel, Needs
from training.negatives import Steps
from training.sampling import View
from training.trunks import channels, resnet

IMAGE_STEM_STRIDE = 4  # 112 px to 28, as ResNet's stem with its pooling
AUDIO_STEM_STRIDE = 2  # 64 mels x 100 frames to 32 x 50: a harmonic is a few mels wide
TEMPERATURE_RANGE = (0.01, 0.5)  # below, one hard negative is all of the gradient; above, none counts


@dataclass(frozen=True)
class Config:
    """The size of the pair; `PRESETS` names the sizes that have been measured."""

    width: int = 16  # of the first stage
    blocks: tuple[int, ...] = (1, 1, 1)  # per stage; ResNet-18 has width 64 and (2, 2, 2, 2)
    embedding: int = 128
    hidden: int = 256  # of the projection heads
    frame_px: int = 112
    temperature: float = 0.07  # at the start; learnt


PRESETS = {
    # With two threads on a busy machine 780 pairs a second against 130 of `half`: more learnt in minutes.
    "small": Config(),
    "half": Config(width=32, blocks=(2, 2, 2, 2)),
    "resnet18": Config(width=64, blocks=(2, 2, 2, 2)),
}


def needs(config: Config) -> Needs:
    """Frames with room for a random crop."""
    return Needs(frame_short_side_px=config.frame_px)


def build(config: Config) -> "Contrastive":
    """The model, untrained."""
    return Contrastive(config)


class Contrastive(AvcModel):
    """Two trunks, two projections, one cosine."""

    image_mean: Tensor
    image_std: Tensor
    pitch: Tensor

    def __init__(self, config: Config) -> None:
        super().__init__(View(config.frame_px))
        # ImageNet's channel statistics, as every image network since; near enough for any natural pictures.
        self.register_buffer("image_mean", torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1))
        self.register_buffer("image_std", torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1))
        # A convolution can't tell a high harmonic from a low one: each input bin carries its place as well.
        self.register_buffer("pitch", torch.linspace(-1.0, 1.0, N_MELS).view(1, 1, N_MELS, 1))
        depth = channels(config.width, config.blocks)
        self.image_trunk = resnet(3, config.width, config.blocks, IMAGE_STEM_STRIDE)
        self.audio_trunk = resnet(2, config.width, config.blocks, AUDIO_STEM_STRIDE)
        rows = _frequency_rows(config)
        self.image_head = _projection(depth, config)
        self.audio_head = _projection(depth * rows, config)
        self.log_temperature = nn.Parameter(torch.tensor(config.temperature).log())

    @property
    def temperature(self) -> Tensor:
        """What similarities are divided by in the loss, inside TEMPERATURE_RANGE."""
        return self.log_temperature.exp().clamp(*TEMPERATURE_RANGE)

    def encode_image(self, images_BCHW: Tensor) -> dict[str, Tensor]:
        """`vector` (B, D), rows of norm 1, and `map` (B, D, h, w), whose mean over positions it is."""
        x_BCHW = self.image_trunk((images_BCHW - self.image_mean) / self.image_std)
        return _pooled(self.image_head(x_BCHW))

    def encode_audio(self, log_mel_BMT: Tensor) -> dict[str, Tensor]:
        """`vector` (B, D), rows of norm 1, and `map` (B, D, t), whose mean over moments it is."""
        normal_B1MT = ((log_mel_BMT - self.audio_mean) / self.audio_std)[:, None]
        pitch_B1MT = self.pitch.to(normal_B1MT.dtype).expand_as(normal_B1MT)
        x_BCFT = self.audio_trunk(torch.cat([normal_B1MT, pitch_B1MT], dim=1))
        # Frequency rows stay apart, as channels: where in the spectrum something sounds is what it is.
        encoded = _pooled(self.audio_head(x_BCFT.flatten(1, 2)[:, :, None]))
        return {"vector": encoded["vector"], "map": encoded["map"][:, :, 0]}

    def similarity(self, V: Tensor, A: Tensor) -> Tensor:
        """Cosines: (Nv, Na)."""
        return V @ A.T

    def loss(self, V: Tensor, A: Tensor, steps: Steps) -> Tensor:
        """Symmetric InfoNCE against the batch's negatives."""
        return losses.contrastive(self.similarity(V, A), self.temperature, steps.negatives)

    def chance_loss(self, steps: Steps) -> float:
        """The mean log of the number of candidates."""
        return losses.chance(steps.negatives)

    def watched(self) -> dict[str, float]:
        """The temperature, which falls as the model becomes sure."""
        return {"temperature": self.temperature.item()}


def _projection(channels_in: int, config: Config) -> nn.Sequential:
    # BatchNorm in the head took pair objectives off their plateau (0.69) within 80 steps on a toy corpus.
    return nn.Sequential(
        nn.Conv2d(channels_in, config.hidden, 1, bias=False),
        nn.BatchNorm2d(config.hidden),
        nn.ReLU(),
        nn.Conv2d(config.hidden, 1 + config.embedding, 1),  # each position's weight, and its projection
    )


def _pooled(projected_BDHW: Tensor) -> dict[str, Tensor]:
    projected_BDHW = projected_BDHW.float()  # norms of bfloat16 vectors are off by a percent
    weight_B1HW = _share(projected_BDHW[:, :1])
    map_BDHW = weight_B1HW * projected_BDHW[:, 1:]
    mean_BD = map_BDHW.mean((2, 3))
    norm_B = mean_BD.norm(dim=1).clamp_min(1e-6)
    return {"vector": functional.normalize(mean_BD, dim=1), "map": map_BDHW / norm_B[:, None, None, None]}


def _share(logits_B1HW: Tensor) -> Tensor:
    """Weights over positions by softmax, of mean 1. On 400 generated clips: validation AUC 0.70 to 0.72."""
    places = logits_B1HW.shape[2] * logits_B1HW.shape[3]
    return places * logits_B1HW.flatten(2).softmax(-1).view_as(logits_B1HW)


def _frequency_rows(config: Config) -> int:
    rows = -(-N_MELS // AUDIO_STEM_STRIDE)
    for _ in config.blocks[1:]:
        rows = -(-rows // 2)
    return rows
