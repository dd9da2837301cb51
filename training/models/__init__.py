"""Models: one file per model. Nothing else is here; what models share is in `training/networks/`.

A file becomes a model by lying in this folder. It defines

    Config                      frozen dataclass of the network's size; every field has a default
    CARD: ModelCard             paper, weights, input, number of parameters
    needs(config) -> Needs      what a dataset version must hold for it
    build(config) -> AvcModel   the model, untrained

and may define

    PRESETS: Mapping[str, Config]                sizes that a user names as `MODEL/PRESET`
    TRAINING_OVERRIDES: Mapping[str, Any]        fields of `training.loop.TrainConfig` that this model sets otherwise

The classes are defined in `training/interface.py`. File names and the fields of Config are data: checkpoints, MLflow's
parameters and presets contain them.
"""

import math
import sys
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from types import ModuleType
from typing import Any, Literal, get_args, get_origin, get_type_hints

from schemas.errors import RequestError
from schemas.plugins import chosen_plugin, plugin_names
from training.interface import AvcModel, ModelCard, Needs
from training.networks.checkpoint import ResumeError, read_checkpoint, require_same

REQUIRED = ("Config", "CARD", "needs", "build")


def names() -> list[str]:
    """The models in this folder."""
    return plugin_names(sys.modules[__name__])


def names_with_presets() -> list[str]:
    """The models in this folder, each followed by its presets: `MODEL`, `MODEL/PRESET`."""
    return [
        one
        for name in names()
        for one in (name, *(f"{name}/{p}" for p in getattr(load(name), "PRESETS", ())))
    ]


def load(name: str) -> ModuleType:
    """The module of model `name`. Raises RequestError, with the choices, for an unknown one."""
    return chosen_plugin(sys.modules[__name__], "model", name, REQUIRED)


def card(name: str) -> ModelCard:
    """The card of model `name`. Raises RequestError as `load` does."""
    return load(name).CARD


def training_overrides(name: str) -> dict[str, Any]:
    """Training settings that model `name` overrides, by field of TrainConfig. Raises RequestError as `load` does."""
    return dict(getattr(load(name), "TRAINING_OVERRIDES", {}))


def configure(name: str, config: Any = None) -> Any:
    """The model's Config: as given, from a mapping of its fields (as in checkpoints), or the default.

    Raises RequestError for an unknown field, and for a value that is not a choice or out of range.
    """
    kind = load(name).Config
    if config is None or isinstance(config, kind):
        return _checked(name, config or kind())
    if not isinstance(config, Mapping):
        raise RequestError(f"{config!r} is not a Config of model {name}")
    if unknown := set(config) - {field.name for field in fields(kind)}:
        known = ", ".join(field.name for field in fields(kind))
        raise RequestError(f"model {name} has no setting {', '.join(sorted(unknown))}; choose from {known}")
    return _checked(name, kind(**{key: tuple(v) if isinstance(v, list) else v for key, v in config.items()}))


def preset_named(name: str, preset: str) -> Any:
    """The Config of one of a model's presets; the default if none is named. Raises RequestError with the choices."""
    presets = getattr(load(name), "PRESETS", {})
    if preset and preset not in presets:
        raise RequestError(f"model {name} has no preset {preset!r}; choose from {', '.join(presets)}")
    return presets[preset] if preset else configure(name)


def _checked(name: str, config: Any) -> Any:
    """The Config. Raises RequestError for an unknown choice, a count below 1, and another number below 0."""
    for key, hint in get_type_hints(type(config)).items():
        value = getattr(config, key)
        if get_origin(hint) is Literal and value not in get_args(hint):
            raise RequestError(
                f"model {name} has no {key} {value!r}; choose from {', '.join(get_args(hint))}"
            )
        if value == ():
            raise RequestError(f"{key} of model {name} is empty: it must have one number or more")
        for number in value if isinstance(value, tuple) else (value,):
            if isinstance(number, bool) or not isinstance(number, int | float):
                continue
            least = 1 if isinstance(number, int) else 0.0
            if not least <= number < math.inf:
                raise RequestError(f"{key} of model {name} is {number}: it must be {least} or more")
    return config


def load_model(path: Path) -> AvcModel:
    """The model of a checkpoint, on the CPU and in evaluation mode.

    Raises RequestError if its front end or its weights are not those that its configuration would make here.
    """
    content = read_checkpoint(path)
    name = content["model"]
    model = load(name).build(configure(name, content["config"]))
    require_same(path, "front end", content["front_end"], model.front_end.constants)
    try:
        model.load_state_dict(content["state"])
    except RuntimeError as error:  # names or sizes of weights differ
        differences = " ".join(str(error).split())
        raise ResumeError(
            f"{path} does not hold the weights of model {name} ({differences}): train again"
        ) from error
    return model.eval()


def needs_of(path: Path) -> Needs:
    """What the model of a checkpoint requires of a dataset version. Raises RequestError if it is not a checkpoint."""
    content = read_checkpoint(path)
    name = content["model"]
    return load(name).needs(configure(name, content["config"]))
