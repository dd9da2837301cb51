"""Convolutional trunks, and the layers on them, that models share.

B batch, C channels, H height, W width (in sound: F frequency, T time).
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

FILTER_HOPS = 4  # outputs of a learnt filter per 10 ms


class BasicBlock(nn.Module):
    """Two 3x3 convolutions with a shortcut (He et al. 2016, fig. 2 and sec. 4.1, option B)."""

    def __init__(self, channels_in: int, channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels_in, channels, 3, stride, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, 1, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(channels)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or channels_in != channels:
            self.shortcut = nn.Sequential(
                nn.Conv2d(channels_in, channels, 1, stride, bias=False), nn.BatchNorm2d(channels)
            )
        # Each block begins as its shortcut: deep residual networks train faster that way (Goyal et al. 2017, sec. 5.1).
        nn.init.zeros_(self.norm2.weight)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """A map of `channels`, smaller by the stride."""
        y_BCHW = torch.relu(self.norm1(self.conv1(x_BCHW)))
        return torch.relu(self.norm2(self.conv2(y_BCHW)) + self.shortcut(x_BCHW))


def resnet(
    channels_in: int, width: int, stem_stride: int, blocks: tuple[int, ...] = (2, 2, 2, 2)
) -> nn.Sequential:
    """ResNet's map of an input, `channels(width, blocks)` deep; with width 64 and these blocks, ResNet-18.

    The stem reduces by `stem_stride` in a single convolution instead of convolution and pooling: on a CPU, that pair is
    memory-bound and costs more than any stage. Every stage after the first halves the size.
    """
    kernel = 2 * stem_stride - 1
    stem = nn.Conv2d(channels_in, width, kernel, stem_stride, kernel // 2, bias=False)
    layers: list[nn.Module] = [stem, nn.BatchNorm2d(width), nn.ReLU()]
    channels_now = width
    for stage, num_blocks in enumerate(blocks):
        for block in range(num_blocks):
            stride = 2 if stage > 0 and block == 0 else 1
            layers.append(BasicBlock(channels_now, width * 2**stage, stride))
            channels_now = width * 2**stage
    net = nn.Sequential(*layers)
    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    return net


def vgg(
    channels_in: int, width: int, stem_stride: int, blocks: tuple[int, ...] = (1, 1, 1, 1)
) -> nn.Sequential:
    """The trunk of the seed papers, a map `channels(width, blocks)` deep (Objects that Sound 2018, fig. 2a and 2b).

    Pairs of 3x3 convolutions, each followed by BatchNorm and ReLU, with 2x2 max-pooling between the stages; the
    papers' are four of one pair each, of width 64. `stem_stride` is the first convolution's: 1 in Look, Listen and
    Learn (2017), 2 in 2018 (sec. 3.3: as good, and four times as fast); for more its kernel is wide enough to leave no
    pixel out. The global max-pooling that follows belongs to the models.
    """
    layers: list[nn.Module] = []
    for stage, num_pairs in enumerate(blocks):
        channels = width * 2**stage
        if stage:
            layers.append(nn.MaxPool2d(2))
        for _ in range(2 * num_pairs):
            stride = stem_stride if not layers else 1
            kernel = max(3, 2 * stride - 1)
            layers += [
                # BatchNorm removes the mean, and a bias with it.
                nn.Conv2d(channels_in, channels, kernel, stride, kernel // 2, bias=False),
                nn.BatchNorm2d(channels),
                nn.ReLU(),
            ]
            channels_in = channels
    net = nn.Sequential(*layers)
    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
    return net


def imagenet_statistics() -> tuple[Tensor, Tensor]:
    """ImageNet's mean and deviation of each channel, (3, 1, 1), as every image network since; near enough for any."""
    return torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1), torch.tensor([0.229, 0.224, 0.225]).view(
        3, 1, 1
    )


class SeedTrunks(nn.Module):
    """The pair of trunks that L3-Net, AVE-Net and AVOL-Net share, with the normalisation of pictures."""

    mean: Tensor
    std: Tensor

    def __init__(self, width: int, stem_stride: int) -> None:
        super().__init__()
        for name, values in zip(("mean", "std"), imagenet_statistics(), strict=True):
            self.register_buffer(name, values)
        self.vision = vgg(3, width, stem_stride)
        self.hearing = vgg(1, width, stem_stride)

    def image(self, images_BCHW: Tensor) -> Tensor:
        """The map of RGB pictures in [0, 1]: (B, C, h, w)."""
        return self.vision((images_BCHW - self.mean) / self.std)

    def audio(self, spectrogram_BFT: Tensor) -> Tensor:
        """The map of standardized log spectrograms, treated as grey pictures: (B, C, f, t)."""
        return self.hearing(spectrogram_BFT[:, None])


class LearntFilterbank(nn.Module):
    """Bands of a raw wave: learnt filters of 25 ms, their rectified outputs averaged every 10 ms, in log.

    A mel filterbank that is learnt from scratch (Zeghidour et al., LEAF, 2021, without its Gabor form).
    """

    def __init__(self, bands: int, sample_rate_hz: int) -> None:
        super().__init__()
        window = sample_rate_hz // 40
        self._hop = sample_rate_hz // 100
        stride = self._hop // FILTER_HOPS
        self.filters = nn.Conv1d(1, bands, window, stride, window // 2, bias=False)
        self.norm = nn.BatchNorm1d(bands)

    def forward(self, wave_B1S: Tensor) -> Tensor:
        """(B, bands, samples / hop)."""
        answer_BFT = self.filters(wave_B1S).abs()
        mean_BFT = functional.avg_pool1d(answer_BFT, FILTER_HOPS)
        return self.norm(torch.log(mean_BFT[..., : wave_B1S.shape[-1] // self._hop] + 1e-3))


def projection(channels_in: int, embedding: int, *, proj_bn: bool) -> nn.Sequential:
    """fc1, ReLU, fc2; with `proj_bn`, BatchNorm after fc1."""
    norm = [nn.BatchNorm1d(embedding)] if proj_bn else []
    return nn.Sequential(nn.Linear(channels_in, embedding), *norm, nn.ReLU(), nn.Linear(embedding, embedding))


def everywhere(layer: nn.Module, x_BCHW: Tensor) -> Tensor:
    """A layer for vectors at every position of a map, as 1x1 convolutions are: (B, D, h, w)."""
    batch, _, height, width = x_BCHW.shape
    rows = layer(x_BCHW.permute(0, 2, 3, 1).flatten(0, 2))
    return rows.view(batch, height, width, -1).permute(0, 3, 1, 2)


def channels(width: int, blocks: tuple[int, ...]) -> int:
    """The number of channels of the map of a `resnet` or a `vgg`."""
    return width * 2 ** (len(blocks) - 1)
