"""Early fusion (Owens & Efros, Audio-Visual Scene Analysis with Self-Supervised Multisensory Features, ECCV 2018).

Is the sound the picture's own, or shifted by seconds? A 3-D network for 4.2 s of frames (125 at 29.97 frames/s) and a
1-D one for the stereo wave at 21 kHz meet after a few layers (the paper's fig. 2; layer sizes and the shift law are
those of the authors' code, `shift_net.py`, `shift_params.py`). A sound is scored against a picture by the rest of the
network, so pairs cost more than encodings: what is shared is the picture's part before the fusion,
which its own and the shifted sound both use, as the code does. The class activation map is the last convolution
before the average, with the last spatial stride taken away.

Deviations: the shifted sound is that of another step of the same clip, at least 65 frames away (windows share 60 at
most), where the code cuts an extra one: same rule, and every sound is in a matching pair and in another, so a batch
is balanced and neither side gives the answer away; BatchNorm with a learnt scale, where the code renormalises (Ioffe
2017), mostly without one, and also norms shortcuts of 1x1; zeros pad both ends alike, where `SAME` puts the odd one
at the end; the fractional pooling in time is torch's adaptive one; beside crops and flips, colour and loudness are
augmented; the rate warms up and falls by half a cosine instead of standing still; weights are averaged; `Config()` is
a quarter as wide, with 2.1 s, every second frame and 112 px, which CPUs train. Its curriculum, fewer frames first,
are the presets `sparse` and `small_sparse`, whose checkpoint `start` continues from. Source separation is out of
scope.

B batch, C channels, T time, H height, W width, S samples, N pictures, M sounds.
"""

import math
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor, nn
from torch.nn import functional

from schemas.errors import RequestError
from training.interface import AvcModel, ModelCard, Needs
from training.networks import losses
from training.networks.checkpoint import read_checkpoint
from training.networks.frontend import raw_wave
from training.reading.negatives import Negatives, Steps
from training.reading.sampling import Sampling, View

RATE_HZ = 21_000
FRAME_RATE_HZ = 29.97
APART_MS = 65 * 1000 / FRAME_RATE_HZ  # windows of 125 frames that share at most 60
COMPANDING = 255  # mu-law
NORM_EPS = 1e-3
# For thinner films, the CPU's bfloat16 gradients of 3-D convolutions contain uninitialised memory: measured with torch
# 2.14.1, kernels of 3 in a depth of 2 and of 5 in a depth of 3 and 4.
BF16_DEPTH = 3
TRAINING_OVERRIDES = {
    "sampling": Sampling(8, 2, jitter_ms=0, apart_ms=int(APART_MS)),
    "negatives": Negatives(("shifted",), tolerance_ms=APART_MS - 1),
    "optimizer": "sgd",
    "learning_rate": 1e-2,
    "weight_decay": 1e-5,
    "max_grad_norm": 5.0,
    "validation_steps": 2,
    "validation_clips": 16,  # each pair costs a network
}

CARD = ModelCard(
    paper=(
        "A. Owens, A. A. Efros, Audio-Visual Scene Analysis with Self-Supervised Multisensory Features, "
        "ECCV 2018, https://arxiv.org/abs/1804.03641"
    ),
    weights="none ship with mcgurk: all are learnt from the dataset version that a run names",
    input=(
        "32 pictures of 112 px, every second one at 29.97 a second, and 2.14 s of sound at 21000 Hz, 2 "
        "channels, as a wave"
    ),
    num_parameters=2_265_585,
)


@dataclass(frozen=True)
class Config:
    """The size of the network and of what it sees; `start` is the path of a checkpoint to begin from."""

    width: float = 0.25  # of the paper's channels
    num_frames: int = 32
    frame_stride: int = 2
    frame_px: int = 112
    norm_momentum: float = 0.05  # the paper's suits its 650,000 steps
    start: str = ""

    def channels(self, full: int) -> int:
        """The number of channels for the paper's `full`."""
        return round(full * self.width)


PAPER = Config(1.0, 125, 1, 224, 3e-4)
PRESETS = {
    "small": Config(),
    "small_sparse": Config(num_frames=12, frame_stride=5),  # as long, three times as fast: where it begins
    "sparse": Config(1.0, 32, 4, 224, 3e-4),  # the curriculum's first part
    "paper": PAPER,
}


def needs(config: Config) -> Needs:
    """Stereo at 21 kHz, and frames as in the profile `multisensory`."""
    rates = {"sample_rate_hz": RATE_HZ, "frame_rate_hz": FRAME_RATE_HZ, "is_frame_rate_exact": True}
    return Needs(config.frame_px, channels=2, length_ms=8500, **rates)


def build(config: Config) -> "Multisensory":
    """The model, untrained."""
    return Multisensory(config)


