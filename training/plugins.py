"""Plug-in folders: finds the modules of a folder by their file names, and refuses a file that is no plug-in.

The contract of a model stands in `training/models/__init__.py`, that of an evaluation in
`training/evaluation/__init__.py`.
"""

import importlib
import pkgutil
from collections.abc import Iterable
from dataclasses import dataclass
from types import ModuleType

from schemas.errors import RequestError


@dataclass(frozen=True)
class PluginFolder:
    """A package of which every module is a plug-in that defines all names in `required`."""

    package: ModuleType
    kind: str  # of plug-in, for messages: `model`
    required: tuple[str, ...]
    helpers: str  # where a module belongs that is no plug-in

    def names(self) -> list[str]:
        """The plug-ins, sorted by name."""
        return sorted(module.name for module in pkgutil.iter_modules(self.package.__path__))

    def load(self, name: str) -> ModuleType:
        """The plug-in `name`.

        Raises RequestError, with the choices, where there is none, and for a module that lacks part of the contract.
        """
        if name not in self.names():
            raise RequestError(f"no {self.kind} {name!r}; choose from {', '.join(self.names())}")
        module = importlib.import_module(f"{self.package.__name__}.{name}")
        if missing := [required for required in self.required if not hasattr(module, required)]:
            raise RequestError(
                f"{module.__file__} is no {self.kind}: it does not define {_listed(missing)}; the contract is in the "
                f"docstring of {self.package.__name__}, and modules that are no {self.kind} belong in {self.helpers}"
            )
        return module


def _listed(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)
