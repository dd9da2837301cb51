"""Reads a dataset version by its offset index: a step touches only the bytes it needs.

A sequential pass over a tar must also read what it skips; with the index beside the tar, one frame and one second of
sound are one read at their position, or a range of a URL. `training/reading/sampling.py` decides what to read;
`training/reading/streaming.py` reads epochs of remote shards from end to end.
"""

import io
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import av
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import simplejpeg
from av.video.reformatter import Interpolation, VideoReformatter

from schemas.errors import DataError
from schemas.feature import Profile
from schemas.files import MEND, digest_of
from schemas.outcome import Outcome
from schemas.shard import AUDIO_SUFFIX, LOG_MEL_SUFFIX, VIDEO_SUFFIX, Version, frame_suffix
from schemas.waveforms import FRAMES_PER_S, N_MELS
from training.reading.shards import LocalShards, Place, Shards, open_shards

WAV_HEADER_BYTES = 44
NPY_MAGIC = b"\x93NUMPY"
NPY_HEADER_LENGTH = slice(8, 10)  # of an array of format version 1: little-endian, after magic and version
NO_GROUP = "no group: "  # followed by the video's id
COLUMNS = ["key", "outcome", "video_id", "labels", "split", "valid_ms", "members"]


@dataclass(frozen=True)
class ClipTable:
    """One row per clip: its names (Arrow) and the positions of its members' bytes (numpy)."""

    names: pa.Table  # key, video_id, split, labels
    valid_ms: np.ndarray  # int64 (clips,)
    shard: np.ndarray  # int64 (clips,): index into the version's shards
    offset: np.ndarray  # int64 (clips, fields)
    size_bytes: np.ndarray  # int64 (clips, fields)

    def take(self, rows: np.ndarray) -> "ClipTable":
        """The clips at `rows`, in that order."""
        rest = (self.valid_ms[rows], self.shard[rows], self.offset[rows], self.size_bytes[rows])
        return ClipTable(self.names.take(pa.array(rows, pa.int64())), *rest)


