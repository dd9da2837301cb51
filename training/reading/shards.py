"""The bytes of a version's tars by position: read from a local disk, requested from a URL, or held in memory.

`schemas/shard.py` says what the tars hold; `training/reading/dataset.py` reads it.
"""

import io
import logging
import mmap
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import fsspec.core

from schemas.errors import DataError, MissingError
from schemas.files import MEND
from schemas.shard import Version, index_path, tar_path

log = logging.getLogger(__name__)

KEPT_OPEN = 256  # local tars: a process may open 1,024 files
KEPT_SHARDS = 8  # whole tars of a host without range requests: as many as a shuffled batch may need in turn
SIDECARS_AT_ONCE = 64
READ_BYTES = 1 << 20  # tarfile reads 10 kB at a time: one request, or one change of thread, each
PARQUET_MAGIC = b"PAR1"  # how a sidecar begins
SILENCE_S = 60.0  # a request fails after the host has been silent for this long

Place = tuple[int, int, int]  # number of the tar in the version, offset, size in bytes


class Shards(Protocol):
    """The source of members' bytes."""

    @property
    def is_remote(self) -> bool:
        """Whether a training should read tars from end to end instead of by member."""
        ...

    def slice(self, place: Place) -> memoryview:
        """The bytes at `place`."""
        ...

    def piece(self, place: Place, start: int, size_bytes: int) -> memoryview:
        """Some of the bytes at `place`, from the `start`-th on: of a local tar, no others are read."""
        ...

    def holding(self, places: Iterable[Place]) -> "Shards":
        """Shards that have the bytes at `places` ready."""
        ...


class _OpenTar:
    """A tar that stays open as long as it is used."""

    def __init__(self, path: Path) -> None:
        self.file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)

    def __del__(self) -> None:
        with suppress(AttributeError):  # it was never opened
            os.close(self.file)


class LocalShards:
    """Tars on a local disk, read at their places; opened on first use and shared by all views of a dataset.

    Not mapped: if a mapped tar shrinks, or its disk fails, the kernel ends the process without a message (SIGBUS).
    """

    is_remote = False

    def __init__(self, root: Path, version: Version) -> None:
        self._root = root
        self._shards = version.shards
        self._opened = lru_cache(KEPT_OPEN)(self._open)

    def sidecars(self) -> Iterator[bytes]:
        """The Parquet file beside each tar, in the version's order. Raises MissingError if one does not exist."""
        return (_existing(index_path(self._root, shard)).read_bytes() for shard in self._shards)

    def check(self) -> None:
        """Raises MissingError if a tar does not exist, DataError if its size is not the one its version states."""
        for shard in self._shards:
            size = _existing(tar_path(self._root, shard)).stat().st_size
            if size != shard.size_bytes:
                raise _damaged(f"{shard.name}.tar", f"it has {size:,} bytes instead of {shard.size_bytes:,}")

    def slice(self, place: Place) -> memoryview:
        """The bytes at `place`. Raises MissingError if the tar does not exist, DataError if it ends before them."""
        shard, offset, size_bytes = place
        tar = self._opened(shard)  # held meanwhile: another thread's tar may replace it, which closes it
        content = memoryview(os.pread(tar.file, size_bytes, offset))
        if len(content) != size_bytes:
            raise _damaged(f"{self._shards[shard].name}.tar", f"it ends before byte {offset + size_bytes:,}")
        return content

    def piece(self, place: Place, start: int, size_bytes: int) -> memoryview:
        """See Shards."""
        shard, offset, _ = place
        return self.slice((shard, offset + start, size_bytes))

    def holding(self, places: Iterable[Place]) -> "LocalShards":
        """Itself: all bytes are on the disk."""
        return self

    def _open(self, shard: int) -> _OpenTar:
        return _OpenTar(_existing(tar_path(self._root, self._shards[shard])))


def _damaged(name: str, problem: str) -> DataError:
    return DataError(f"{name} is damaged: {problem}; {MEND}")


class HeldShards:
    """Bytes that were fetched before, and no others."""

    is_remote = False

    def __init__(self, content: Mapping[Place, bytes | memoryview]) -> None:
        self._content = content

    def slice(self, place: Place) -> memoryview:
        """The bytes at `place`. Raises KeyError if they were not fetched."""
        return memoryview(self._content[place])

    def piece(self, place: Place, start: int, size_bytes: int) -> memoryview:
        """See Shards."""
        return self.slice(place)[start : start + size_bytes]

    def holding(self, places: Iterable[Place]) -> "HeldShards":
        """Itself."""
        return self


