"""One file a model; the file name is its name.

Each has `Config` (frozen), `needs(config)` and `build(config) -> AvcModel`. What all share stands here: the
interface, its front end and what a dataset version must hold.
"""

import importlib
import pkgutil
from collections.abc import Mapping
from dataclasses import dataclass, fields
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from schemas import signal
from schemas.feature import Profile

# A profile to build where the version lacks something, smallest first (docs and presets use these names).
PROFILES = (
    Profile(),
    Profile("standard", frame_short_side_px=256),
    Profile("dense", frame_rate_hz=4.0, frame_short_side_px=256),
)


@dataclass(frozen=True)
class Needs:
    """What a model requires of a dataset version's profile."""

    frame_short_side_px: int
    sample_rate_hz: int = signal.SAMPLE_RATE_HZ
    frame_rate_hz: float = 1.0
    length_ms: int = 1000

    def lacking(self, profile: Profile) -> list[str]:
        """What `profile` has too little of, in words."""
        lacking = []
        for name in ("frame_short_side_px", "frame_rate_hz", "length_ms"):
            if getattr(profile, name) < getattr(self, name):
                lacking.append(f"{name} {getattr(profile, name)} < {getattr(self, name)}")
        if profile.sample_rate_hz != self.sample_rate_hz:  # the stored log-mel has this rate's filterbank
            lacking.append(f"sample_rate_hz {profile.sample_rate_hz} instead of {self.sample_rate_hz}")
        return lacking

    def check(self, profile: Profile, model: str) -> None:
        """Raises ValueError, naming the profile to build, where `profile` lacks what the model needs."""
        if lacking := self.lacking(profile):
            enough = next((p.name for p in PROFILES if not self.lacking(p)), None)
            remedy = f"build a version with profile {enough!r}" if enough else "no stock profile has that"
            raise ValueError(
                f"{model} needs more than profile {profile.name!r}: {'; '.join(lacking)}; {remedy}"
            )


class AvcModel(nn.Module):
    """The interface of a model: encode pictures and sounds once each, then score any of them together.

    Knows the corpus's mean and deviation per mel bin and the affine that turns a similarity into a logit;
    both are buffers, so that a checkpoint is complete.
    """

    audio_mean: Tensor
    audio_std: Tensor
    calibration: Tensor
    frame_px: int

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("audio_mean", torch.zeros(signal.N_MELS, 1))
        self.register_buffer("audio_std", torch.ones(signal.N_MELS, 1))
        # Logit = scale * similarity + bias. 10 and 0 until it has been fitted on the validation split.
        self.register_buffer("calibration", torch.tensor([10.0, 0.0]))

    def encode_image(self, images_BCHW: Tensor) -> dict[str, Tensor]:
        """`vector` (B, D) and `map` (B, C, h, w), from which `heat` tells where, of RGB pictures in [0, 1]."""
        raise NotImplementedError

    def encode_audio(self, log_mel_BMT: Tensor) -> dict[str, Tensor]:
        """`vector` (B, D) and `map` (B, C, t) of log10 mel power as `schemas.signal.log_mel` gives it."""
        raise NotImplementedError

    def similarity(self, V: Tensor, A: Tensor) -> Tensor:
        """How well each picture vector fits each sound vector, uncalibrated: (Nv, Na)."""
        raise NotImplementedError

    def loss(self, V: Tensor, A: Tensor, videos_N: Tensor) -> Tensor:
        """The objective over the full combination of N steps, of which row n of V and of A is one."""
        raise NotImplementedError

    def chance_loss(self, videos_N: Tensor) -> float:
        """What `loss` is for a model that knows nothing."""
        raise NotImplementedError

    def heat(self, image_map_BDHW: Tensor, audio_BD: Tensor) -> Tensor:
        """Where each picture belongs to its sound, from the picture's `map` and the sound's `vector`: (B, h, w)."""
        return torch.einsum("bdhw,bd->bhw", image_map_BDHW, audio_BD)

    def watched(self) -> dict[str, float]:
        """Learnt scalars that a person should see during training, by name."""
        return {}

    def score(self, V: Tensor, A: Tensor) -> Tensor:
        """Logits that each picture belongs to each sound, from their `vector`s: (Nv, Na)."""
        return self.calibration[0] * self.similarity(V, A) + self.calibration[1]


def names() -> list[str]:
    """The models there are."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__))


def load(name: str) -> ModuleType:
    """The module of model `name`. Raises ValueError that lists the choices."""
    if name not in names():
        raise ValueError(f"no model {name!r}; there are {', '.join(names())}")
    return importlib.import_module(f"{__name__}.{name}")


def configure(name: str, config: Any = None) -> Any:
    """The model's Config: as given, from a mapping of its fields (as in checkpoints), or the default."""
    kind = load(name).Config
    if config is None or isinstance(config, kind):
        return config or kind()
    if not isinstance(config, Mapping):
        raise ValueError(f"{config!r} is no Config of model {name}")
    if unknown := set(config) - {field.name for field in fields(kind)}:
        raise ValueError(f"model {name} has no setting {', '.join(sorted(unknown))}")
    return kind(**{key: tuple(v) if isinstance(v, list) else v for key, v in config.items()})
