"""Reads a dataset version by memory map and offset index: a step touches only the bytes it needs.

A sequential pass over a tar must read what it skips; the index beside the tar makes one frame and one second
of sound a slice of a map. Nothing here decides what to read: that is `training/sampling.py`.
"""

import mmap
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import simplejpeg

from schemas.feature import Profile
from schemas.manifest import digest_of
from schemas.outcome import Outcome
from schemas.shard import AUDIO_SUFFIX, LOG_MEL_SUFFIX, Version, frame_suffix, index_path, tar_path
from schemas.signal import FRAMES_PER_S, N_MELS

WAV_HEADER_BYTES = 44
NPY_MAGIC = b"\x93NUMPY"
NPY_HEADER_LENGTH = slice(8, 10)  # of an array of format version 1: little-endian, after magic and version
COLUMNS = ["key", "outcome", "video_id", "labels", "split", "valid_ms", "members"]


@dataclass(frozen=True)
class ClipTable:
    """One row a clip: who it is (Arrow) and where its members' bytes stand (numpy)."""

    names: pa.Table  # key, video_id, split, labels
    valid_ms: np.ndarray  # int64 (clips,)
    shard: np.ndarray  # int64 (clips,): index into the version's shards
    offset: np.ndarray  # int64 (clips, fields)
    size_bytes: np.ndarray  # int64 (clips, fields)

    def take(self, rows: np.ndarray) -> "ClipTable":
        """The clips at `rows`, in that order."""
        rest = (self.valid_ms[rows], self.shard[rows], self.offset[rows], self.size_bytes[rows])
        return ClipTable(self.names.take(pa.array(rows, pa.int64())), *rest)


class MappedShards:
    """The tars of a version as memory maps, opened on first use and shared by all views of the dataset."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self._paths = list(paths)
        self._maps: dict[int, memoryview] = {}

    def slice(self, shard: int, offset: int, size_bytes: int) -> memoryview:
        """The bytes `[offset, offset + size_bytes)` of tar number `shard`."""
        if shard not in self._maps:
            with self._paths[shard].open("rb") as tar:
                self._maps[shard] = memoryview(mmap.mmap(tar.fileno(), 0, access=mmap.ACCESS_READ))
        return self._maps[shard][offset : offset + size_bytes]


@dataclass(frozen=True)
class Dataset:
    """The clips of a version (or of one split of it) with random access to frames, log-mel and wave."""

    version: Version
    clips: ClipTable
    shards: MappedShards
    exclude: frozenset[str] = frozenset()

    def __len__(self) -> int:
        return len(self.clips.valid_ms)

    @property
    def profile(self) -> Profile:
        """What every clip of the version holds."""
        return self.version.profile

    @cached_property
    def keys(self) -> list[str]:
        """The clips' keys, in row order."""
        return self.clips.names["key"].to_pylist()

    @cached_property
    def video_ids(self) -> list[str]:
        """The clips' video ids, in row order."""
        return self.clips.names["video_id"].to_pylist()

    @cached_property
    def videos(self) -> np.ndarray:
        """The clips' videos as numbers, equal where the video is: int64 (clips,)."""
        return np.unique(np.asarray(self.video_ids, dtype=np.str_), return_inverse=True)[1]

    @property
    def lineage(self) -> str:
        """The digest of what these clips are: dataset version and exclusion list."""
        return digest_of(self.version.digest, sorted(self.exclude))

    def labels(self, row: int) -> list[str]:
        """The labels of one clip."""
        return self.clips.names["labels"][row].as_py()

    def split(self, name: str) -> "Dataset":
        """The clips of one split."""
        return self.take(np.flatnonzero(self.clips.names["split"].to_numpy() == name))

    def take(self, rows: np.ndarray) -> "Dataset":
        """The clips at `rows`, in that order."""
        return replace(self, clips=self.clips.take(rows))

    def frame(self, row: int, index: int, min_side_px: int = 0) -> np.ndarray:
        """Frame `index` of a clip: uint8 RGB (height, width, 3), at the smallest size >= min_side_px."""
        jpeg = self._member(row, frame_suffix(index))
        return simplejpeg.decode_jpeg(jpeg, "RGB", min_height=min_side_px, min_width=min_side_px)

    def log_mel(self, row: int) -> np.ndarray:
        """The stored log-mel of a clip: float16 (mels, frames), a view of the map."""
        member = self._member(row, LOG_MEL_SUFFIX)
        if bytes(member[: len(NPY_MAGIC)]) != NPY_MAGIC:
            raise ValueError(f"{self.keys[row]}.{LOG_MEL_SUFFIX} is not a .npy file")
        start = NPY_HEADER_LENGTH.stop + int.from_bytes(member[NPY_HEADER_LENGTH], "little")
        frames = self.profile.length_ms * FRAMES_PER_S // 1000
        return np.frombuffer(member, "<f2", offset=start).reshape(N_MELS, frames)

    def wave(self, row: int) -> np.ndarray:
        """The sound of a clip: int16 (samples,) at the profile's rate, a view of the map."""
        return np.frombuffer(self._member(row, AUDIO_SUFFIX), "<i2", offset=WAV_HEADER_BYTES)

    def _member(self, row: int, suffix: str) -> memoryview:
        column = self._columns[suffix]
        offset, size_bytes = self.clips.offset[row, column], self.clips.size_bytes[row, column]
        return self.shards.slice(int(self.clips.shard[row]), int(offset), int(size_bytes))

    @cached_property
    def _columns(self) -> dict[str, int]:
        return {suffix: column for column, suffix in enumerate(sorted(self.version.fields))}


