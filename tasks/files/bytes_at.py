"""Random access to the bytes of a file, plain or gzipped, without unpacking all that precedes them.

A gzipped file is unpacked once from its beginning. The state of the decoder is kept every SPACING_BYTES, so that any
later read unpacks at most that much. The size of such an index is a thousandth of the file's.
"""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

import indexed_gzip
from indexed_gzip.indexed_gzip import CrcError

from schemas.errors import DataError
from schemas.storage import replacing

MAGIC = b"\x1f\x8b"
SPACING_BYTES = 32 << 20  # 32 KB of index each, and 50 ms of unpacking for half of that
# Each read begins at the last of those places: a sequential reader reads several of them at once.
AHEAD = 4
BUFFER_BYTES = 1 << 20
# How far a gzipped file may grow: media don't shrink a hundredfold, and a larger index would fill the memory.
MAX_GROWTH = 100
FREE_BYTES = 1 << 30


class BytesAt(Protocol):
    """A file that can be read at any offset."""

    path: Path

    def read_at(self, offset: int, size_bytes: int) -> bytes:
        """Up to `size_bytes` bytes from `offset`; fewer at the end. Raises DataError for a damaged file."""
        ...

    def holds(self, end: int) -> bool:
        """Whether the file has at least `end` bytes. Raises DataError if it is damaged before that."""
        ...


class Plain:
    """A file read as it is."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = path.open("rb")
        self._end = os.fstat(self._file.fileno()).st_size

    def read_at(self, offset: int, size_bytes: int) -> bytes:
        """See BytesAt."""
        return os.pread(self._file.fileno(), size_bytes, offset)

    def holds(self, end: int) -> bool:
        """See BytesAt."""
        return end <= self._end

    def close(self) -> None:
        """Closes the file."""
        self._file.close()


class Gzipped:
    """The unpacked content of a gzipped file; may be read from several threads."""

    def __init__(self, path: Path, index: Path | None = None) -> None:
        self.path = path
        self._most = MAX_GROWTH * path.stat().st_size + FREE_BYTES
        self._lock = threading.Lock()
        buffered = {"index_file": str(index), "buffer_size": BUFFER_BYTES} if index else {}
        buffered = buffered or {"buffer_size": AHEAD * SPACING_BYTES}
        try:
            self._file = indexed_gzip.IndexedGzipFile(str(path), spacing=SPACING_BYTES, **buffered)
        except indexed_gzip.ZranError as error:
            raise DataError(f"{path}: not gzip, or damaged: {error}") from None

    def read_at(self, offset: int, size_bytes: int) -> bytes:
        """See BytesAt."""
        if offset + size_bytes > self._most:
            raise DataError(f"{self.path}: it unpacks to more than {MAX_GROWTH} times its size")
        try:
            with self._lock:
                self._file.seek(offset)
                return self._file.read(size_bytes)
        except (indexed_gzip.ZranError, CrcError, EOFError) as error:
            raise DataError(f"{self.path}: damaged after byte {offset}: {error}") from None

    def holds(self, end: int) -> bool:
        """See BytesAt."""
        return end == 0 or len(self.read_at(end - 1, 1)) == 1

    def keep_index(self, index: Path) -> None:
        """Writes the index of the file, for later readers."""
        with replacing(index) as temporary:
            self._file.export_index(str(temporary))

    def close(self) -> None:
        """Closes the file."""
        self._file.close()


def is_gzipped(path: Path) -> bool:
    """Whether a file begins like a gzipped one."""
    with path.open("rb") as file:
        return file.read(len(MAGIC)) == MAGIC


@contextmanager
def opened(path: Path, index: Path | None = None) -> Iterator[Plain | Gzipped]:
    """A file, plain or gzipped."""
    found = Gzipped(path, index) if is_gzipped(path) else Plain(path)
    try:
        yield found
    finally:
        found.close()
