"""The default model: a pair of trunks under a contrastive loss, with the map that its score is the mean of.

Each position of the picture and each moment of the sound is projected on its own, and weighed: most of a
picture is background. The vector is the mean of the weighed projections. So cosine(picture, sound) is exactly
the mean of scores over positions, and the localization map is no second network but the score, taken apart.

Objectives: symmetric InfoNCE over the full combination, or the sigmoid of every pair with a learnt scale and bias
(SigLIP, Zhai et al. 2023, both classes weighing the same), which is AVE-Net's calibrated scalar for all pairs;
on top of either, a term within each clip with soft targets, and one among the clips of each class, where there are
labels. Variants: the input of sound (log-mel, the seed papers' log spectrogram, the raw wave), and motion (the
difference to the frame before, beside the picture).

B batch, C channels, D embedding, H height, W width, M mel bins, F frequency, T time, N a count of items.
"""

from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from schemas.waveforms import N_MELS, SAMPLE_RATE_HZ
from training.interface import AvcModel, FrontEnd, ModelCard, Needs, stored_log_mel
from training.networks import losses
from training.networks.frontend import FrontEndKind, LogSpectrogram, raw_wave
from training.networks.trunks import LearntFilterbank, channels, imagenet_statistics, resnet, vgg
from training.reading.negatives import Negatives, Steps
from training.reading.sampling import View

TRUNKS = {"vgg": vgg, "resnet": resnet}
IMAGE_STEM_STRIDE = 4  # 112 px to 28, as ResNet's stem with its pooling
# 64 mels x 100 frames to 32 x 50: a harmonic is a few mels wide. 257 bins x 199 frames to 65 x 50.
AUDIO_STEM_STRIDE = {"log_mel": 2, "spectrogram": 4, "wave": 2}
MOTION_RATE_HZ = 4.0
STEPS_WITHIN = 4  # of a clip, if its own sounds are to be told apart
SAME_CLASS = Negatives(("same_class",))

CARD = ModelCard(
    paper=(
        "no single paper: InfoNCE (van den Oord et al. 2018, https://arxiv.org/abs/1807.03748) and SigLIP"
        " (Zhai et al. 2023, https://arxiv.org/abs/2303.15343) over pairs of trunks"
    ),
    weights="none ship with mcgurk: all are learnt from the dataset version that a run names",
    input="a picture of 112 px, and 1 s of sound at 16000 Hz, 1 channel, as the stored log-mel",
    num_parameters=582_868,
)


@dataclass(frozen=True)
class Config:
    """The size of the pair; `PRESETS` names the sizes that have been measured."""

    width: int = 16  # of the first stage
    trunk: Literal["vgg", "resnet"] = "vgg"
    # Per stage, as the trunk counts them: ResNet-18 has width 64 and (2, 2, 2, 2) of them.
    image_blocks: tuple[int, ...] = (1, 1, 1)
    audio_blocks: tuple[int, ...] = (1, 1, 1, 1)
    embedding: int = 128
    hidden: int = 256  # of the projection heads
    frame_px: int = 112
    temperature: float = 0.07  # at the start; learnt
    objective: Literal["infonce", "sigmoid"] = "infonce"
    within_clip: float = 0.0  # weight of the term within clips
    within_clip_sigma_ms: float = 1000.0
    within_class: float = 0.0  # weight of the term among clips of one class (the first label)
    image_dropout: float = (
        0.0  # of whole channels of the picture's map (SLAVC, Mo & Morgado 2022): for small corpora
    )
    motion: bool = False
    front_end: FrontEndKind = "log_mel"


def _resnet(width: int, blocks: tuple[int, ...]) -> Config:
    return Config(width=width, trunk="resnet", image_blocks=blocks, audio_blocks=blocks)


PRESETS = {
    # On 2,000 generated scenes, in batches of 32 clips x 4 steps: validation AUC 0.86 after 90 steps with four stages
    # for the picture, 0.79 after 335 steps with the trunk of `residual`.
    "small": Config(),
    "residual": Config(trunk="resnet", audio_blocks=(1, 1, 1)),
    "resnet18": _resnet(width=64, blocks=(2, 2, 2, 2)),
    "large": replace(_resnet(width=64, blocks=(3, 4, 6, 3)), embedding=256, hidden=1024, frame_px=224),
    "shallow": Config(image_blocks=(1, 1), audio_blocks=(1, 1, 1)),
    "deep": Config(image_blocks=(2, 2, 2), audio_blocks=(2, 2, 2, 2)),
    "sigmoid": Config(objective="sigmoid"),
    "within_clip": Config(within_clip=0.2),
    "within_class": Config(within_class=1.0),
    "dropout": Config(image_dropout=0.3),
    "motion": Config(motion=True),
    "spectrogram": Config(front_end="spectrogram"),
    "wave": Config(front_end="wave"),
}


def needs(config: Config) -> Needs:
    """Frames with room for a random crop; for motion, frames near enough to each other to show it."""
    return Needs(config.frame_px, frame_rate_hz=MOTION_RATE_HZ if config.motion else 1.0)


def build(config: Config) -> "Contrastive":
    """The model, untrained."""
    return Contrastive(config)


