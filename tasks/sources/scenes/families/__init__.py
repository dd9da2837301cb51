"""The families of scenes: each file here is a group of them, in the tuple `FAMILIES`.

Their order, by file and then by position in it, is data: seeds draw from it, and labels are numbered by it. An
additional family makes other corpora from the same seeds.
"""

import sys

from schemas.plugins import load_plugin, plugin_names
from tasks.sources.scenes.family import Family

_PACKAGE = sys.modules[__name__]
FAMILIES: dict[str, Family] = {
    family.name: family
    for name in plugin_names(_PACKAGE)
    for family in load_plugin(_PACKAGE, name, ("FAMILIES",)).FAMILIES
}
HELD_OUT = tuple(name for name, family in FAMILIES.items() if family.is_held_out)
TRAINED = tuple(name for name in FAMILIES if name not in HELD_OUT)

LABELS: dict[str, str] = {family.mid: family.label for family in FAMILIES.values()}