@dataclass(frozen=True)
class Dataset:
    """The clips of a version (or of one split of it) with random access to frames, log-mel and wave."""

    version: Version
    clips: ClipTable
    videos: np.ndarray  # int64 (clips,): numbers, equal for the same video
    classes: np.ndarray  # int64 (clips,): numbers, equal for the same first label; -1 without one
    shards: Shards
    exclude: frozenset[str] = frozenset()

    def __len__(self) -> int:
        return len(self.clips.valid_ms)

    @property
    def profile(self) -> Profile:
        """The profile that every clip of the version has."""
        return self.version.profile

    @cached_property
    def keys(self) -> list[str]:
        """The clips' keys, in row order."""
        return self.clips.names["key"].to_pylist()

    @cached_property
    def video_ids(self) -> list[str]:
        """The clips' video ids, in row order."""
        return self.clips.names["video_id"].to_pylist()

    @property
    def lineage(self) -> str:
        """The digest of the dataset version and the exclusion list that these clips come from."""
        return digest_of(self.version.digest, sorted(self.exclude))

    def shard_name(self, row: int) -> str:
        """The shard that holds a clip."""
        return self.version.shards[int(self.clips.shard[row])].name

    def labels(self, row: int) -> list[str]:
        """The labels of one clip."""
        return self.clips.names["labels"][row].as_py()

    def split(self, name: str) -> "Dataset":
        """The clips of one split."""
        return self.take(np.flatnonzero(self.clips.names["split"].to_numpy() == name))

    def take(self, rows: np.ndarray) -> "Dataset":
        """The clips at `rows`, in that order."""
        return replace(
            self, clips=self.clips.take(rows), videos=self.videos[rows], classes=self.classes[rows]
        )

    def holding(self, members: Iterable[tuple[int, str]]) -> "Dataset":
        """The same clips with these members (row, suffix) at hand: of remote shards, fetched together."""
        return replace(self, shards=self.shards.holding(self.place(*member) for member in members))

    def place(self, row: int, suffix: str) -> Place:
        """The place of a member's bytes."""
        column = self._columns[suffix]
        offset = self.clips.offset[row, column]
        size_bytes = self.clips.size_bytes[row, column]
        return int(self.clips.shard[row]), int(offset), int(size_bytes)

    def frame(self, row: int, index: int, min_side_px: int = 0) -> np.ndarray:
        """Frame `index` of a clip: uint8 RGB (height, width, 3), at the smallest size >= min_side_px."""
        if self.profile.picture == "h264":
            return next(self.frames(row, range(index, index + 1), min_side_px))
        jpeg = self._member(row, frame_suffix(index))
        try:
            return simplejpeg.decode_jpeg(jpeg, "RGB", min_height=min_side_px, min_width=min_side_px)
        except ValueError as error:
            raise self.damaged(row, frame_suffix(index), str(error)) from error

    def frames(self, row: int, indices: range, min_side_px: int = 0) -> Iterator[np.ndarray]:
        """Consecutive frames, as `frame` returns them; from a video file with that short side, or its own size."""
        if self.profile.picture == "h264":
            return decoded(self._member(row, VIDEO_SUFFIX), indices, self.profile, min_side_px)
        return (self.frame(row, index, min_side_px) for index in indices)

    def log_mel(self, row: int) -> np.ndarray:
        """The stored log-mel of a clip: float16 (mels, frames), read-only."""
        member = self._member(row, LOG_MEL_SUFFIX)
        if bytes(member[: len(NPY_MAGIC)]) != NPY_MAGIC:
            raise self.damaged(row, LOG_MEL_SUFFIX, "it is not a .npy file")
        start = NPY_HEADER_LENGTH.stop + int.from_bytes(member[NPY_HEADER_LENGTH], "little")
        frames = self.profile.length_ms * FRAMES_PER_S // 1000
        if len(member) - start != 2 * N_MELS * frames:
            raise self.damaged(row, LOG_MEL_SUFFIX, f"it does not hold {N_MELS} x {frames} numbers")
        return np.frombuffer(member, "<f2", offset=start).reshape(N_MELS, frames)

    def wave(self, row: int, samples: slice = slice(None)) -> np.ndarray:
        """The sound of a clip, or some of its samples: int16 (channels, samples) at the profile's rate, read-only."""
        frame_bytes = 2 * self.profile.channels
        place = self.place(row, AUDIO_SUFFIX)
        if place[2] != WAV_HEADER_BYTES + frame_bytes * self.profile.num_samples:
            raise self.damaged(row, AUDIO_SUFFIX, f"it does not hold {self.profile.num_samples:,} samples")
        start, stop, _ = samples.indices(self.profile.num_samples)
        count = max(0, stop - start)
        content = self.shards.piece(place, WAV_HEADER_BYTES + frame_bytes * start, frame_bytes * count)
        return np.frombuffer(content, "<i2").reshape(-1, self.profile.channels).T

    def damaged(self, row: int, suffix: str, problem: str) -> DataError:
        """The error for a damaged member, with the shard that holds it and the remedy."""
        return DataError(
            f"{self.keys[row]}.{suffix} in {self.shard_name(row)}.tar is damaged: {problem}; {MEND}"
        )

    def _member(self, row: int, suffix: str) -> memoryview:
        return self.shards.slice(self.place(row, suffix))

    @cached_property
    def _columns(self) -> dict[str, int]:
        return {suffix: column for column, suffix in enumerate(sorted(self.version.fields))}


def open_dataset(root: Any, version: Version, exclude: Collection[str] = frozenset()) -> Dataset:
    """The clips of `version` under `root`, without the keys in `exclude` (the exclusion lists).

    A local Path is read at the positions of members; a URL (http, https, s3, file, ...) or a remote UPath by ranges,
    and its epochs are streamed. Raises DataError if a sidecar is damaged, its members are not the version's fields, or
    a local tar has another size than its version states.
    """
    fields = sorted(version.fields)
    shards = open_shards(root, version)
    if isinstance(shards, LocalShards):
        shards.check()
    sidecars = zip(version.shards, shards.sidecars(), strict=True)
    tables = [_clip_table(table, n, shard.name, fields) for n, (shard, table) in enumerate(sidecars)]
    clips = _concatenate(tables, len(fields))
    videos = _numbered(clips.names["video_id"])
    classes = _classes(clips.names)
    excluded = pa.array(sorted(exclude), pa.string())
    kept = ~np.isin(clips.names["key"].to_numpy(), excluded.to_numpy(zero_copy_only=False))
    return Dataset(version, clips, videos, classes, shards, frozenset(exclude)).take(np.flatnonzero(kept))


def default_groups(dataset: Dataset) -> dict[str, str]:
    """Each labelled video's default group: the first label of its first labelled clip."""
    groups: dict[str, str] = {}
    for row, video_id in enumerate(dataset.video_ids):
        if labels := dataset.labels(row):
            groups.setdefault(video_id, labels[0])
    return groups


def clip_groups(clips: Dataset, groups: Mapping[str, str] | None) -> np.ndarray:
    """The group of each clip's video, from `groups` or by default.

    A video without a group is of no known kind, and so never "of the same kind" as another.
    """
    groups = default_groups(clips) if groups is None else groups
    return np.array([groups.get(video, f"{NO_GROUP}{video}") for video in clips.video_ids], np.str_)


