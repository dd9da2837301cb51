"""Nests of mappings as flat ones, as trackers want them."""

import math
from collections.abc import Mapping
from typing import Any


def leaves(values: Any, prefix: str = "") -> dict[str, Any]:
    """What a nest of mappings holds, by its path."""
    if not isinstance(values, Mapping):
        return {prefix: values}
    nested = (leaves(value, f"{prefix}.{key}" if prefix else str(key)) for key, value in values.items())
    return {key: value for part in nested for key, value in part.items()}


def numbers(values: Any) -> dict[str, float]:
    """Finite numbers by their path; lists and words are left out."""
    found = {
        k: v for k, v in leaves(values).items() if isinstance(v, int | float) and not isinstance(v, bool)
    }
    return {key: float(value) for key, value in found.items() if math.isfinite(value)}
