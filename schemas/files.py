"""Writing our own files so that damage is detected, and reading them so that damage is reported in one sentence.

A Parquet file has a checksum per page, for readers of some columns, and a seal: the digest of all its bytes, between
the pages and the footer, where Parquet allows any bytes. A JSON file has the digest of its content under `#sha256`. A
reader raises DataError, which names the file, the damage and the remedy. Files from before there were digests are read
unchecked.
"""

import hashlib
import json
import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import IO, Any

import pyarrow as pa
import pyarrow.parquet as pq

from schemas.errors import DataError
from schemas.storage import make_folder, naming, readable, remove, replacing, sync_folder

LINE_DIGITS = 16  # of the digest of a line
DIGEST = "#sha256"  # no video id, digest or field name contains a `#`
SEAL = b"sha256:"  # followed by the digest of all other bytes
MEND = "`mcgurk verify --mend` tells what can be restored, and how"


def write_bytes(path: Path, data: bytes | pa.Buffer) -> None:
    """Writes a file completely or not at all."""
    with replacing(path) as temporary:
        temporary.write_bytes(data)


def write_text(path: Path, text: str) -> None:
    """Writes a text file completely or not at all."""
    write_bytes(path, text.encode())


def write_secret(path: Path, text: str) -> None:
    """Writes a local text file that only this account can read, completely or not at all."""
    with replacing(path) as temporary:
        made = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(made, "w") as file:
            file.write(text)


def write_secret_once(path: Path, text: str) -> None:
    """The same, but keeps an existing file's content, even if another process is writing it at this moment."""
    if path.is_file() and path.stat().st_size:  # an empty one was left by a power loss
        return
    own = path.with_name(f".{path.name}.{os.getpid()}")
    write_secret(own, text)
    try:
        if path.is_file():
            own.replace(path)
        else:
            path.hardlink_to(own)
    except FileExistsError:
        pass  # the other process was first
    except OSError:
        own.replace(path)  # a file system without hard links
    remove(own)
    sync_folder(path.parent)


def append_lines(path: Path, lines: Sequence[str]) -> None:
    """Appends lines to a local file; they are on the disk when it returns.

    A last line that was cut off by a kill is ended first, so that no other line is damaged.
    """
    make_folder(path.parent)
    is_new = not path.exists()
    text = "".join(f"{line}\n" for line in lines)
    with naming(path), path.open("a+b") as file:
        if file.tell() and not _ends_in_newline(file):
            text = "\n" + text
        file.write(text.encode())
        file.flush()
        os.fsync(file.fileno())
    if is_new:
        sync_folder(path.parent)


def _ends_in_newline(file: IO[bytes]) -> bool:
    file.seek(-1, os.SEEK_END)
    return file.read(1) == b"\n"


def sealed_line(value: Mapping[str, Any]) -> str:
    """A mapping as a line that includes its digest, for `append_lines` and `opened_line`."""
    return json.dumps({DIGEST: digest_of(value)[:LINE_DIGITS], **value}, sort_keys=True)


