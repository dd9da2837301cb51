"""One file a feature; the file name is its name.

A feature module has `VERSION` and `members(decoded, profile) -> {suffix: bytes}`: what a sample holds of it.
"""

import importlib
import pkgutil
from types import ModuleType


def modules() -> dict[str, ModuleType]:
    """Every feature, by name."""
    names = sorted(module.name for module in pkgutil.iter_modules(__path__))
    return {name: importlib.import_module(f"{__name__}.{name}") for name in names}
