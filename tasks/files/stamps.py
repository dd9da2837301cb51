"""Stamps: what tells a file from another one of that name, without reading it."""

from collections.abc import Iterable
from pathlib import Path


def stamp_of(paths: Iterable[Path]) -> str:
    """Size and time of each file that is there; empty where none is."""
    stats = [path.stat() for path in paths if path.is_file()]
    return " ".join(f"{one.st_size}-{one.st_mtime_ns}" for one in stats)