def opened_line(line: str, fields: Collection[str]) -> dict[str, Any] | None:
    """The content of a sealed line; None if the line was cut off by a kill or has changed: it is treated as missing.

    Lines from before there were digests are accepted if they have no fields but `fields`.
    """
    try:
        value = json.loads(line)
        digest = value.pop(DIGEST, None)
    except (ValueError, AttributeError):
        return None
    is_of_before = digest is None and set(fields).issuperset(value)
    return value if is_of_before or digest == digest_of(value)[:LINE_DIGITS] else None


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Writes a mapping with the digest of its content, for `read_json`."""
    plain = json.loads(canonical_json(value))
    write_text(path, json.dumps({DIGEST: digest_of(plain), **plain}, indent=1, sort_keys=True) + "\n")


def read_json(path: Path, remedy: str = "restore it from a copy") -> Any:
    """The content of a JSON file that mcgurk wrote. Raises DataError if it is damaged or was edited."""
    try:
        stored = json.loads(path.read_bytes())
    except ValueError as error:
        raise DataError(f"{path} is damaged: it is not JSON: {error}; {remedy}") from error
    digest = stored.pop(DIGEST, None) if isinstance(stored, dict) else None
    if digest is not None and digest != digest_of(stored):
        raise DataError(
            f"{path} is damaged, or was edited: its content is not what its {DIGEST} says; {remedy}"
        )
    return stored


def read_text(path: Path, remedy: str = MEND) -> str:
    """A text file of ours. Raises DataError if it is not text."""
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is damaged: it is not text: {error}; {remedy}") from error


def encoded_table(table: pa.Table, **options: Any) -> bytes:
    """The bytes of a sealed Parquet file, made in memory, because pyarrow would write the file in 30 small pieces."""
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, write_page_checksum=True, **options)
    return _sealed(sink.getvalue().to_pybytes())


def _sealed(content: bytes) -> bytes:
    at = _footer_start(content)
    return content[:at] + SEAL + hashlib.sha256(content).digest() + content[at:]


def _is_whole(content: bytes) -> bool:
    """Whether the bytes of a Parquet file match its seal; true if it has no seal."""
    at = _footer_start(content)
    begin = at - len(SEAL) - hashlib.sha256().digest_size
    if begin < 0 or content[begin : begin + len(SEAL)] != SEAL:
        return True
    return hashlib.sha256(content[:begin] + content[at:]).digest() == content[begin + len(SEAL) : at]


def _footer_start(content: bytes) -> int:
    return len(content) - 8 - int.from_bytes(content[-8:-4], "little")


def open_table(path: Path, remedy: str = MEND) -> pq.ParquetFile:
    """A Parquet file of ours, whose pages are checked as they are read. Raises DataError if it is damaged."""
    with telling_damage(path, remedy):
        return pq.ParquetFile(readable(path), pre_buffer=False, page_checksum_verification=True)


def read_table(path: Path, columns: Sequence[str] | None = None, remedy: str = MEND) -> pa.Table:
    """A Parquet file of ours with all its bytes checked; or only some of its columns, with only their bytes checked.

    Raises DataError if it is damaged.
    """
    with telling_damage(path, remedy):
        if columns is not None:
            return open_table(path, remedy).read(columns=list(columns), use_threads=False)
        content = path.read_bytes()
        if not _is_whole(content):
            raise DataError(f"{path} is damaged: its bytes are not those that were written; {remedy}")
        file = pq.ParquetFile(pa.BufferReader(content), page_checksum_verification=True)
        return file.read(use_threads=False)


def read_kept(path: Path) -> pa.Table | None:
    """A table that its reader can do without; None if it is missing or damaged."""
    try:
        return read_table(path) if path.is_file() else None
    except DataError:
        return None


@contextmanager
def telling_damage(path: Path, remedy: str = MEND) -> Iterator[None]:
    """Raises what Arrow reports about the bytes of `path` as DataError; errors of a disk or a store pass unchanged."""
    try:
        yield
    except (pa.ArrowException, OSError) as error:
        # Arrow raises a bare OSError without an errno if the bytes are not valid Parquet.
        if isinstance(error, pa.ArrowException) or (type(error) is OSError and error.errno is None):
            raise DataError(f"{path} is damaged: {' '.join(str(error).split())}; {remedy}") from error
        raise


def digest_of(*values: Any) -> str:
    """The sha256 of values as canonical JSON; dataclasses count by their fields, so a new field changes the digest."""
    return hashlib.sha256(canonical_json(values).encode()).hexdigest()


def canonical_json(value: Any) -> str:
    """JSON that depends only on the value: sorted keys, no spaces."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), default=_plain)


def sha256_of_file(path: Path) -> str:
    """The sha256 of a file's bytes, as hex digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _plain(value: Any) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"{value!r} has no canonical form")