class RemoteShards:
    """Tars behind any URL that fsspec knows (http, https, s3, file, ...): by range, or from end to end.

    From a host without range requests (such as Python's own server) whole tars are fetched, of which some are kept.
    """

    is_remote = True

    def __init__(self, root: Any, version: Version) -> None:
        """`root` is a URL, or a `UPath` with its storage options."""
        options = dict(getattr(root, "storage_options", {}))
        if str(root).startswith("http"):
            options.setdefault("client_kwargs", {"timeout": _patience()})
        self._fs, folder = fsspec.core.url_to_fs(str(root).rstrip("/"), **options)
        self._stems = [f"{folder}/shards/{shard.name}" for shard in version.shards]
        self.has_ranges = not self._stems or self._answers_range(f"{self._stems[0]}.parquet")
        if not self.has_ranges:
            log.warning("%s does not support range requests: reading a member fetches its whole tar", root)
        self._whole = lru_cache(KEPT_SHARDS)(self._fetch_whole)

    def _answers_range(self, sidecar: str) -> bool:
        # Its bytes, not their number: a client may cut a whole file short to the requested size. And by name: for s3fs,
        # the second argument is a version of the object.
        return self._fs.cat_file(sidecar, start=1, end=3) == PARQUET_MAGIC[1:3]

    def sidecars(self) -> Iterator[bytes]:
        """The Parquet file beside each tar, in the version's order."""
        for start in range(0, len(self._stems), SIDECARS_AT_ONCE):
            paths = [f"{stem}.parquet" for stem in self._stems[start : start + SIDECARS_AT_ONCE]]
            found = self._fs.cat(paths)
            yield from (found[path] for path in paths)

    def slice(self, place: Place) -> memoryview:
        """The bytes at `place`, by a separate request: `holding` fetches many together."""
        return self.holding([place]).slice(place)

    def piece(self, place: Place, start: int, size_bytes: int) -> memoryview:
        """See Shards."""
        return self.slice(place)[start : start + size_bytes]

    def holding(self, places: Iterable[Place]) -> HeldShards:
        """The bytes at `places`, fetched together."""
        wanted = sorted(set(places))
        if not self.has_ranges:
            return HeldShards({(n, at, size): self._whole(n)[at : at + size] for n, at, size in wanted})
        paths = [self.path(shard) for shard, _, _ in wanted]
        ends = [offset + size_bytes for _, offset, size_bytes in wanted]
        answers = self._fs.cat_ranges(paths, [offset for _, offset, _ in wanted], ends, on_error="raise")
        return HeldShards(dict(zip(wanted, answers, strict=True)))

    def path(self, shard: int) -> str:
        """The path of tar number `shard` in its file system."""
        return f"{self._stems[shard]}.tar"

    @contextmanager
    def opened(self, shard: int) -> Iterator[BinaryIO]:
        """Tar number `shard` as a stream; in blocks if ranges are supported, so that a pause does no harm."""
        options = {} if self.has_ranges else {"block_size": 0}
        with self._fs.open(self.path(shard), "rb", **options) as stream:
            yield io.BufferedReader(stream, READ_BYTES)  # pyright: ignore[reportArgumentType]

    def _fetch_whole(self, shard: int) -> memoryview:
        with tempfile.TemporaryFile() as file, self.opened(shard) as stream:
            shutil.copyfileobj(stream, file, READ_BYTES)
            file.flush()
            return _mapped(file)  # the file is removed with its last view


def open_shards(root: Any, version: Version) -> LocalShards | RemoteShards:
    """The tars of `version` under `root`: read at their places under a local Path, remote behind anything else."""
    return LocalShards(root, version) if isinstance(root, Path) else RemoteShards(root, version)


def _existing(path: Path) -> Path:
    if not path.is_file():
        raise MissingError(f"{path} is missing, although its version lists it: {MEND}")
    return path


def _mapped(file: BinaryIO) -> memoryview:
    return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))


def _patience() -> Any:
    import aiohttp

    return aiohttp.ClientTimeout(total=None, sock_read=SILENCE_S)
