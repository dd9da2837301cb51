"""The interface of a model: its network, the input it needs, its front end for sound, and its card.

What a file of `models/` must define is described in the docstring of `training/models/__init__.py`.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from schemas import waveforms
from schemas.errors import RequestError
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
    """Makes the input of `encode_audio` from a batch's sound: (B, `num_bins`, T)."""

    def __init__(self, num_bins: int, constants: dict[str, float], *, is_spectrum: bool = True) -> None:
        super().__init__()
        self.num_bins = num_bins
        self.is_spectrum = is_spectrum  # log10 power; else a wave
        self.constants = constants  # a model's weights are only valid with these values

    def forward(self, sound: Tensor) -> Tensor:
        """The sound, unchanged."""
        return sound


def stored_log_mel() -> FrontEnd:
    """The log-mel as stored in the shards."""
    return FrontEnd(waveforms.N_MELS, {name: float(getattr(waveforms, name)) for name in MEL_CONSTANTS})


@dataclass(frozen=True)
class Needs:
    """What a model requires of a dataset version's profile."""

    frame_short_side_px: int
    sample_rate_hz: int = waveforms.SAMPLE_RATE_HZ
    channels: int = 1
    frame_rate_hz: float = 1.0
    length_ms: int = 1000
    is_frame_rate_exact: bool = False  # a model that counts time in frames is wrong at any other rate

    def unmet_by(self, profile: Profile) -> list[str]:
        """Each value of `profile` that is too small or different, with the required value."""
        unmet = []
        least = ["frame_short_side_px", "length_ms"]
        exact = ["sample_rate_hz", "channels"]  # a front end is made for one rate
        (exact if self.is_frame_rate_exact else least).append("frame_rate_hz")
        for name in least:
            if getattr(profile, name) < getattr(self, name):
                unmet.append(f"{name} {getattr(profile, name)} < {getattr(self, name)}")
        for name in exact:
            if getattr(profile, name) != getattr(self, name):
                unmet.append(f"{name} {getattr(profile, name)} instead of {getattr(self, name)}")
        return unmet

    def check(self, profile: Profile, model: str) -> None:
        """Raises RequestError, naming the profile to build, if `profile` lacks what the model needs."""
        if unmet := self.unmet_by(profile):
            enough = next((p.name for p in PROFILES.values() if not self.unmet_by(p)), None)
            remedy = f"build a version with profile {enough!r}" if enough else "no stock profile has that"
            raise RequestError(
                f"{model} needs more than profile {profile.name!r}: {'; '.join(unmet)}; {remedy}"
            )


@dataclass(frozen=True)
class ModelCard:
    """What a stranger must know about a model before using its weights; it goes into the registry's description."""

    paper: str  # citation with address
    weights: str  # where weights come from that are not learnt here, and under which licence
    input: str  # of `Config()`
    num_parameters: int  # of `Config()`

    def __str__(self) -> str:
        return (
            f"Paper: {self.paper}\n\nWeights: {self.weights}\n\nInput of the default size: {self.input}\n\n"
            f"Parameters of the default size: {self.num_parameters:,}"
        )


class AvcModel(nn.Module):
    """A network that encodes pictures and sounds once each, and then scores any of them together.

    It knows what a step shows (`view`), its sound input (`front_end`), the corpus's mean and deviation of each bin of
    that input, and the affine map from a similarity to a logit; the latter are buffers, so that a checkpoint is
    complete.
    """

    audio_mean: Tensor
    audio_std: Tensor
    calibration: Tensor
    is_early_fusion = False  # whether a pair costs a network instead of a product
    steps_per_clip = 1  # the least that the objective needs in a batch
    learns_offsets = False  # instead of pairs: validation moves sounds, and tracks the loss of that
    pairs_at_once = 1024  # the number of pairs that `paired_in_blocks` holds in memory

    def __init__(self, view: View, front_end: FrontEnd | None = None) -> None:
        super().__init__()
        self.view = view
        self.front_end = front_end or stored_log_mel()
        self.register_buffer("audio_mean", torch.zeros(self.front_end.num_bins, 1))
        self.register_buffer("audio_std", torch.ones(self.front_end.num_bins, 1))
        # Logit = scale * similarity + bias. 10 and 0 until it has been fitted on the validation split.
        self.register_buffer("calibration", torch.tensor([10.0, 0.0]))

    def require(self, profile: Profile) -> None:
        """Raises RequestError, with both values, if the front end is made for sounds of another profile."""
        ours = {name.lower(): value for name, value in self.front_end.constants.items()}
        for name in ("sample_rate_hz", "channels"):
            theirs = getattr(profile, name)
            if ours.get(name, theirs) != theirs:
                raise RequestError(
                    f"the model takes {name} {ours[name]:g}, and profile {profile.name!r} of this version has "
                    f"{theirs}: use a version of the profile that it was trained on"
                )

    def load_initial_weights(self) -> None:
        """Called once before a new training: a model whose configuration names a checkpoint loads its weights."""

    def encode_image(self, images: Tensor) -> dict[str, Tensor]:
        """`vector` (B, D) and `map` (B, C, h, w), which `heat` reads, of RGB pictures in [0, 1].

        Pictures are (B, 3, H, W), or (B, frames, 3, H, W) if a step shows several.
        """
        raise NotImplementedError

    def encode_audio(self, audio_BFT: Tensor) -> dict[str, Tensor]:
        """`vector` (B, D) and `map` (B, C, t) of the front end's output."""
        raise NotImplementedError

    def similarity(self, V: Tensor, A: Tensor) -> Tensor:
        """How well each picture vector fits each sound vector, uncalibrated: (Nv, Na)."""
        raise NotImplementedError

    def paired(self, V: Tensor, A: Tensor) -> Tensor:
        """How well each picture vector fits the sound vector of the same row, uncalibrated: (N,)."""
        return self.similarity(V, A).diagonal()

    def paired_in_blocks(self, V: Tensor, A: Tensor) -> Tensor:
        """`paired`, `pairs_at_once` at a time, so that memory does not grow with the number of pairs."""
        blocks = zip(V.split(self.pairs_at_once), A.split(self.pairs_at_once), strict=True)
        return torch.cat([self.paired(v, a) for v, a in blocks])

    def loss(self, V: Tensor, A: Tensor, steps: Steps) -> Tensor:
        """The objective over the full combination of N steps; row n of V and row n of A are step n."""
        raise NotImplementedError

    def chance_loss(self, steps: Steps) -> float:
        """The value of `loss` for a model that knows nothing."""
        raise NotImplementedError

    def heat(self, image_map_BDHW: Tensor, audio_BD: Tensor) -> Tensor:
        """Where each picture belongs to its sound, from the picture's `map` and the sound's `vector`: (B, h, w)."""
        return torch.einsum("bdhw,bd->bhw", image_map_BDHW, audio_BD)

    def logged_scalars(self) -> dict[str, float]:
        """Learnt scalars to log at each step, by name."""
        return {}

    def score(self, V: Tensor, A: Tensor) -> Tensor:
        """Logits that each picture belongs to each sound, from their `vector`s: (Nv, Na)."""
        return self.calibrated(self.similarity(V, A))

    def calibrated(self, similarity: Tensor) -> Tensor:
        """Logits of similarities."""
        return self.calibration[0] * similarity + self.calibration[1]
