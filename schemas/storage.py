"""Storage: local paths, or objects of any store that fsspec supports, behind pathlib's interface.

A root is a `Path`, or for `s3://bucket/folder` and the like a `UPath`, which has the same methods. On both, files
appear completely or not at all: by a rename on a disk, by a single put of a finished local file on a store.
"""

import errno
import os
import re
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar, cast

from schemas.errors import RequestError

T = TypeVar("T")
TRIES = 5  # of a call to a store; the first wait is FIRST_WAIT_S, each later one twice as long
FIRST_WAIT_S = 0.2
SCRATCH = ".mcgurk-"  # prefix of scratch folders in a root
TEMPORARY = re.compile(r"\..+\.\d+\.[0-9a-f]{8}\.tmp")  # as `replacing` names files


def open_root(address: str) -> Path:
    """The folder that `address` names: a path, or a URL with a scheme that fsspec knows."""
    if "://" not in address:
        return Path(address).expanduser().absolute()
    from upath import UPath  # it costs 0.2 s, which local roots do not pay

    # A cached listing would hide what another process has written since.
    return cast(Path, UPath(address, use_listings_cache=False))


def is_local(path: Path) -> bool:
    """Whether `path` is on this machine's disks, so that it can be mapped, renamed and locked."""
    return isinstance(path, Path)


def is_writable(folder: Path) -> bool:
    """Whether this account may write in a local folder, or create it."""
    there = next(path for path in (folder, *folder.parents) if path.is_dir())
    return os.access(there, os.W_OK)


def require_folder(folder: Path, option: str) -> None:
    """Raises RequestError, which names `option`, for a local path that is not a folder and can't become one."""
    if is_local(folder):
        there = next(path for path in (folder, *folder.parents) if path.is_symlink() or path.exists())
        if not there.is_dir():
            raise RequestError(f"{option} {folder}: {there} is not a folder: name another place")


def path_under(root: Path, path: Path) -> str:
    """`path` relative to `root`, as manifests name files: `features/audio/000003.arrow`."""
    return str(path).removeprefix(str(root)).lstrip("/")


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A local temporary path that replaces `path` when the block succeeds, and is removed when it fails."""
    if not is_local(path):
        with TemporaryDirectory(prefix="mcgurk-") as folder:
            temporary = Path(folder) / path.name
            yield temporary
            _upload(temporary, path)
        return
    make_folder(path.parent)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{os.urandom(4).hex()}.tmp")
    try:
        with naming(path):
            yield temporary
            with temporary.open("rb") as written:
                os.fsync(written.fileno())
            temporary.replace(path)
            sync_folder(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def make_folder(folder: Path) -> None:
    """Makes a folder and its parents and syncs their names: if a folder's name is lost, so is everything in it."""
    if folder.is_dir():
        return
    if not is_local(folder):
        folder.mkdir(parents=True, exist_ok=True)
        return
    make_folder(folder.parent)
    folder.mkdir(exist_ok=True)
    sync_folder(folder.parent)


def remove(*paths: Path) -> None:
    """Removes those of the files that exist; their names are gone from the disk when it returns."""
    for path in paths:
        path.unlink(missing_ok=True)
    for folder in {path.parent for path in paths if is_local(path)}:
        if folder.is_dir():
            sync_folder(folder)


def remove_folder(folder: Path) -> None:
    """Removes a local folder and everything in it; its name is gone from the disk when it returns."""
    shutil.rmtree(folder, ignore_errors=True)
    if folder.parent.is_dir():
        sync_folder(folder.parent)


def sync_folder(folder: Path) -> None:
    """Syncs the names in a local folder to the disk: before that, a power failure may undo a rename.

    What is written later can then rely on them. Does nothing if the file system can't sync folders, or if the folder
    may be entered but not read.
    """
    try:
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except PermissionError:
        return
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
    finally:
        os.close(handle)


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Makes errors of writing in the block name `path`: the kernel reports a full disk without the file."""
    try:
        yield
    except OSError as error:
        if error.filename is None and error.errno is not None:
            raise OSError(error.errno, os.strerror(error.errno), str(path)) from error
        raise


def sweep(folder: Path) -> None:
    """Removes what `replacing` and users of `scratch_beside` left in `folder` when they were killed.

    No process may write there meanwhile. Nothing is left on a store: its files are made elsewhere.
    """
    if not (is_local(folder) and folder.is_dir()):
        return
    for path in folder.glob(".*"):
        if TEMPORARY.fullmatch(path.name):
            path.unlink(missing_ok=True)
        elif path.name.startswith(SCRATCH):
            shutil.rmtree(path, ignore_errors=True)


def place(file: Path, path: Path) -> None:
    """Moves a finished local file to `path`, completely or not at all."""
    with replacing(path) as temporary:
        shutil.move(file, temporary)


def scratch_beside(folder: Path) -> str | None:
    """Where to make a large file for `folder`: inside it, so that a rename can move it; None for a store."""
    if not is_local(folder):
        return None
    make_folder(folder)
    return str(folder)


@contextmanager
def as_local(path: Path) -> Iterator[Path]:
    """`path` itself, or a local copy of it while the block lasts. Raises FileNotFoundError."""
    if is_local(path):
        yield path
        return
    with TemporaryDirectory(prefix="mcgurk-") as folder:
        copy = Path(folder) / path.name
        retried(lambda: _store(path).get_file(_name(path), str(copy)))
        yield copy


def lend(folder: Path, target: Path) -> None:
    """Makes the files of `folder` readable at the local `target`: by a link, or by a copy if it is on a store."""
    make_folder(target.parent)
    if is_local(folder):
        target.symlink_to(folder, target_is_directory=True)
        return
    with suppress(FileNotFoundError):  # a store has no empty folders
        retried(lambda: _store(folder).get(f"{_name(folder)}/", f"{target}/", recursive=True))


def readable(path: Path) -> Any:
    """What pyarrow reads `path` from: the path of a local file, or an open file on a store."""
    return str(path) if is_local(path) else retried(lambda: path.open("rb"))


def is_whole(path: Path, size_bytes: int) -> bool:
    """Whether `path` exists with that size."""
    try:
        return retried(lambda: path.stat()).st_size == size_bytes
    except FileNotFoundError:
        return False


def lost_files(root: Path, files: Mapping[str, int]) -> list[str]:
    """Those of `files` (path under the root -> bytes) that are missing or have another size."""
    if not is_local(root):
        return [name for name, size in files.items() if not is_whole(root / name, size)]
    folder = f"{root}/"  # without a `Path` for each: a root may own millions
    return [name for name, size in files.items() if _local_size(folder + name) != size]


def _local_size(path: str) -> int:
    try:
        return os.stat(path).st_size  # noqa: PTH116 (a `Path` costs twice as much)
    except FileNotFoundError:
        return -1


def retried(call: Callable[[], T]) -> T:
    """What `call` returns; it is repeated while a store or the network fails."""
    for attempt in range(TRIES):
        try:
            return call()
        except (FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError):
            raise  # an answer, not a failure
        except (OSError, TimeoutError):
            if attempt == TRIES - 1:
                raise
            time.sleep(FIRST_WAIT_S * 2**attempt)
    raise AssertionError("unreachable")


def _upload(file: Path, path: Path) -> None:
    retried(lambda: _store(path).put_file(str(file), _name(path)))


def _store(path: Path) -> Any:
    return cast(Any, path).fs


def _name(path: Path) -> str:
    return cast(Any, path).path
