"""Settings of a training as a user names them: read from `NAME=VALUE`, and checked against what is possible."""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from typing import Any

from flows.presets import TrainSettings
from schemas.errors import RequestError

OF_MODEL = "model."
NUMBERS = {"steps": 0, "classes_per_batch": 0, "patience": 0, "learning_rate": 0.0}  # which may also be null
USUAL = TrainSettings()
ONE_OR_MORE: tuple[Callable[[Any], bool], str] = (lambda value: value >= 1, "1 or more")
ABOVE_0: tuple[Callable[[Any], bool], str] = (lambda value: 0 < value < math.inf, "a number above 0")
RANGES: dict[str, tuple[Callable[[Any], bool], str]] = {
    "seconds": ABOVE_0,
    "steps": ONE_OR_MORE,
    "seed": (lambda value: 0 <= value < 2**63, "from 0 to 2^63 - 1"),
    "clips_share": (lambda value: 0 < value <= 1, "a share: above 0, and at most 1"),
    "classes_per_batch": ONE_OR_MORE,
    "learning_rate": ABOVE_0,
    "patience": ONE_OR_MORE,
    "num_pieces": ONE_OR_MORE,
}


def require_ranges(settings: TrainSettings) -> None:
    """Raises RequestError for a number that no training can use."""
    for name, (is_possible, words) in RANGES.items():
        value = getattr(settings, name)
        if value is not None and not is_possible(value):
            raise RequestError(f"{name} is {value}: it must be {words}")


def parsed(pairs: Sequence[str]) -> dict[str, Any]:
    """Settings of TrainSettings from `NAME=VALUE`, and of the model's Config from `model.NAME=VALUE`.

    Raises RequestError for an unknown name, or a value of another kind.
    """
    found: dict[str, Any] = {}
    for pair in pairs:
        name, _, text = pair.partition("=")
        if name.startswith(OF_MODEL):
            found.setdefault("config", {})[name.removeprefix(OF_MODEL)] = _value(text)
        else:
            found[name] = setting(name, _value(text))
    return found


def setting(name: str, value: Any) -> Any:
    """A value for a field of TrainSettings, in its kind. Raises RequestError for another kind, or an unknown name."""
    if name == "config" and isinstance(value, Mapping):
        return dict(value)
    known = {
        one.name: getattr(USUAL, one.name) for one in fields(USUAL) if one.name not in ("model", "config")
    }
    if name not in known:
        raise RequestError(
            f"no setting {name!r}; there are {', '.join(known)}, and {OF_MODEL}NAME for the model's own"
        )
    if value is None and name in NUMBERS:
        return None
    return coerce_like(NUMBERS.get(name, known[name]), name, value)


def coerce_like(usual: Any, name: str, value: Any) -> Any:
    """`value` as a setting of the kind of `usual`. Raises RequestError for one of another kind."""
    if isinstance(usual, tuple):
        items = value if isinstance(value, list | tuple) else map(_value, str(value).split("+"))
        return tuple(coerce_like(usual[0] if usual else "", name, item) for item in items)
    if isinstance(usual, str):
        return str(value)
    if isinstance(usual, bool):
        if isinstance(value, bool):
            return value
        raise RequestError(f"{name} must be true or false, and not {value!r}")
    if isinstance(value, int | float) and not isinstance(value, bool):
        if isinstance(usual, float):
            return float(value)
        if math.isfinite(value) and value == int(value):
            return int(value)
    raise RequestError(f"{name} must be of type {type(usual).__name__}, like {usual!r}, and not {value!r}")


def _value(text: str) -> Any:
    """JSON, or the text itself."""
    try:
        return json.loads(text)
    except ValueError:
        return text
