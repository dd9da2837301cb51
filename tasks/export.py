"""Export: a version as a folder in another format, whole or not at all."""

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

from schemas.errors import RequestError
from schemas.shard import Version, exclude_path, read_exclusions, read_version, receipt_path
from schemas.storage import as_local, sync_folder
from tasks.exports import format_named
from tasks.leases import training_mark
from tasks.versions.card import card_of

README = "README.md"
PARTIAL = ".mcgurk-export"  # ends the name of a folder that is not finished


@dataclass(frozen=True)
class Exported:
    """What was exported, and how it is read."""

    version: Version
    folder: Path
    read: str  # Python
    num_excluded: int  # keys of its exclusion list, which are in the export, too


def export(root: Path, state: Path | None, name: str, target: Path) -> Exported:
    """Writes the latest version of `root` to `target` in the format `name`.

    Exclusion lists leave nothing out: they go along, and the reader applies them, as for shards. Raises RequestError
    for a format that there is not or whose library is not installed, and for a `target` that has something in it.
    """
    module = format_named(name)
    version = read_version(root)
    if not version.shards:
        raise RequestError(f"version {version.digest[:12]} of {root} is empty: every sample was taken down")
    split = version.shards[0].split
    with _reading(state, version), _made_whole(target) as folder:
        module.write(root, version, folder)
        if not (folder / README).is_file():
            _describe(root, version, module.READ.format(folder=".", split=split), folder)
    read = module.READ.format(folder=target, split=split)
    return Exported(version, target, read, len(read_exclusions(root, version.digest)))


def _describe(root: Path, version: Version, read: str, folder: Path) -> None:
    """Writes the card, with another way to read, exclusion list and receipt beside what was written."""
    library, _, _ = read.partition(".")
    _, _, body = card_of(root, version).removeprefix("---\n").partition("---\n")
    told, _, _ = body.partition("## Reading it\n")
    (folder / README).write_text(
        f"{told.strip()}\n\n## Reading it\n\n```python\nimport {library}\n\n{read}\n```\n"
    )
    for path_of in (exclude_path, receipt_path):
        if (path := path_of(root, version.digest)).is_file():
            with as_local(path) as local:
                shutil.copyfile(local, folder / path.name)


def _reading(state: Path | None, version: Version) -> AbstractContextManager[None]:
    """Inside the block `prune` leaves the version alone, where the root has its state on this machine."""
    return training_mark(state, version.digest) if state and state.is_dir() else nullcontext()


@contextmanager
def _made_whole(target: Path) -> Iterator[Path]:
    """A folder that becomes `target` when the block succeeds, and is removed when it fails.

    What a killed export left is removed, too. Raises RequestError where `target` has something in it, or another export
    is writing it.
    """
    if target.exists() and not (target.is_dir() and not any(target.iterdir())):
        raise RequestError(f"{target} is there, and not an empty folder: name another, or remove it")
    partial = target.with_name(f".{target.name}{PARTIAL}")
    partial.mkdir(parents=True, exist_ok=True)
    with _held(partial):
        try:
            _empty(partial)
            yield partial
            _sync(partial)
            partial.replace(target)
            sync_folder(target.parent)
        finally:
            shutil.rmtree(partial, ignore_errors=True)


@contextmanager
def _held(folder: Path) -> Iterator[None]:
    """Inside the block no other process holds the folder. Raises RequestError where one does."""
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
    """Has all files on the disk: the name of the folder says that they are whole."""
    for path in folder.rglob("*"):
        if path.is_dir():
            sync_folder(path)
        else:
            with path.open("rb") as file:
                os.fsync(file.fileno())
    sync_folder(folder)
