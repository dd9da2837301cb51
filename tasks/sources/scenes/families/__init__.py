"""The table of families."""

from tasks.sources.scenes.families import impacts, living, machines, music, water
from tasks.sources.scenes.family import Family

FAMILIES: dict[str, Family] = {
    family.name: family for module in (impacts, living, machines, music, water) for family in module.FAMILIES
}

# Kept out of training. Their laws are all met elsewhere: wood and bars in `ball` and `glockenspiel`, pulsed
# voices in `face` and `bird`, counts and metal in `rain`, `boiling` and `glockenspiel`, noise in `footsteps`.
HELD_OUT = ("marimba", "frog", "wind_chime", "clapping")
TRAINED = tuple(name for name in FAMILIES if name not in HELD_OUT)

LABELS: dict[str, str] = {family.mid: family.label for family in FAMILIES.values()}
