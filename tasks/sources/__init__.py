"""One file a source of media; the file name is its name, and the part of `--source` before the colon.

A source module has `open_source(spec, state, access)`, a context manager that yields `fetch(video_id, folder)`:
the whole video as a file, in `folder` or (a source that owns its files) elsewhere; or a folder of files, each named
by the key of the segment that it holds, or by the video's id. `fetch` is called from several threads. It raises
ItemError for what is wrong with the video, Transient for what is wrong with the world.
`TOOL` (optional) names the program that fetches, `CANARY` a video that is always there, `LANES` who may ask how fast.
`SECTIONS` (optional) says that `fetch` also takes which spans in seconds are wanted, and may leave out the rest of a
long video as long as its times stay what they are in the whole.
"""

import importlib
import pkgutil
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from types import ModuleType

from tasks.transport.policy import Access

Fetch = Callable[..., Path]  # (video_id, folder), and spans where the source has SECTIONS


def open_source(spec: str, state: Path, access: Access | None = None) -> AbstractContextManager[Fetch]:
    """The source that `spec` names: `youtube`, `studio`, `folder:PATH` and the like, a URL with `{video_id}` in it."""
    return module_of(spec).open_source(spec, state, access or Access())


def module_of(spec: str) -> ModuleType:
    """The module of the source that `spec` names. Raises ValueError with the choices."""
    name = spec.split(":", 1)[0].replace("https", "http")
    if name not in names():
        raise ValueError(f"unknown source {spec!r}: use one of {', '.join(names())} (http: a URL template)")
    return importlib.import_module(f"tasks.sources.{name}")


def names() -> list[str]:
    """The names of all sources."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__) if not module.ispkg)
