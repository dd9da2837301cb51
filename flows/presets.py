"""Presets: complete configurations; the docstring of each states command, cost and result.

Megabytes per clip are means over 15 clips of 10 s, generated and real, at 640x360 and about 500 kbit/s.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from schemas.errors import RequestError
from schemas.feature import PROFILES, Profile
from schemas.rules import Rules
from tasks.download import DownloadConfig
from tasks.index import IndexConfig
from tasks.sources.scenes.corpus import CorpusConfig


@dataclass(frozen=True)
class TrainSettings:
    """How an experiment trains: a model of `training/models`, and for how long."""

    model: str = "contrastive"  # or `model/preset`
    seconds: float = 600.0
    steps: int | None = None  # instead of seconds, if the result must not depend on the machine's speed
    seed: int = 0
    clips_share: float = 1.0  # of the training videos
    trained_on: tuple[str, ...] = ()  # categories, with everything below them; none: all
    judged_on: tuple[str, ...] = ()
    negatives: tuple[
        str, ...
    ] = ()  # policies of `training.reading.negatives`; none: the model's own, or other_clip
    classes_per_batch: int | None = None
    augmentation: str = (
        "usual"  # the model's own, if it has one; or `none`, `strong`: `training.learning.augment`
    )
    learning_rate: float | None = None  # None: the model's own, or `training.loop`'s
    patience: int | None = None  # validations without improvement, until training ends
    num_pieces: int = 1  # in which a batch is encoded, if memory can't hold it as a whole
    precision: str = "auto"  # bfloat16 if the hardware multiplies it; or `float32`, `bfloat16`
    is_compiled: bool = False  # the encoders, by torch.compile: for GPUs; on a CPU needs a C++ compiler
    config: Mapping[str, Any] = field(default_factory=dict)  # what differs from the preset of the model


@dataclass(frozen=True)
class PipelineConfig:
    """Everything that a run depends on; the options of a command change a copy of this."""

    profile: Profile = field(default_factory=Profile)
    index: IndexConfig = field(default_factory=IndexConfig)
    download: DownloadConfig = field(default_factory=DownloadConfig)
    rules: Rules = field(default_factory=Rules)
    train: TrainSettings = field(default_factory=TrainSettings)
    corpus: CorpusConfig = field(default_factory=CorpusConfig)  # of the source `studio`
    window_s: float | None = None  # for a folder without a list: the length of its windows


def demo() -> PipelineConfig:
    """The whole job on generated scenes: `mcgurk demo`.

    432 scenes of 24 families; 275 to 406 s on 2 slow cores without AVX-512, 2 minutes of it training; 250 MB of disk.
    Ends with a model that tells matched from mismatched pairs well above chance.
    """
    return PipelineConfig(
        index=IndexConfig(part_size=48, eval_part_size=48, val_share=0.12),
        download=DownloadConfig(source="studio"),
        corpus=CorpusConfig(num_scenes=432, eval_share=0.2),
        train=TrainSettings(seconds=120.0),
    )


def tiny() -> PipelineConfig:
    """The demo in a minute: `mcgurk build --root R --preset tiny`, to try out an installation or a schedule.

    96 scenes, 20 s of training: it goes through everything, and learns next to nothing.
    """
    return PipelineConfig(
        index=IndexConfig(part_size=24, eval_part_size=24, val_share=0.12),
        download=DownloadConfig(source="studio"),
        corpus=CorpusConfig(num_scenes=96, eval_share=0.25),
        train=TrainSettings(seconds=20.0),
    )


def small() -> PipelineConfig:
    """128 px frames at 1 frame/s and 16 kHz audio: `mcgurk build --preset small --segments LIST --source S`.

    About 0.5 MB a clip; for training models on CPUs and for quick looks.
    """
    return PipelineConfig(index=IndexConfig(part_size=128))


def standard() -> PipelineConfig:
    """256 px frames at 1 frame/s and 16 kHz audio: `mcgurk build --segments LIST --source S`.

    About 0.6 MB a clip, 1.1 TB for all of AudioSet that is still available.
    """
    return PipelineConfig(profile=PROFILES["standard"])


def lean() -> PipelineConfig:
    """As `standard`, on a small disk: `mcgurk build --preset lean --segments LIST --source S`.

    No more than 20 GB of media wait for extraction, and none are kept after it: 0.6 MB a clip instead of 1.6.
    `mcgurk plan` says which media another extraction would need again, and `mcgurk build --refetch` fetches them.
    """
    return replace(standard(), download=DownloadConfig(unextracted_gb=20.0, keep_media=False))


def dense() -> PipelineConfig:
    """256 px frames at 4 frames/s and 16 kHz audio: `mcgurk build --preset dense --segments LIST --source S`.

    About 1.0 MB a clip; for models that look at what happens within a second.
    """
    return PipelineConfig(profile=PROFILES["dense"])


def video() -> PipelineConfig:
    """256 px at 25 frames/s as H.264 with a key frame a second, and 16 kHz audio: `--preset video`.

    About 0.8 MB a clip; for synchrony and motion.
    """
    return PipelineConfig(profile=PROFILES["video"])


def seed() -> PipelineConfig:
    """256 px frames at 1 frame/s and 48 kHz mono audio: `--preset seed`.

    What L3-Net and AVE-Net need for their 257-bin spectrogram; about 1.1 MB a clip, no log-mel. The default model needs
    log-mel, so AVE-Net at a size for CPUs is trained instead.
    """
    return PipelineConfig(profile=PROFILES["seed"], train=TrainSettings("ave/spectrogram"))


def multisensory() -> PipelineConfig:
    """256 px at 29.97 frames/s as H.264, and 21 kHz stereo audio: `--preset multisensory`.

    What Owens & Efros's network needs; about 1.2 MB a clip, no log-mel. It trains the first part of its curriculum:
    fewer frames, and other clips' sounds.
    """
    begin = TrainSettings("multisensory/small_sparse", negatives=("other_clip",), learning_rate=0.03)
    return PipelineConfig(profile=PROFILES["multisensory"], train=begin)


PRESETS: dict[str, Callable[[], PipelineConfig]] = {
    function.__name__: function
    for function in (demo, small, standard, lean, dense, video, seed, multisensory, tiny)
}


def load_preset(name: str) -> PipelineConfig:
    """The configuration named `name`. Raises RequestError with the choices."""
    if name not in PRESETS:
        raise RequestError(f"unknown preset {name!r}: use one of {', '.join(PRESETS)}")
    return PRESETS[name]()
