"""What a model is: its interface, what it hears, and what it needs of a dataset version.

A model is one file of `models/`. It has `Config` (frozen), `needs(config)` and `build(config) -> AvcModel`; it may have
`PRESETS` (name -> Config) and `TRAINING` (settings of the training that it wants otherwise).
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from schemas import waveforms
from schemas.feature import PROFILES, Profile
from training.reading.negatives import Steps
from training.reading.sampling import View

MEL_CONSTANTS = (
    "SAMPLE_RATE_HZ",
    "WINDOW",
    "HOP",
    "N_FFT",
    "N_MELS",
    "MEL_LOW_HZ",
    "MEL_HIGH_HZ",
    "LOG_FLOOR",
)


class FrontEnd(nn.Module):
    """What `encode_audio` is given of a batch's sound: (B, `num_bins`, T)."""

    def __init__(self, num_bins: int, constants: dict[str, float], *, is_spectrum: bool = True) -> None:
        super().__init__()
        # Log10 power, or a wave
        self.num_bins = num_bins
        self.is_spectrum = is_spectrum
        self.constants = constants  # that a model's weights are only good for

    def forward(self, sound: Tensor) -> Tensor:
        """The sound as it is."""
        return sound


def stored_log_mel() -> FrontEnd:
    """The log-mel as it stands in the shards."""
    return FrontEnd(waveforms.N_MELS, {name: float(getattr(waveforms, name)) for name in MEL_CONSTANTS})


@dataclass(frozen=True)
class Needs:
    """What a model requires of a dataset version's profile."""

    frame_short_side_px: int
    sample_rate_hz: int = waveforms.SAMPLE_RATE_HZ
    channels: int = 1
    frame_rate_hz: float = 1.0
    length_ms: int = 1000
    is_frame_rate_exact: bool = False  # what counts time in frames is wrong at any other rate

    def lacking(self, profile: Profile) -> list[str]:
        """What `profile` has too little of, in words."""
        lacking = []
        least = ["frame_short_side_px", "length_ms"]
        exact = ["sample_rate_hz", "channels"]  # front ends are of one rate
        (exact if self.is_frame_rate_exact else least).append("frame_rate_hz")
        for name in least:
            if getattr(profile, name) < getattr(self, name):
                lacking.append(f"{name} {getattr(profile, name)} < {getattr(self, name)}")
        for name in exact:
            if getattr(profile, name) != getattr(self, name):
                lacking.append(f"{name} {getattr(profile, name)} instead of {getattr(self, name)}")
        return lacking

    def check(self, profile: Profile, model: str) -> None:
        """Raises ValueError, naming the profile to build, where `profile` lacks what the model needs."""
        if lacking := self.lacking(profile):
            enough = next((p.name for p in PROFILES.values() if not self.lacking(p)), None)
            remedy = f"build a version with profile {enough!r}" if enough else "no stock profile has that"
            raise ValueError(
                f"{model} needs more than profile {profile.name!r}: {'; '.join(lacking)}; {remedy}"
            )


class AvcModel(nn.Module):
    """The interface of a model: encode pictures and sounds once each, then score any of them together.

    Knows what a step shows it (`view`), what it hears of a sound (`front_end`), the corpus's mean and deviation
    per bin of that, and the affine that turns a similarity into a logit; the latter are buffers, so that a
    checkpoint is complete.
    """

    audio_mean: Tensor
    audio_std: Tensor
    calibration: Tensor
    is_early_fusion = False  # whether a pair costs a network, and not a product
    steps_per_clip = 1  # that a batch must have at least for the objective
    learns_offsets = False  # and not pairs: validation moves sounds, and follows the loss of that
    pairs_at_once = 1024  # what `paired_in_blocks` holds in memory

    def __init__(self, view: View, front_end: FrontEnd | None = None) -> None:
        super().__init__()
        self.view = view
        self.front_end = front_end or stored_log_mel()
        self.register_buffer("audio_mean", torch.zeros(self.front_end.num_bins, 1))
        self.register_buffer("audio_std", torch.ones(self.front_end.num_bins, 1))
        # Logit = scale * similarity + bias. 10 and 0 until it has been fitted on the validation split.
        self.register_buffer("calibration", torch.tensor([10.0, 0.0]))

    def require(self, profile: Profile) -> None:
        """Raises ValueError, with both values, where sounds of `profile` are not what the front end is made for."""
        ours = {name.lower(): value for name, value in self.front_end.constants.items()}
        for name in ("sample_rate_hz", "channels"):
            theirs = getattr(profile, name)
            if ours.get(name, theirs) != theirs:
                raise ValueError(
                    f"the model hears {name} {ours[name]:g}, and profile {profile.name!r} of this version has "
                    f"{theirs}: take a version of the profile that it was trained on"
                )

    def begin(self) -> None:
        """What a new training does first: a model whose configuration names a checkpoint takes its weights."""

    def encode_image(self, images: Tensor) -> dict[str, Tensor]:
        """`vector` (B, D) and `map` (B, C, h, w), from which `heat` tells where, of RGB pictures in [0, 1].

        Pictures are (B, 3, H, W), or (B, frames, 3, H, W) where a step shows several.
        """
        raise NotImplementedError

    def encode_audio(self, heard_BFT: Tensor) -> dict[str, Tensor]:
        """`vector` (B, D) and `map` (B, C, t) of what the `front_end` gives."""
        raise NotImplementedError

    def similarity(self, V: Tensor, A: Tensor) -> Tensor:
        """How well each picture vector fits each sound vector, uncalibrated: (Nv, Na)."""
        raise NotImplementedError

    def paired(self, V: Tensor, A: Tensor) -> Tensor:
        """How well each picture vector fits the sound vector of the same row, uncalibrated: (N,)."""
        return self.similarity(V, A).diagonal()

    def paired_in_blocks(self, V: Tensor, A: Tensor) -> Tensor:
        """`paired`, some pairs at a time, so that any number of them takes the memory of some."""
        blocks = zip(V.split(self.pairs_at_once), A.split(self.pairs_at_once), strict=True)
        return torch.cat([self.paired(v, a) for v, a in blocks])

    def loss(self, V: Tensor, A: Tensor, steps: Steps) -> Tensor:
        """The objective over the full combination of N steps, of which row n of V and of A is one."""
        raise NotImplementedError

    def chance_loss(self, steps: Steps) -> float:
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
        return self.calibrated(self.similarity(V, A))

    def calibrated(self, similarity: Tensor) -> Tensor:
        """Logits of similarities."""
        return self.calibration[0] * similarity + self.calibration[1]
