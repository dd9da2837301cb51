"""The settings that a root remembers until others are named: preset, source, windows, choice, and its state folder.

It stands in `build.json` of the root, so that whoever has the root has it, whatever folder the state is in.
"""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from flows.builds.options import NO_LABELS, BuildOptions
from schemas.errors import RequestError
from schemas.files import canonical_json, read_json, write_json
from schemas.storage import is_local, open_root

REMEMBERED = "build.json"
REMEDY = "remove it, and name preset, source, lists and --state in the next build"
OWNER = "root.json"  # in a state folder outside of its root: whose it is
CHOICE = ("labels", "per_class", "sample")  # one choice: who names a part of it names all of it
KEPT = ("preset", "source", "window", "val_share", "eval_share", "growth", *CHOICE)
ALL_LABELS = ("all",)  # names a choice of everything
ON_DISK = ("folder", "tars", "parquet")
CUT = "folder:"  # the source whose videos can be cut in windows


def recall(root: Path, state: Path | None = None) -> dict[str, Any]:
    """What `root` remembers, by the names of BuildOptions, and `state` and `root`; empty for a new one.

    Roots of earlier versions kept it in their state folder.
    """
    folders = [root, *([state] if state else []), *([root / "state"] if is_local(root) else [])]
    path = next((path for folder in folders if (path := folder / REMEMBERED).is_file()), None)
    kept = _read(path) if path else {}
    if "source" in kept:
        kept["source"] = in_full(kept["source"])
    return kept | ({"labels": tuple(kept["labels"])} if "labels" in kept else {})


def remember(root: Path, options: BuildOptions, state: Path | None = None) -> None:
    """Keeps what says how a root is built and where its state lies (`state`: outside of it, by default within)."""
    kept = {name: value for name in KEPT if _is_said(value := getattr(options, name))}
    usual = _usual_state(root)
    if state is not None and state != usual:
        is_within = is_local(root) and state.is_relative_to(root)
        kept["state"] = str(state.relative_to(root) if is_within else state)
        if not is_within:
            kept["root"] = str(root)
            _write(state / OWNER, {"root": str(root)})
    _write(root / REMEMBERED, kept)
    for old in {state, usual} - {None, root}:
        (old / REMEMBERED).unlink(missing_ok=True)  # pyright: ignore[reportOptionalOperand]


def _write(path: Path, value: Mapping[str, Any]) -> None:
    if not path.is_file() or _read(path) != json.loads(canonical_json(value)):
        write_json(path, value)


def with_remembered(options: BuildOptions, kept: Mapping[str, Any]) -> BuildOptions:
    """The options with their source in full, and what is remembered where they name nothing else.

    A choice counts as one; windows go where a list or a source is named that can't be cut.
    """
    options = replace(options, source=in_full(options.source))
    left = {name: value for name, value in kept.items() if name in KEPT}
    if not options.choice.is_all:
        left = {name: value for name, value in left.items() if name not in CHOICE}
    if tuple(options.labels) == ALL_LABELS:
        options = replace(options, labels=())
    if options.window and left.get("labels") != NO_LABELS:
        left.pop("labels", None)  # of lists
    if options.segments or not (options.source or CUT).startswith(CUT):
        left.pop("window", None)
    unsaid = {name: value for name, value in left.items() if not _is_said(getattr(options, name))}
    return replace(options, **unsaid)


def _is_said(value: Any) -> bool:
    return value is not None and value != ()  # a share of 0 is said


def in_full(source: str | None) -> str | None:
    """A source on disk with its absolute path: what a schedule runs stands in another folder."""
    kind, _, path = (source or "").partition(":")
    return f"{kind}:{Path(path).expanduser().absolute()}" if kind in ON_DISK and path else source


def find_state(root: Path, named: str | None = None) -> Path | None:
    """Where ledgers, logs and databases of `root` lie, on this machine: as named, else as remembered, else in it.

    None for a root on a store without a folder named for it. Raises RequestError for a state folder of another root,
    and for one that is remembered and not here.
    """
    if named:
        state = Path(named).expanduser().absolute()
        owner = _read(state / OWNER).get("root", str(root))
        if owner != str(root) and _is_root(owner, state):
            raise RequestError(f"--state {state} is the state of {owner}: give {root} a folder of its own")
        return state
    kept = recall(root)
    state = remembered_state(root, kept)
    built_as = kept.get("root", str(root))
    if state is None or "root" not in kept:
        return state
    if built_as != str(root) and _is_root(built_as, state):
        raise RequestError(
            f"{root} is a copy of {built_as}, whose state is {state}: give it its own by --state DIR"
        )
    if not state.is_dir():
        raise RequestError(
            f"the state of {root} is {state}, which is not here: bring it back, or name another by --state"
        )
    return state


def remembered_state(root: Path, kept: Mapping[str, Any]) -> Path | None:
    """The state folder that `kept`, as `recall` says it, names; None for a root on a store without one."""
    if "state" not in kept:
        return _usual_state(root)
    return root / kept["state"] if is_local(root) else Path(kept["state"])  # an absolute path stays one


def _usual_state(root: Path) -> Path | None:
    return root / "state" if is_local(root) else None


def _is_root(address: str, state: Path) -> bool:
    """Whether a root still stands at `address` that has its state in the folder `state`: it was not moved."""
    return _read(open_root(address) / REMEMBERED).get("state") == str(state)


def _read(path: Path) -> dict[str, Any]:
    """The settings in a file; empty for none. Raises DataError for one that is damaged."""
    return read_json(path, REMEDY) if path.is_file() else {}
