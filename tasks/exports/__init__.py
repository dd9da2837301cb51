"""Exports: one file per format that a version is exported to; the file name is its name, and what `--to` takes.

A module has

READ                            how its library opens the result, as Python with `{folder}` and `{split}`
write(root, version, folder)    writes the version into an empty folder

`write` raises RequestError, before anything else, where its library is not installed, and DataError for a shard that is
damaged. What the formats share lies in `tasks/versions/unpacking.py`; `tasks/export.py` calls them.
"""

import sys
from types import ModuleType

from schemas.plugins import chosen_plugin, plugin_names

REQUIRED = ("READ", "write")


def format_named(name: str) -> ModuleType:
    """The module of a format. Raises RequestError with the choices."""
    return chosen_plugin(sys.modules[__name__], "format", name, REQUIRED)


def names() -> list[str]:
    """The names of all formats."""
    return plugin_names(sys.modules[__name__])
