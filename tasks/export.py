"""Export: a version as a folder in another format, completely or not at all."""

import errno
import fcntl
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

from schemas import layout
from schemas.errors import FULL, OperationalError, RequestError
from schemas.shard import Version, exclude_path, read_exclusions, read_version, receipt_path
from schemas.storage import is_local, make_folder, sync_folder
from tasks.exports import format_named
from tasks.leases import training_mark
from tasks.versions.card import card_of
from tasks.versions.unpacking import copy_whole

README = "README.md"
PARTIAL = ".mcgurk-export"  # suffix of the name of an unfinished folder


@dataclass(frozen=True)
class Exported:
    """What was exported, and how to read it."""

    version: Version
    folder: Path
    read: str  # Python
    num_excluded: int  # the number of keys on its exclusion list; they are in the export, too


def export(root: Path, state: Path | None, name: str, target: Path) -> Exported:
    """Writes the latest version of `root` to `target` in the format `name`.

    Samples on exclusion lists are exported, too: the lists go along, and the reader applies them, as for shards. Raises
    RequestError for an unknown format or one whose library is not installed, and for a `target` that is not empty or
    lies in the root.
    """
    module = format_named(name)
    version = read_version(root)
    if not version.shards:
        raise RequestError(f"version {version.digest[:12]} of {root} is empty: every sample was taken down")
    split = version.shards[0].split
    target = target.resolve()  # replaces the folder that a link points to, not the link
    if is_local(root) and target.is_relative_to(root.resolve()):
        raise RequestError(
            f"{target} lies in the root, where a take-down would not reach it: name a folder outside"
        )
    with _reading(state, version), _made_whole(target) as folder:
        module.write(root, version, folder)
        if not (folder / README).is_file():
            _describe(root, version, module.READ.format(folder=".", split=split), folder)
    read = module.READ.format(folder=json.dumps(str(target), ensure_ascii=False)[1:-1], split=split)
    return Exported(version, target, read, len(read_exclusions(root, version.digest)))


def _describe(root: Path, version: Version, read: str, folder: Path) -> None:
    """Writes the card, with its own way to read, and copies exclusion list and receipt beside the data."""
    library, _, _ = read.partition(".")
    _, _, body = card_of(root, version).removeprefix("---\n").partition("---\n")
    about, _, _ = body.partition("## Reading it\n")
    about = about.replace(
        f"{layout.VERSIONS}/{version.digest}", version.digest
    )  # they lie beside the card, as do the files that it names
    (folder / README).write_text(
        f"{about.strip()}\n\n## Reading it\n\n```python\nimport {library}\n\n{read}\n```\n"
    )
    for path_of in (exclude_path, receipt_path):
        if (path := path_of(root, version.digest)).is_file():
            copy_whole(path, folder / path.name)


def _reading(state: Path | None, version: Version) -> AbstractContextManager[None]:
    """Inside the block, `prune` leaves the version alone, if the state of the root is on this machine."""
    return training_mark(state, version.digest) if state and state.is_dir() else nullcontext()


@contextmanager
def _made_whole(target: Path) -> Iterator[Path]:
    """A folder that becomes `target` when the block succeeds, and is removed when it fails.

    Also removes what a killed export left. Raises RequestError if `target` is not empty or another export is writing
    it.
    """
    partial = target.with_name(f".{target.name}{PARTIAL}")
    with _telling(target):
        if target.exists() and not (target.is_dir() and not any(target.iterdir())):
            raise RequestError(f"{target} exists and is not an empty folder: name another, or remove it")
        if os.path.ismount(target):
            raise RequestError(f"{target} is a mount point and can't be replaced: name a folder in it")
        make_folder(partial)
    with _held(partial):
        try:
            _empty(partial)
            with _telling_full(partial):
                yield partial
                _sync(partial)
            partial.replace(target)
            sync_folder(target.parent)
        finally:
            shutil.rmtree(partial, ignore_errors=True)


@contextmanager
def _telling(target: Path) -> Iterator[None]:
    """Reports a path that can't be a folder as RequestError."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOTDIR, errno.EEXIST, errno.ENAMETOOLONG):
            raise
        raise RequestError(f"{target} can't be a folder ({error.strerror}): name another") from error


@contextmanager
def _telling_full(partial: Path) -> Iterator[None]:
    """Reports a full disk as OperationalError that names it: the disk of the export, or of files from a store."""
    try:
        yield
    except OSError as error:
        if error.errno not in FULL:
            raise
        full = min((partial, Path(tempfile.gettempdir())), key=lambda folder: shutil.disk_usage(folder).free)
        raise OperationalError(
            f"the disk of {full.parent if full == partial else full} is full, and nothing is left of the export: make "
            "room, or name a folder on another disk (TMPDIR: the one for temporary files)"
        ) from error


@contextmanager
def _held(folder: Path) -> Iterator[None]:
    """Inside the block, no other process holds the folder. Raises RequestError if one does."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        _lock(handle, folder)
        yield
    finally:
        os.close(handle)


def _lock(handle: int, folder: Path) -> None:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise RequestError(f"{folder} is being written by another export: wait for it") from error


def _empty(folder: Path) -> None:
    for path in folder.iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def _sync(folder: Path) -> None:
    """Syncs all files to the disk: the name of the folder implies that they are complete."""
    for path in folder.rglob("*"):
        if path.is_dir():
            sync_folder(path)
        else:
            with path.open("rb") as file:
                os.fsync(file.fileno())
    sync_folder(folder)
