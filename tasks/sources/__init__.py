"""One file per source of media; the file name is its name, and the part of `--source` before the colon.

A source module has

FORM                                how `--source` names it, such as `folder:PATH`
open_source(spec, state, access)    a context manager that yields `fetch(video_id, folder)`

`fetch` returns the whole video as a file, in `folder` or (if the source owns its files) elsewhere; or a folder of
files, each named by the key of its segment, or by the id of the video. It is called from several threads, and raises
ItemError if something is wrong with the video, Transient if something is wrong with the world. It may also have

TOOL        the program that fetches, with its version
CANARY      a video that is always available
LANES       the lanes that it uses if the state folder lists none
stamps      `stamps(spec, state)` returns a function of an id that identifies the video's file on our own disk; empty if
            there is none: a verdict about that file counts at once, and is reopened when the file changes
SECTIONS    True if `fetch` also takes the spans in seconds that are needed: it may leave out the rest of a long
            video, as long as times stay those of the whole

Code that sources share is in `files/`, `lists/` and `transport/`.
"""

import ast
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from types import ModuleType

from schemas.errors import RequestError
from schemas.plugins import load_plugin, plugin_names
from tasks.transport.policy import Access

Fetch = Callable[..., Path]  # (video_id, folder), and spans if the source has SECTIONS
REQUIRED = ("FORM", "open_source")


def open_source(spec: str, state: Path, access: Access | None = None) -> AbstractContextManager[Fetch]:
    """The source that `spec` names: `youtube`, `studio`, `folder:PATH` and the like, or a URL with `{video_id}`."""
    return module_of(spec).open_source(spec, state, access or Access())


def module_of(spec: str) -> ModuleType:
    """The module of the source that `spec` names. Raises RequestError with the choices."""
    name = spec.split(":", 1)[0].replace("https", "http")
    if name not in names():
        raise RequestError(f"unknown source {spec!r}: use one of {', '.join(forms())}")
    return load_plugin(sys.modules[__name__], name, REQUIRED)


def names() -> list[str]:
    """The names of all sources."""
    return plugin_names(sys.modules[__name__])


def forms() -> list[str]:
    """How `--source` names each source, read without importing them: yt-dlp alone would take a second."""
    return [_form_of(Path(__file__).with_name(f"{name}.py")) for name in names()]


def _form_of(path: Path) -> str:
    """The FORM that a file assigns; the name of the file if it assigns none."""
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "FORM":
            return ast.literal_eval(node.value)
    return path.stem
