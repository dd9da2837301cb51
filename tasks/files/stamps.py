"""Stamps: how to tell whether a file was replaced, without reading it."""

from collections.abc import Iterable
from pathlib import Path


def stamp_of(paths: Iterable[Path]) -> str:
    """Size and time of each file that exists; empty if none does."""
    stats = [path.stat() for path in paths if path.is_file()]
    return " ".join(f"{one.st_size}-{one.st_mtime_ns}" for one in stats)
