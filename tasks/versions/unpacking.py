"""Unpacking: the tars of a version on this disk, with the bytes that its record names, and the samples in them."""

import logging
import shutil
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import groupby
from pathlib import Path

from schemas.errors import DataError, RequestError
from schemas.files import MEND, read_table, sha256_of_file
from schemas.shard import Shard, Version, tar_path
from schemas.storage import as_local
from tasks.progress import tracked

log = logging.getLogger(__name__)

Sample = dict[str, bytes]  # by suffix


@contextmanager
def checked_tar(root: Path, shard: Shard) -> Iterator[Path]:
    """The tar of a shard as a local file while the block lasts. Raises DataError if its bytes differ."""
    path = tar_path(root, shard)
    try:
        with as_local(path) as local:
            if sha256_of_file(local) != shard.sha256:
                raise DataError(f"{path} is damaged: its sha256 is not the one that is recorded; {MEND}")
            yield local
    except FileNotFoundError as error:
        if path.is_file():  # the error is about another file
            raise
        raise DataError(f"{path} is gone; {MEND}") from error


def copy_whole(path: Path, target: Path) -> None:
    """Copies a file for the export. Raises DataError if it is gone, and for a damaged table."""
    try:
        if path.suffix == ".parquet":
            read_table(path)
        with as_local(path) as local:
            shutil.copyfile(local, target)
    except FileNotFoundError as error:
        if path.is_file():  # the error is about another file
            raise
        raise DataError(f"{path} is gone; {MEND}") from error


def shards_in_turn(version: Version, split: str | None = None) -> Iterator[Shard]:
    """The shards of a version, or of one of its splits, in order; logs a line of progress now and then."""
    shards = version.shards if split is None else version.of_split(split)
    what = "export" if split is None else f"export {split}"
    return tracked(shards, len(shards), what, log)


def samples_of(root: Path, version: Version, split: str) -> Iterator[tuple[str, Sample]]:
    """(key, members) of each sample of a split, in the order of the tars. One sample is in memory at a time."""
    for shard in shards_in_turn(version, split):
        with checked_tar(root, shard) as path, tarfile.open(path, "r:") as tar:
            for key, members in groupby(tar, key=lambda member: member.name.partition(".")[0]):
                yield key, {one.name.partition(".")[2]: _content(tar, one) for one in members}


def splits_of(version: Version) -> list[str]:
    """The splits that have shards, in their order."""
    return list(dict.fromkeys(shard.split for shard in version.shards))


def not_installed(name: str, library: str) -> RequestError:
    """The error for a format whose library is not installed."""
    return RequestError(
        f"--to {name} needs {library}, which is not installed: pip install 'mcgurk[{name}]' (from a clone of mcgurk: "
        f"pip install '.[{name}]')"
    )


def _content(tar: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    content = tar.extractfile(member)
    return content.read() if content else b""
