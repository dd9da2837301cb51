"""The settings that a root remembers until others are named: preset, source, windows, choice, and its state folder.

They are in `build.json` in the root, so they come with the root, whatever folder the state is in.
"""

import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from flows.builds.options import NO_LABELS, BuildOptions
from schemas.errors import RequestError
from schemas.files import canonical_json, read_json, write_json
from schemas.storage import is_local, open_root

REMEMBERED = "build.json"
REMEDY = "remove it, and name preset, source, lists and --state in the next build"
OWNER = "root.json"  # in a state folder outside its root: the root that it belongs to
CHOICE = ("labels", "per_class", "sample")  # one choice: naming one of these replaces all of them
KEPT = ("preset", "source", "window", "val_share", "eval_share", "growth", *CHOICE)
ALL_LABELS = ("all",)  # names a choice of everything
ON_DISK = ("folder", "tars", "parquet")
CUT = "folder:"  # the source whose videos can be cut in windows


class MissingStateError(RequestError):
    """The state folder that a root remembers belongs to another root, or is not here."""


def recall(root: Path, state: Path | None = None) -> dict[str, Any]:
    """What `root` remembers, by the names of BuildOptions, and `state` and `root`; empty for a new root.

    Earlier versions kept it in the state folder.
    """
    folders = [root, *([state] if state else []), *([root / "state"] if is_local(root) else [])]
    path = next((path for folder in folders if (path := folder / REMEMBERED).is_file()), None)
    kept = _read(path) if path else {}
    if "source" in kept:
        kept["source"] = in_full(kept["source"])
    return kept | ({"labels": tuple(kept["labels"])} if "labels" in kept else {})


def remember(root: Path, options: BuildOptions, state: Path | None = None) -> None:
    """Records how a root is built and where its state folder is (`state`; by default inside the root)."""
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


def remember_state(root: Path, state: Path) -> None:
    """Records the state folder named for `root`, beside what the root remembers already: schedules name none."""
    kept = recall(root)
    if remembered_state(root, kept) != state:
        remember(root, with_remembered(BuildOptions(str(root)), kept), state)


def _write(path: Path, value: Mapping[str, Any]) -> None:
    if not path.is_file() or _read(path) != json.loads(canonical_json(value)):
        write_json(path, value)


def with_remembered(options: BuildOptions, kept: Mapping[str, Any]) -> BuildOptions:
    """The options with their source in full, completed by what is remembered.

    A choice counts as one option; windows are dropped if a list, or a source that can't be cut, is named.
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
    return value is not None and value != ()  # a share of 0 counts as given


def in_full(source: str | None) -> str | None:
    """A source on disk with its absolute path: scheduled runs have another working directory."""
    kind, _, path = (source or "").partition(":")
    return f"{kind}:{Path(path).expanduser().absolute()}" if kind in ON_DISK and path else source


def find_state(root: Path, named: str | None = None) -> Path | None:
    """Where ledgers, logs and databases of `root` are, on this machine: as named, else as remembered, else in the root.

    None for a root on a store for which no folder was named. Raises RequestError for the state folder of another root,
    and for a remembered one that is not here.
    """
    if named:
        state = Path(named).expanduser().absolute()
        owner = _read(state / OWNER).get("root", str(root))
        if owner != str(root) and _is_root(owner, state):
            raise RequestError(f"--state {state} is the state folder of {owner}: give {root} its own folder")
        return state
    kept = recall(root)
    state = remembered_state(root, kept)
    built_as = kept.get("root", str(root))
    if state is None or "root" not in kept:
        return state
    if built_as != str(root) and _is_root(built_as, state):
        raise MissingStateError(
            f"{root} is a copy of {built_as}, whose state folder is {state}: give it its own with --state DIR"
        )
    if not state.is_dir():
        raise MissingStateError(
            f"the state folder of {root} is {state}, which is not here: bring it back, or name another with --state"
        )
    return state


def state_here(root: Path, named: str | None = None) -> Path | None:
    """The same, for reading only: also None if the remembered state folder is on another machine."""
    with suppress(MissingStateError):
        return find_state(root, named)
    return None


def remembered_state(root: Path, kept: Mapping[str, Any]) -> Path | None:
    """The state folder that `kept` (from `recall`) names; None for a root on a store without one."""
    if "state" not in kept:
        return _usual_state(root)
    return root / kept["state"] if is_local(root) else Path(kept["state"])  # an absolute path stays one


def _usual_state(root: Path) -> Path | None:
    return root / "state" if is_local(root) else None


def _is_root(address: str, state: Path) -> bool:
    """Whether there is still a root at `address` whose state is in the folder `state`: it was not moved."""
    return _read(open_root(address) / REMEMBERED).get("state") == str(state)


def _read(path: Path) -> dict[str, Any]:
    """The settings in a file; empty if there is none. Raises DataError for a damaged file."""
    return read_json(path, REMEDY) if path.is_file() else {}
