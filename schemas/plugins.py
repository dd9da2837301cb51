"""Plug-ins: every file of a plug-in folder is one, found by its name. A file that is not a plug-in is refused."""

import importlib
import pkgutil
from collections.abc import Sequence
from types import ModuleType

from schemas.errors import InternalError, RequestError


def plugin_names(package: ModuleType) -> list[str]:
    """The names of the plug-ins of a package, sorted; folders don't count."""
    return sorted(module.name for module in pkgutil.iter_modules(package.__path__) if not module.ispkg)


def chosen_plugin(package: ModuleType, kind: str, name: str, required: Sequence[str]) -> ModuleType:
    """The plug-in that a user names; `kind` is the user's word for it. Raises RequestError with the choices."""
    if name not in plugin_names(package):
        raise RequestError(f"no {kind} {name!r}; choose from {', '.join(plugin_names(package))}")
    return load_plugin(package, name, required)


def load_plugin(package: ModuleType, name: str, required: Sequence[str]) -> ModuleType:
    """The plug-in `name` of `package`. Raises InternalError, naming its file, if it lacks one of `required`."""
    module = importlib.import_module(f"{package.__name__}.{name}")
    lacking = [attribute for attribute in required if not hasattr(module, attribute)]
    if lacking:
        raise InternalError(
            f"{module.__file__} is not a plug-in of {package.__name__}: it lacks {', '.join(lacking)}. The docstring "
            "of that package says what a plug-in has. Code that plug-ins share belongs outside the folder"
        )
    return module
