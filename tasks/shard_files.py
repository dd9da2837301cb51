"""Shard files: how a shard and its index are written, and which shards the manifest names."""

import hashlib
import io
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from schemas import layout
from schemas.manifest import (
    SHARD_COLUMNS,
    PartHeader,
    Row,
    part_numbers,
    write_part,
)
from schemas.outcome import Outcome
from schemas.shard import SHARDS, Shard, shard_name, without_forgotten
from schemas.storage import SCRATCH, place, scratch_beside
from tasks.parts import Headers, header_of


class _Hashed(io.RawIOBase):
    """A file that computes the sha256 of what is written to it."""

    def __init__(self, file: io.BufferedIOBase) -> None:
        self._file = file
        self.sha256 = hashlib.sha256()
        self.size = 0

    def write(self, data) -> int:
        """Writes and counts."""
        self.sha256.update(data)
        self.size += len(data)
        return self._file.write(data)


def write_shard(
    folder: Path, part: int, samples: Iterator[tuple[str, dict[str, bytes]]], rows: Sequence[Row]
) -> dict[Path, int]:
    """Writes tar and sidecar, and fills `members` and sizes into `rows`; writes nothing if no sample is ok.

    Returns the size of each file in bytes.
    """
    by_key = {row["key"]: row for row in rows}
    with TemporaryDirectory(prefix=SCRATCH, dir=scratch_beside(folder)) as scratch:
        temporary = Path(scratch) / "shard.tar"
        with (
            temporary.open("wb") as raw,
            _Hashed(raw) as file,
            tarfile.open(fileobj=file, mode="w|", format=tarfile.USTAR_FORMAT) as tar,
        ):
            for key, members in samples:
                by_key[key] |= _add_sample(tar, key, members)
        sha256 = file.sha256.hexdigest()
        size = file.size
        if not any(row["outcome"] == Outcome.OK for row in rows):
            return {}
        name = shard_name(rows[0]["split"], part, sha256)
        target = folder / f"{name}.tar"
        place(temporary, target)
    for row in rows:
        row |= {"shard": name, "shard_sha256": sha256, "shard_size_bytes": size}
    sidecar = folder / f"{name}.parquet"
    write_part(sidecar, without_forgotten(rows), SHARDS, PartHeader("pack", sha256, {}))
    return {target: size, sidecar: sidecar.stat().st_size}


def _add_sample(tar: tarfile.TarFile, key: str, members: dict[str, bytes]) -> Row:
    """Adds the members of a sample, sorted; returns the fields about them for its row."""
    placed = []
    digest = hashlib.sha256()
    for suffix in sorted(members):
        info = tarfile.TarInfo(f"{key}.{suffix}")
        info.size = len(members[suffix])
        info.mode = 0o444
        offset = tar.offset + tarfile.BLOCKSIZE
        tar.addfile(info, io.BytesIO(members[suffix]))
        placed.append({"suffix": suffix, "offset": offset, "size_bytes": info.size})
        digest.update(members[suffix])
    size = sum(member["size_bytes"] for member in placed)
    return {"members": placed, "size_bytes": size, "digest": digest.hexdigest()}


def packed(root: Path, headers_of: Headers = header_of) -> list[Shard]:
    """The shards that the manifest `shards` names."""
    found = []
    for part in part_numbers(root / layout.SHARDS):
        header = headers_of(root, layout.SHARDS, part)
        if header and header.facts["num_ok"]:
            name, split, sha256, size = (header.facts[column] for column in SHARD_COLUMNS)
            found.append(Shard(name, split, part, sha256, size, header.facts["num_ok"]))
    return found