def _numbered(names: pa.ChunkedArray) -> np.ndarray:
    """Numbers from 1 on, equal for equal names; int64."""
    ranks = pc.rank(names, tiebreaker="dense")  # pyright: ignore[reportAttributeAccessIssue]
    return ranks.to_numpy().astype(np.int64)


def _classes(names: pa.Table) -> np.ndarray:
    """The number of each clip's first label; -1 without one."""
    first = [(labels or [""])[0] for labels in names["labels"].to_pylist()]
    return np.where(np.array(first, np.str_) == "", -1, _numbered(pa.chunked_array([first], pa.string())))


def _clip_table(sidecar: bytes, shard: int, name: str, fields: list[str]) -> ClipTable:
    try:
        table = pq.ParquetFile(io.BytesIO(sidecar)).read(columns=COLUMNS)
    except pa.ArrowInvalid as error:
        raise DataError(f"{name}.parquet is damaged ({error}); {MEND}") from error
    table = table.filter(pc.field("outcome") == Outcome.OK.value).combine_chunks()
    members = table["members"].combine_chunks().flatten()
    suffixes = members.field("suffix").to_numpy(zero_copy_only=False).astype(np.str_)
    if len(suffixes) != len(table) * len(fields):
        raise DataError(
            f"{name}.parquet lists {len(suffixes)} members for {len(table)} clips of {len(fields)} fields; {MEND}"
        )
    suffixes = suffixes.reshape(len(table), len(fields))
    order = np.argsort(suffixes, axis=1)
    if not (np.take_along_axis(suffixes, order, axis=1) == np.asarray(fields)).all():
        raise DataError(f"{name}.parquet lists other members than the version's fields {fields}; {MEND}")

    def placed(column: str) -> np.ndarray:
        return np.take_along_axis(members.field(column).to_numpy().reshape(order.shape), order, axis=1)

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


def decoded(
    content: memoryview, indices: range, profile: Profile, min_side_px: int = 0
) -> Iterator[np.ndarray]:
    """The frames `indices`, in their order: uint8 RGB (height, width, 3), reduced to a short side of `min_side_px`.

    Without `min_side_px`, and if they are no larger, they keep their own size. Raises DataError if the file is damaged
    or ends before.
    """
    index = indices.start
    scaler = VideoReformatter()
    try:
        for number, frame in _numbered_frames(content, index, profile):
            if number != index:
                continue
            factor = min(1.0, min_side_px / min(frame.width, frame.height)) if min_side_px else 1.0
            width = round(frame.width * factor)
            height = round(frame.height * factor)
            # swscale's bilinear filter covers all pixels that become one.
            scaled = scaler.reformat(frame, width, height, "rgb24", interpolation=Interpolation.BILINEAR)
            yield scaled.to_ndarray()
            index += indices.step
            if index not in indices:
                return
    except av.FFmpegError as error:
        raise DataError(f"a video file of {profile.name} is damaged ({error}); {MEND}") from error
    raise DataError(f"a video file of {profile.name} has no frame {index}; {MEND}")


def _numbered_frames(
    content: memoryview, start: int, profile: Profile
) -> Iterator[tuple[int, av.VideoFrame]]:
    """The frames of a video file with their numbers, from the last key frame before `start` on."""
    with av.open(io.BytesIO(content), "r", format="mp4") as container:
        stream = container.streams.video[0]
        stream.codec_context.thread_count = 1  # threads would decode more than is needed
        ticks_per_frame = 1 / (profile.frame_rate_hz * float(stream.time_base or 1))
        container.seek(round(start * ticks_per_frame), stream=stream)
        for frame in container.decode(stream):
            if frame.pts is not None:
                yield round(frame.pts / ticks_per_frame), frame


def with_labels(dataset: Dataset, mids: frozenset[str], splits: Collection[str]) -> Dataset:
    """The clips of `splits` that have one of these labels; the other splits are kept completely."""
    split = dataset.clips.names["split"].to_pylist()
    kept = [
        split[row] not in splits or not mids.isdisjoint(dataset.labels(row)) for row in range(len(dataset))
    ]
    return dataset.take(np.flatnonzero(kept))


def thinned(dataset: Dataset, share: float) -> Dataset:
    """A share of the training videos, and all of the other splits; a larger share contains every smaller one."""
    is_train = dataset.clips.names["split"].to_numpy(zero_copy_only=False) == "train"
    videos = np.unique(dataset.videos[is_train])
    kept = np.random.default_rng(0).permutation(videos)[: max(2, round(share * len(videos)))]
    return dataset.take(np.flatnonzero(~is_train | np.isin(dataset.videos, kept)))
