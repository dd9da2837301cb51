"""Foreign tars: where the bytes of each member are, read from the headers alone.

Nothing is unpacked, and no member's name becomes a path. A header is trusted only if its checksum is right and it lies
inside the file: `tarfile` would read what a hostile header calls a long name into memory, whatever its size.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from schemas.errors import DataError
from tasks.files.bytes_at import BytesAt

BLOCK = 512
END = bytes(BLOCK)
MOST_PADDING = 1 << 20  # zeros after the end of a tar: it is written in records of a size that people choose
NAME = slice(0, 100)
SIZE = slice(124, 136)
CHECKSUM = slice(148, 156)
PREFIX = slice(345, 500)
KIND = slice(156, 157)
# Only in this format is a prefix part of the name
MAGIC = slice(257, 263)
IS_USTAR = b"ustar\0"
REGULAR = (b"0", b"\0", b"7")
WITHOUT_BYTES = (b"1", b"2", b"3", b"4", b"5", b"6")  # links, devices, folders: whatever size they claim
# The name (and size) of the next member
GNU_NAME = b"L"
PAX = b"x"
MAX_EXTRA_BYTES = 1 << 16  # of such a name: paths are shorter
MAX_DIGITS = 19  # of a size below 2**63
BASE_256 = 0x80  # GNU's flag for a size that octal digits cannot hold


class Member(NamedTuple):
    """A regular file in a tar: its name, offset and size."""

    name: str
    offset: int
    size_bytes: int


def members(file: BytesAt) -> Iterator[Member]:
    """The regular files of a tar, in order. If it is damaged or not a tar, raises DataError after the readable ones."""
    extra = {}
    at, header = _next_header(file, 0)
    while header:
        kind = header[KIND]
        size = _checked_size(header, file.path, at)
        offset = at + BLOCK
        if kind in REGULAR:
            size = int(extra.get("size", size))
        if kind in WITHOUT_BYTES:
            size = 0
        if not file.holds(offset + size):
            raise DataError(f"{file.path}: the member at byte {at} ends beyond the file")
        if kind in (GNU_NAME, PAX):
            extra |= _extra(kind, file.read_at(offset, min(size, MAX_EXTRA_BYTES)))
        else:
            if kind in REGULAR and "sparse" not in extra:
                yield Member(extra.get("path") or _name(header), offset, size)
            extra = {}
        at, header = _next_header(file, offset + (size + BLOCK - 1) // BLOCK * BLOCK)


def _next_header(file: BytesAt, at: int) -> tuple[int, bytes]:
    """The next header and its offset; empty at the end. Another tar may follow one's end (`cat a.tar b.tar`)."""
    most = at + MOST_PADDING
    while (header := file.read_at(at, BLOCK)) == END:
        at += BLOCK
        if at > most:
            return at, b""
    return at, header


def _checked_size(header: bytes, path: Path, at: int) -> int:
    """The size that a header states. Raises DataError if its checksum is wrong."""
    try:
        blank = header[: CHECKSUM.start] + b" " * 8 + header[CHECKSUM.stop :]
        if len(header) < BLOCK or sum(blank) != _number(header[CHECKSUM]):
            raise ValueError
        return _number(header[SIZE])
    except ValueError:
        raise DataError(f"{path}: not a tar, or damaged, at byte {at}") from None


def _number(field: bytes) -> int:
    """Octal digits, or GNU's binary form. Raises DataError for anything else."""
    if field[0] == BASE_256:
        return int.from_bytes(field[1:])
    digits = field.strip(b" \0") or b"0"
    if not digits.isdigit():
        raise ValueError
    return int(digits, 8)


def _name(header: bytes) -> str:
    name = _text(header[NAME])
    prefix = _text(header[PREFIX])
    return f"{prefix}/{name}" if header[MAGIC] == IS_USTAR and prefix else name


def _text(field: bytes) -> str:
    return field.split(b"\0", 1)[0].decode(errors="replace")


def _extra(kind: bytes, said: bytes) -> dict[str, str]:
    """What an extension header says about the next member: `path`, `size`, and `sparse` if it has holes."""
    if kind == GNU_NAME:
        return {"path": _text(said)}
    found: dict[str, str] = {}
    while said:
        length, space, _ = said.partition(b" ")
        if not (space and length.isdigit() and len(length) < int(length) <= len(said)):
            break  # cut off, or nonsense: everything before it counts
        record = said[len(length) + 1 : int(length)]
        said = said[int(length) :]
        key, _, value = record.rstrip(b"\n").partition(b"=")
        if key == b"path" or (key == b"size" and value.isdigit() and len(value) <= MAX_DIGITS):
            found[key.decode()] = value.decode(errors="replace")
        elif key.startswith(b"GNU.sparse"):
            found["sparse"] = "yes"
    return found
