"""Convolutional trunks that models share.

B batch, C channels, H height, W width (in sound: F frequency, T time).
"""

import torch
from torch import Tensor, nn


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
        # Each block begins as its shortcut: deep residual nets train faster so (Goyal et al. 2017, sec. 5.1).
        nn.init.zeros_(self.norm2.weight)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """A map of `channels`, smaller by the stride."""
        y_BCHW = torch.relu(self.norm1(self.conv1(x_BCHW)))
        return torch.relu(self.norm2(self.conv2(y_BCHW)) + self.shortcut(x_BCHW))


def resnet(channels_in: int, width: int, blocks: tuple[int, ...], stem_stride: int) -> nn.Sequential:
    """ResNet's map of an input, `channels(width, blocks)` deep; blocks (2, 2, 2, 2), width 64: ResNet-18.

    The stem reduces by `stem_stride` in one convolution instead of convolution and pooling: on CPU that pair
    is bound by memory and costs more than any stage. Every stage after the first halves the size.
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


def channels(width: int, blocks: tuple[int, ...]) -> int:
    """How deep the map of a `resnet` is."""
    return width * 2 ** (len(blocks) - 1)
