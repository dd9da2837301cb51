"""Exports: one file per format that a version can be exported to; the file name is what `--to` takes.

A module has

READ                            how its library opens the result, as Python with `{folder}` and `{split}`
write(root, version, folder)    writes the version into an empty folder

`write` raises RequestError, before anything else, if its library is not installed, and DataError for a damaged shard.
The code that formats share is in `tasks/versions/unpacking.py`; `tasks/export.py` calls them.
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
