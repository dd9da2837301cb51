"""What an experiment trains: model and loop, out of the settings that were asked for."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from flows.presets import TrainSettings
from training.augment import strength_named
from training.checkpoint import num_parameters
from training.data import Dataset
from training.loop import TrainConfig, train
from training.models import configure, load
from training.negatives import Negatives
from training.precision import computes_in_bf16, pick_device, require_precision
from training.sampling import Sampling

STREAMED_STEPS = 4  # of a clip that was fetched whole
OF_MODEL = "model."
NUMBERS = {"steps": 0, "classes_per_batch": 0, "patience": 0, "learning_rate": 0.0}  # which may also be none
USUAL = TrainSettings()


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

    @property
    def params(self) -> dict[str, Any]:
        """All that it is made of, by name."""
        model, device = load(self.model).build(self.model_config), pick_device(self.config.device)
        return {
            "config": asdict(self.model_config),
            "training": asdict(self.config),
            "front_end": model.front_end.constants,
            "num_parameters": num_parameters(model),
            "device": str(device),
            "is_bf16": computes_in_bf16(self.config.precision, device),
        }


def check(settings: TrainSettings) -> None:
    """Raises ValueError for settings that no training can have, whatever the dataset."""
    name, _, preset = settings.model.partition("/")
    strength_named(settings.augmentation)
    require_precision(settings.precision)
    _negatives(name, settings)
    _configured(name, preset, settings.config)


def planned(dataset: Dataset, settings: TrainSettings) -> Training:
    """The training that `settings` ask for. Raises ValueError where they can't be had."""
    name, _, preset = settings.model.partition("/")
    own = getattr(load(name), "TRAINING", {})
    sampling = own.get("sampling", Sampling())
    if dataset.shards.is_remote and "sampling" not in own:
        sampling = sampling.with_steps(STREAMED_STEPS)
    asked = {
        "steps": settings.steps,
        "seconds": None if settings.steps else settings.seconds,
        "seed": settings.seed,
        "patience": settings.patience,
        "num_pieces": settings.num_pieces,
        "precision": settings.precision,
        "is_compiled": settings.is_compiled,
        "negatives": _negatives(name, settings),
        "sampling": replace(sampling, classes_per_batch=settings.classes_per_batch),
    }
    if settings.learning_rate is not None:
        asked["learning_rate"] = settings.learning_rate
    if "augmentation" not in own or settings.augmentation != USUAL.augmentation:
        asked["augmentation"] = strength_named(settings.augmentation)
    return Training(
        dataset, name, _configured(name, preset, settings.config), TrainConfig(**{**own, **asked})
    )


def _negatives(model: str, settings: TrainSettings) -> Negatives:
    """The policies that were asked for, or the model's own."""
    own = getattr(load(model), "TRAINING", {}).get("negatives", Negatives())
    return replace(own, kinds=settings.negatives) if settings.negatives else own


def _configured(name: str, preset: str, asked: Mapping[str, Any]) -> Any:
    chosen = load(name).PRESETS[preset] if preset else configure(name)
    values = asdict(chosen)
    alike = {key: _like(values[key], key, value) if key in values else value for key, value in asked.items()}
    return configure(name, values | alike)


def parsed(pairs: Sequence[str]) -> dict[str, Any]:
    """Settings of TrainSettings from `NAME=VALUE`, and of the model's Config from `model.NAME=VALUE`.

    Raises ValueError for a name that is not there, or a value of another kind.
    """
    found: dict[str, Any] = {}
    known = {
        one.name: getattr(USUAL, one.name) for one in fields(USUAL) if one.name not in ("model", "config")
    }
    for pair in pairs:
        name, _, text = pair.partition("=")
        if name.startswith(OF_MODEL):
            found.setdefault("config", {})[name.removeprefix(OF_MODEL)] = _value(text)
        elif name in known:
            usual = NUMBERS.get(name, known[name])
            found[name] = None if text == "null" and name in NUMBERS else _like(usual, name, _value(text))
        else:
            raise ValueError(
                f"no setting {name!r}; there are {', '.join(known)}, and {OF_MODEL}NAME of the model's own"
            )
    return found


def _value(text: str) -> Any:
    """JSON, or the text itself."""
    try:
        return json.loads(text)
    except ValueError:
        return text


def _like(usual: Any, name: str, value: Any) -> Any:
    """`value` as a setting of the kind of `usual`."""
    if isinstance(usual, tuple):
        return tuple(value) if isinstance(value, list) else tuple(str(value).split("+"))
    if isinstance(usual, str):
        return str(value)
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if (
        isinstance(usual, bool)
        and isinstance(value, bool)
        or isinstance(usual, int)
        and is_number
        and value == int(value)
    ):
        return type(usual)(value)
    if isinstance(usual, float) and is_number:
        return float(value)
    raise ValueError(f"{name} is {type(usual).__name__}, as {usual!r}, and not {value!r}")