class Multisensory(AvcModel):
    """Two stems, a fusion, and a 3-D residual network that ends in one logit."""

    is_early_fusion = True
    pairs_at_once = 16  # networks

    def __init__(self, config: Config) -> None:
        # As long as its frames, rounded to the 10 ms at which sounds are cut.
        sound_ms = round(config.num_frames * config.frame_stride * 100 / FRAME_RATE_HZ) * 10
        view = View(config.frame_px, config.num_frames, "wave", sound_ms, config.frame_stride)
        super().__init__(view, raw_wave(RATE_HZ, 2))
        size = config.channels
        self.config = config
        self.seen = nn.Sequential(
            nn.Conv3d(3, size(64), (5, 7, 7), 2, (2, 3, 3), bias=False), nn.BatchNorm3d(size(64)), nn.ReLU(),
            nn.MaxPool3d((1, 3, 3), (1, 2, 2), (0, 1, 1)),
            Block(3, size(64), size(64)), Block(3, size(64), size(64), 2),
        )  # fmt: skip
        self.heard = nn.Sequential(
            nn.Conv1d(2, size(64), 65, 4, 32, bias=False), nn.BatchNorm1d(size(64)), nn.ReLU(), nn.MaxPool1d(4),
            Block(1, size(64), size(128), 4), Block(1, size(128), size(128), 4), Block(1, size(128), size(256), 4),
        )  # fmt: skip
        self.heard_last = nn.Sequential(
            nn.Conv1d(size(256), size(128), 3, padding=1, bias=False), nn.BatchNorm1d(size(128)), nn.ReLU()
        )
        self.fuse = nn.Sequential(
            nn.Conv3d(size(192), size(512), 1, bias=False), nn.BatchNorm3d(size(512)), nn.ReLU(),
            nn.Conv3d(size(512), size(128), 1),
        )  # fmt: skip
        self.fused_norm = nn.BatchNorm3d(size(128))
        self.blocks = nn.ModuleList(
            [
                Block(3, size(128), size(128)), Block(3, size(128), size(128)),
                Block(3, size(128), size(256), 2), Block(3, size(256), size(256)),
                Block(3, size(256), size(512), (1, 2, 2)), Block(3, size(512), size(512)),
            ]
        )  # fmt: skip
        self.logit = nn.Conv3d(size(512), 1, 1)
        for module in self.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.eps = NORM_EPS
                module.momentum = config.norm_momentum
            elif isinstance(module, nn.Conv1d | nn.Conv3d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")

    def load_initial_weights(self) -> None:
        """Loads the weights of `Config.start`, a model that differs from this one only in the times of its frames.

        Raises MissingError if there is no such file, and RequestError if its model has another width.
        """
        if not self.config.start:
            return
        try:
            self.load_state_dict(read_checkpoint(Path(self.config.start))["state"])
        except RuntimeError as error:  # names or sizes of weights differ
            differences = " ".join(str(error).split())
            raise RequestError(
                f"cannot start from {self.config.start}: {differences}; give a checkpoint of a multisensory model as "
                "wide as this one"
            ) from error

    def encode_image(self, images: Tensor) -> dict[str, Tensor]:
        """`map` (B, C * T, h, w): the picture's part before the fusion; `vector`: the same, flattened."""
        is_thin = _halved(self.config.num_frames, 2) < BF16_DEPTH
        with torch.autocast("cpu", enabled=False) if is_thin else nullcontext():
            x_BCTHW = self.seen((2 * images.transpose(1, 2)).sub_(1.0)).float()
        return {"vector": x_BCTHW.flatten(1), "map": x_BCTHW.flatten(1, 2)}

    def encode_audio(self, audio_BFT: Tensor) -> dict[str, Tensor]:
        """`map` (B, C, T): the sound's part before the fusion, as long as the picture's; `vector`: flattened."""
        companded = audio_BFT.sign() * torch.log1p(COMPANDING * audio_BFT.abs()) / math.log(COMPANDING + 1)
        moments = _halved(self.config.num_frames, 2)  # as many as the picture's
        x_BCT = self.heard_last(functional.adaptive_max_pool1d(self.heard(companded), moments)).float()
        return {"vector": x_BCT.flatten(1), "map": x_BCT}

    def paired(self, V: Tensor, A: Tensor) -> Tensor:
        """The logit of each row of V with the same row of A: (N,)."""
        side = _halved(self.config.frame_px, 3)
        return self.places(V.unflatten(1, (-1, side, side)), A).mean((1, 2, 3))

    def similarity(self, V: Tensor, A: Tensor) -> Tensor:
        """The logit of every pair, a network each: (Nv, Na)."""
        return torch.stack([self.paired_in_blocks(v.expand(len(A), -1), A) for v in V])

    def places(self, image_map: Tensor, audio: Tensor, *, is_dense: bool = False) -> Tensor:
        """The logit of every place and moment (B, T, h, w), whose mean is the pair's; dense: twice as fine."""
        channels = self.config.channels(64)
        v_BCTHW = image_map.unflatten(1, (channels, -1))
        a_BCT11 = audio.unflatten(1, (self.config.channels(128), -1))[..., None, None]
        both = torch.cat([v_BCTHW, a_BCT11.expand(-1, -1, -1, *v_BCTHW.shape[3:])], 1)
        kept = torch.cat([both[:, :channels], both[:, -channels:]], 1)
        x = torch.relu(self.fused_norm(self.fuse(both) + kept))
        for number, block in enumerate(self.blocks):
            is_last_stride = number == len(self.blocks) - 2
            x = block(x, (1, 1, 1) if is_dense and is_last_stride else None)
        return self.logit(x)[:, 0].float()

    def heat(self, image_map_BDHW: Tensor, audio_BD: Tensor) -> Tensor:
        """The class activation map, the best of all moments: (B, h, w)."""
        return self.places(image_map_BDHW, audio_BD, is_dense=True).amax(1)

    def loss(self, V: Tensor, A: Tensor, steps: Steps) -> Tensor:
        """Cross-entropy of each picture with its own sound and with one of its negatives, with equal weight.

        The same encoded picture is used in both. Steps without a negative are left out; a batch of them has loss 0.
        """
        rows, others = other_sounds(steps.negatives)
        if not len(rows):
            return 0.0 * self.paired(V[:1], A[:1]).sum()  # with a gradient for every rank to wait for
        logits_2N = self.paired(torch.cat([V[rows], V[rows]]), torch.cat([A[rows], A[others]]))
        own, other = logits_2N.chunk(2)
        return losses.two_way(own, other)

    def chance_loss(self, steps: Steps) -> float:
        """ln 2, or 0 without negatives."""
        return losses.two_way_chance(steps.negatives)


def other_sounds(negatives_NN: Tensor) -> tuple[Tensor, Tensor]:
    """The steps that are also paired with another sound, and the sound of each: (R,) and (R,).

    No sound is used twice, and each only if the policy allows it: a sound in more wrong pairs than right ones would be
    recognised by itself. Of all such choices, the one with the sounds that come soonest after the step's own is used:
    of two steps of a clip, the first is paired with the second's sound, and the second with another clip's.
    """
    is_negative_NN = negatives_NN.cpu().numpy()
    steps = np.arange(len(negatives_NN))
    after_NN = (steps - steps[:, None] - 1) % len(steps)
    found = np.stack(linear_sum_assignment(np.where(is_negative_NN, after_NN, len(steps) ** 2)))
    rows, others = torch.from_numpy(found[:, is_negative_NN[*found]]).to(negatives_NN.device)
    return rows, others


def _halved(size: int, times: int) -> int:
    """A size after that many strides of 2."""
    return math.ceil(size / 2**times)


class Block(nn.Module):
    """conv-norm-ReLU, conv, plus shortcut, norm, ReLU; kernels 3x3x3 for pictures, 15 for sound."""

    def __init__(self, dims: int, channels_in: int, channels: int, stride: int | tuple[int, ...] = 1) -> None:
        super().__init__()
        kernel = 3 if dims == 3 else 15
        conv, norm = (nn.Conv3d, nn.BatchNorm3d) if dims == 3 else (nn.Conv1d, nn.BatchNorm1d)
        self._pool = functional.max_pool3d if dims == 3 else functional.max_pool1d
        self._stride = stride if isinstance(stride, tuple) else (stride,) * dims
        self.conv1 = conv(channels_in, channels, kernel, self._stride, kernel // 2, bias=False)  # pyright: ignore
        self.norm1 = norm(channels)
        self.conv2 = conv(channels, channels, kernel, 1, kernel // 2, bias=False)
        self.norm2 = norm(channels)
        self.shortcut = conv(channels_in, channels, 1, bias=False) if channels_in != channels else None

    def forward(self, x: Tensor, stride: tuple[int, ...] | None = None) -> Tensor:
        """A map smaller by the stride, which may differ from the one that the block was made with."""
        stride = stride or self._stride
        convolve = functional.conv3d if len(stride) == 3 else functional.conv1d
        y = convolve(x, self.conv1.weight, None, stride, self.conv1.padding)  # pyright: ignore
        y = self.conv2(torch.relu(self.norm1(y)))
        short = x if max(stride) == 1 else self._pool(x, 1, stride)
        return torch.relu(self.norm2(y + (self.shortcut(short) if self.shortcut else short)))