def open_dataset(root: Path, version: Version, exclude: Collection[str] = frozenset()) -> Dataset:
    """The clips of `version` under `root`, without the keys in `exclude` (the exclusion lists).

    Raises ValueError where a sidecar's members are not the version's fields.
    """
    fields = sorted(version.fields)
    tables = [_clip_table(index_path(root, s), number, fields) for number, s in enumerate(version.shards)]
    clips = _concatenate(tables, len(fields))
    shards = MappedShards([tar_path(root, shard) for shard in version.shards])
    excluded = pa.array(sorted(exclude), pa.string())
    kept = ~np.isin(clips.names["key"].to_numpy(), excluded.to_numpy(zero_copy_only=False))
    return Dataset(version, clips.take(np.flatnonzero(kept)), shards, frozenset(exclude))


def default_groups(dataset: Dataset) -> dict[str, str]:
    """Each video's group where nobody says better: the first label of its first clip."""
    groups: dict[str, str] = {}
    for row, video_id in enumerate(dataset.video_ids):
        groups.setdefault(video_id, next(iter(dataset.labels(row)), ""))
    return groups


def _clip_table(path: Path, shard: int, fields: list[str]) -> ClipTable:
    table = pq.ParquetFile(path).read(columns=COLUMNS)
    table = table.filter(pc.field("outcome") == Outcome.OK.value).combine_chunks()
    members = table["members"].combine_chunks().flatten()
    suffixes = members.field("suffix").to_numpy(zero_copy_only=False).astype(np.str_)
    if len(suffixes) != len(table) * len(fields):
        raise ValueError(
            f"{path} lists {len(suffixes)} members for {len(table)} clips of {len(fields)} fields"
        )
    suffixes = suffixes.reshape(len(table), len(fields))
    order = np.argsort(suffixes, axis=1)
    if not (np.take_along_axis(suffixes, order, axis=1) == np.asarray(fields)).all():
        raise ValueError(f"{path} lists other members than the version's fields {fields}")

    def placed(name: str) -> np.ndarray:
        return np.take_along_axis(members.field(name).to_numpy().reshape(order.shape), order, axis=1)

    valid_ms = table["valid_ms"].to_numpy()
    names = table.select(["key", "video_id", "split", "labels"])
    return ClipTable(names, valid_ms, np.full(len(table), shard), placed("offset"), placed("size_bytes"))


def _concatenate(tables: list[ClipTable], num_fields: int) -> ClipTable:
    if not tables:
        nothing = np.zeros((0, num_fields), np.int64)
        names = pa.table({name: pa.array([], pa.string()) for name in ("key", "video_id", "split", "labels")})
        return ClipTable(names, nothing[:, 0], nothing[:, 0], nothing, nothing)
    names = pa.concat_tables([table.names for table in tables]).combine_chunks()
    parts = [(table.valid_ms, table.shard, table.offset, table.size_bytes) for table in tables]
    return ClipTable(names, *(np.concatenate(columns) for columns in zip(*parts, strict=True)))
