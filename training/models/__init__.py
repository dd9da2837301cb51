"""Models: one file a model, named as it is. Nothing else is here; what a model is stands in `interface.py`."""

import importlib
import math
import pkgutil
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from types import ModuleType
from typing import Any, Literal, get_args, get_origin, get_type_hints

from training.interface import AvcModel, Needs
from training.networks.checkpoint import read_checkpoint, require_same


def names() -> list[str]:
    """The models there are."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__))


def load(name: str) -> ModuleType:
    """The module of model `name`. Raises ValueError that lists the choices."""
    if name not in names():
        raise ValueError(f"no model {name!r}; there are {', '.join(names())}")
    return importlib.import_module(f"{__name__}.{name}")


def configure(name: str, config: Any = None) -> Any:
    """The model's Config: as given, from a mapping of its fields (as in checkpoints), or the default.

    Raises ValueError for a field, a choice or a size that can't be.
    """
    kind = load(name).Config
    if config is None or isinstance(config, kind):
        return _checked(name, config or kind())
    if not isinstance(config, Mapping):
        raise ValueError(f"{config!r} is no Config of model {name}")
    if unknown := set(config) - {field.name for field in fields(kind)}:
        known = ", ".join(field.name for field in fields(kind))
        raise ValueError(f"model {name} has no setting {', '.join(sorted(unknown))}; it has {known}")
    return _checked(name, kind(**{key: tuple(v) if isinstance(v, list) else v for key, v in config.items()}))


def preset_named(name: str, preset: str) -> Any:
    """The Config of one of a model's presets, the default for none. Raises ValueError with the choices."""
    presets = getattr(load(name), "PRESETS", {})
    if preset and preset not in presets:
        raise ValueError(f"model {name} has no preset {preset!r}; there are {', '.join(presets)}")
    return presets[preset] if preset else configure(name)


def _checked(name: str, config: Any) -> Any:
    """The Config, of which choices are among those that there are, counts 1 or more and other numbers not below 0."""
    for key, hint in get_type_hints(type(config)).items():
        value = getattr(config, key)
        if get_origin(hint) is Literal and value not in get_args(hint):
            raise ValueError(f"model {name} has no {key} {value!r}; there are {', '.join(get_args(hint))}")
        if value == ():
            raise ValueError(f"{key} of model {name} is empty: it must have one number or more")
        for number in value if isinstance(value, tuple) else (value,):
            if isinstance(number, bool) or not isinstance(number, int | float):
                continue
            least = 1 if isinstance(number, int) else 0.0
            if not least <= number < math.inf:
                raise ValueError(f"{key} of model {name} is {number}: it must be {least} or more")
    return config


def load_model(path: Path) -> AvcModel:
    """The model of a checkpoint, on the CPU and in evaluation mode.

    Raises ValueError where it was trained on another front end than its configuration makes here.
    """
    content = read_checkpoint(path)
    name = content["model"]
    model = load(name).build(configure(name, content["config"]))
    require_same(path, "front end", content["front_end"], model.front_end.constants)
    model.load_state_dict(content["state"])
    return model.eval()


def needs_of(path: Path) -> Needs:
    """What the model of a checkpoint requires of a dataset version."""
    content = read_checkpoint(path)
    name = content["model"]
    return load(name).needs(configure(name, content["config"]))
