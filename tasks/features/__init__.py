"""One file a feature; the file name is its name.

A feature module has `VERSION`, `settings(profile)` (what of the profile its bytes depend on; None where the
profile has no such feature) and `members(decoded, profile) -> {suffix: bytes}`: what a sample holds of it.
"""

import importlib
import pkgutil
from functools import cache
from types import ModuleType

from schemas.feature import Profile


@cache  # it lists a folder, and is asked for every clip
def modules() -> dict[str, ModuleType]:
    """Every feature, by name."""
    names = sorted(module.name for module in pkgutil.iter_modules(__path__))
    return {name: importlib.import_module(f"{__name__}.{name}") for name in names}


def of_profile(profile: Profile) -> dict[str, ModuleType]:
    """The features of `profile`, by name."""
    return {name: module for name, module in modules().items() if module.settings(profile) is not None}
