"""What an experiment trains: model and training loop, according to the settings of the user."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from flows.experiments.settings import OF_MODEL, USUAL, coerce_like, require_ranges
from flows.presets import TrainSettings
from training.interface import AvcModel
from training.learning.augment import strength_named
from training.loop import TrainConfig, train
from training.models import configure, load, preset_named, training_overrides
from training.networks.checkpoint import num_parameters
from training.networks.precision import computes_in_bf16, pick_device, require_precision
from training.reading.dataset import Dataset
from training.reading.negatives import Negatives
from training.reading.sampling import Sampling

STREAMED_STEPS = 4  # for each clip that was fetched whole


@dataclass(frozen=True)
class Training:
    """A training that is about to run."""

    dataset: Dataset
    model: str
    model_config: Any
    config: TrainConfig

    def steps(self, folder: Path) -> Iterator[dict[str, float]]:
        """Trains, and yields the metrics of every step."""
        return train(self.dataset, self.model, self.model_config, self.config, folder)

    @cached_property
    def untrained(self) -> AvcModel:
        """The model before training, for its own facts."""
        return load(self.model).build(self.model_config)

    @property
    def params(self) -> dict[str, Any]:
        """Everything the training depends on, each once: named as `--set` names it, with its value."""
        model = self.untrained
        config = self.config
        device = pick_device(self.config.device)
        sampling = asdict(config.sampled_for(model))
        del sampling["view"]  # the model's
        return {
            **{f"{OF_MODEL}{name}": value for name, value in asdict(self.model_config).items()},
            **asdict(config),
            "sampling": sampling,
            "front_end": model.front_end.constants,
            "num_parameters": num_parameters(model),
            "device": str(device),
            "is_bf16": computes_in_bf16(config.precision, device),
        }


def check(settings: TrainSettings) -> None:
    """Raises RequestError for settings that are invalid for any dataset."""
    name, _, preset = settings.model.partition("/")
    require_ranges(settings)
    strength_named(settings.augmentation)
    require_precision(settings.precision)
    _negatives(name, settings)
    load(name).needs(_configured(name, preset, settings.config))  # reads the needs of a trunk


def planned(dataset: Dataset, settings: TrainSettings) -> Training:
    """The training that `settings` describe. Raises RequestError if it is impossible."""
    check(settings)
    name, _, preset = settings.model.partition("/")
    own = training_overrides(name)
    sampling = own.get("sampling", Sampling())
    if dataset.shards.is_remote and "sampling" not in own:
        sampling = sampling.with_steps(STREAMED_STEPS)
    chosen = {
        "steps": settings.steps,
        "seconds": settings.seconds if settings.steps is None else None,
        "seed": settings.seed,
        "patience": settings.patience,
        "num_pieces": settings.num_pieces,
        "precision": settings.precision,
        "is_compiled": settings.is_compiled,
        "negatives": _negatives(name, settings),
        "sampling": replace(sampling, classes_per_batch=settings.classes_per_batch),
    }
    if settings.learning_rate is not None:
        chosen["learning_rate"] = settings.learning_rate
    if "augmentation" not in own or settings.augmentation != USUAL.augmentation:
        chosen["augmentation"] = strength_named(settings.augmentation)
    return Training(
        dataset, name, _configured(name, preset, settings.config), TrainConfig(**{**own, **chosen})
    )


def _negatives(model: str, settings: TrainSettings) -> Negatives:
    """The policies in the settings, or else the model's own."""
    own = training_overrides(model).get("negatives", Negatives())
    return replace(own, kinds=settings.negatives) if settings.negatives else own


def _configured(name: str, preset: str, given: Mapping[str, Any]) -> Any:
    values = asdict(preset_named(name, preset))
    alike = {
        key: coerce_like(values[key], key, value) if key in values else value for key, value in given.items()
    }
    return configure(name, values | alike)