class Contrastive(AvcModel):
    """Two trunks, two projections, one cosine."""

    image_mean: Tensor
    image_std: Tensor
    pitch: Tensor

    def __init__(self, config: Config) -> None:
        sound = "log_mel" if config.front_end == "log_mel" else "wave"
        front_end = _front_end(config.front_end)
        super().__init__(View(config.frame_px, 1 + config.motion, sound), front_end)
        self.config = config
        self.steps_per_clip = STEPS_WITHIN if config.within_clip else 1
        for name, values in zip(("image_mean", "image_std"), imagenet_statistics(), strict=True):
            self.register_buffer(name, values)
        is_wave = config.front_end == "wave"
        bands = N_MELS if is_wave else self.front_end.num_bins
        self.filterbank = LearntFilterbank(bands, SAMPLE_RATE_HZ) if is_wave else nn.Identity()
        # A convolution cannot tell a high harmonic from a low one, so each input bin also carries its position.
        self.register_buffer("pitch", torch.linspace(-1.0, 1.0, bands).view(1, 1, bands, 1))
        trunk = TRUNKS[config.trunk]
        width = config.width
        stride = AUDIO_STEM_STRIDE[config.front_end]
        self.image_trunk = trunk(6 if config.motion else 3, width, IMAGE_STEM_STRIDE, config.image_blocks)
        self.audio_trunk = trunk(2, width, stride, config.audio_blocks)
        self.dropout = nn.Dropout2d(config.image_dropout)
        self.image_head = _projection(channels(width, config.image_blocks), config)
        rows = _frequency_rows(self.audio_trunk, bands)
        self.audio_head = _projection(rows * channels(width, config.audio_blocks), config)
        self.log_temperature = nn.Parameter(torch.tensor(config.temperature).log())
        self.bias = nn.Parameter(torch.zeros(()), requires_grad=config.objective == "sigmoid")

    @property
    def temperature(self) -> Tensor:
        """What similarities are divided by in the loss, inside `losses.TEMPERATURE_RANGE`."""
        return self.log_temperature.exp()

    def encode_image(self, images: Tensor) -> dict[str, Tensor]:
        """`vector` (B, D), rows of norm 1, and `map` (B, D, h, w), whose mean over positions it is."""
        seen = (images - self.image_mean) / self.image_std
        if self.config.motion:
            seen = torch.cat([seen[:, 1], seen[:, 1] - seen[:, 0]], dim=1)
        return _pooled(self.image_head(self.dropout(self.image_trunk(seen))))

    def encode_audio(self, audio_BFT: Tensor) -> dict[str, Tensor]:
        """`vector` (B, D), rows of norm 1, and `map` (B, D, t), whose mean over moments it is."""
        normal_B1MT = self.filterbank((audio_BFT - self.audio_mean) / self.audio_std)[:, None]
        pitch_B1MT = self.pitch.to(normal_B1MT.dtype).expand_as(normal_B1MT)
        x_BCFT = self.audio_trunk(torch.cat([normal_B1MT, pitch_B1MT], dim=1))
        # Frequency rows are kept apart, as channels: the position of a sound in the spectrum identifies it.
        encoded = _pooled(self.audio_head(x_BCFT.flatten(1, 2)[:, :, None]))
        return {"vector": encoded["vector"], "map": encoded["map"][:, :, 0]}

    def similarity(self, V: Tensor, A: Tensor) -> Tensor:
        """Cosines: (Nv, Na)."""
        return V @ A.T

    def paired(self, V: Tensor, A: Tensor) -> Tensor:
        """The cosine of each row of V with the same row of A: (N,)."""
        return (V * A).sum(1)

    def loss(self, V: Tensor, A: Tensor, steps: Steps) -> Tensor:
        """The objective against the batch's negatives, and the terms within clips and classes."""
        losses.keep_within(self.log_temperature, losses.TEMPERATURE_RANGE)
        config = self.config
        cosine_NN = self.similarity(V, A)
        loss = self._objective(cosine_NN, steps)
        if config.within_clip:
            within = losses.within_clip(cosine_NN, self.temperature, steps, config.within_clip_sigma_ms)
            loss = loss + config.within_clip * within
        if config.within_class:
            loss = loss + config.within_class * self._objective(cosine_NN, _of_one_class(steps))
        return loss

    def _objective(self, cosine_NN: Tensor, steps: Steps) -> Tensor:
        if self.config.objective == "sigmoid":
            return losses.pairs(cosine_NN / self.temperature + self.bias, steps.negatives)
        return losses.contrastive(cosine_NN, self.temperature, steps.negatives)

    def chance_loss(self, steps: Steps) -> float:
        """The mean log of the number of candidates, or ln 2; plus the value of the terms for equal cosines."""
        config = self.config
        chance = self._chance(steps)
        if config.within_clip:
            alike_NN = torch.zeros_like(steps.negatives, dtype=torch.float32)
            within = losses.within_clip(alike_NN, alike_NN.new_ones(()), steps, config.within_clip_sigma_ms)
            chance += config.within_clip * float(within)
        if config.within_class:
            chance += config.within_class * self._chance(_of_one_class(steps))
        return chance

    def _chance(self, steps: Steps) -> float:
        is_sigmoid = self.config.objective == "sigmoid"
        return (losses.two_way_chance if is_sigmoid else losses.chance)(steps.negatives)

    def logged_scalars(self) -> dict[str, float]:
        """The temperature, which falls as the model becomes sure."""
        return {"temperature": self.temperature.item()}


def _of_one_class(steps: Steps) -> Steps:
    """The same steps, with negatives of the same class only."""
    return replace(steps, policy=SAME_CLASS)


def _projection(channels_in: int, config: Config) -> nn.Sequential:
    # BatchNorm in the head got pair objectives off their plateau (0.69) within 80 steps on a toy corpus.
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


@torch.no_grad()
def _frequency_rows(trunk: nn.Module, bands: int) -> int:
    """The number of rows of the map of an input with that many bands."""
    rows = trunk.eval()(torch.zeros(1, 2, bands, bands)).shape[2]
    trunk.train()
    return rows


def _front_end(kind: FrontEndKind) -> FrontEnd:
    if kind == "wave":
        return raw_wave(SAMPLE_RATE_HZ)
    return LogSpectrogram(SAMPLE_RATE_HZ) if kind == "spectrogram" else stored_log_mel()
