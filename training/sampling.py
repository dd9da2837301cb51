"""Which moments of which clips make a batch; and the batch itself.

A step is a frame and the second of log-mel centred on it. Matching and other pairs are both made by combining
the steps of one batch, so frames and sounds of the two classes come from one law (Arandjelovic & Zisserman
2018, sec. 3.3: without that, networks detect the sampler).
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from schemas.feature import Profile
from schemas.shard import LOG_MEL_SUFFIX, frame_suffix
from schemas.signal import FRAMES_PER_S, HOP_MS, N_MELS
from training.data import Dataset

STEP_MS = 1000  # the sound of a step: long enough for a pitch and a rhythm, as in the seed papers
CROP_SHARE = 0.875  # of the short side, as the seed papers' 224 of 256
SPREAD_CLIPS = 4400  # how far streamed clips may trade places; half as many wait at any time
OVERSIZE = 1.25  # a frame more than this larger than needed is scaled down before it is cropped


@dataclass(frozen=True)
class Sampling:
    """How batches are drawn: B clips x N steps, frames of `frame_px` squared."""

    clips_per_batch: int = 32
    steps_per_clip: int = 4
    jitter_ms: int = 100  # how far the sound may be moved against its frame, by the same law for every pair
    frame_px: int = 112


@dataclass(frozen=True)
class Plan:
    """The steps of one batch, before a byte of them is read; all int64 (steps,)."""

    rows: np.ndarray  # of the dataset
    frames: np.ndarray  # frame index in the clip
    shifts_ms: np.ndarray  # of the sound's window against the frame
    corners: np.ndarray  # float (steps, 2): where the crop stands, 0 to 1 of the play there is


@dataclass(frozen=True)
class Batch:
    """Decoded steps: `frames` uint8 (steps, 3, px, px), `log_mel` float32 (steps, mels, 100)."""

    frames: Tensor
    log_mel: Tensor
    videos: Tensor  # int64 (steps,): equal where the video is

    def to(self, device: torch.device) -> "Batch":
        """The same batch on `device`."""
        moved = (tensor.to(device, non_blocking=True) for tensor in (self.frames, self.log_mel, self.videos))
        return Batch(*moved)


def frame_time_ms(profile: Profile, index: np.ndarray | int) -> np.ndarray:
    """When frame `index` stands, in ms from the segment's start."""
    return (np.asarray(index) + 0.5) * 1000.0 / profile.frame_rate_hz


def valid_steps(profile: Profile, valid_ms: int) -> np.ndarray:
    """The frames whose whole second of sound lies inside the clip's content: int64 (steps,)."""
    times_ms = frame_time_ms(profile, np.arange(profile.num_frames))
    inside = (times_ms >= STEP_MS / 2) & (times_ms + STEP_MS / 2 <= min(valid_ms, profile.length_ms))
    return np.flatnonzero(inside)


def usable(dataset: Dataset) -> Dataset:
    """The clips that have at least one step; shorter content can't be paired."""
    shortest_ms = frame_time_ms(dataset.profile, valid_steps(dataset.profile, dataset.profile.length_ms)[0])
    return dataset.take(np.flatnonzero(dataset.clips.valid_ms >= shortest_ms + STEP_MS / 2))


@dataclass(frozen=True)
class Share:
    """Which part of an epoch one process reads: its rank's, from a step on."""

    rank: int = 0
    world_size: int = 1
    start_step: int = 0


class Epoch:
    """The batches of one epoch, each clip at most once, in the order that (seed, epoch) gives.

    A step depends on seed, epoch, rank and its number only: it can be planned again alone, by any number of
    threads, and an epoch can be taken up anywhere. All ranks have as many steps, of as many clips; what is
    left over (fewer clips than a batch, for each rank) comes in another epoch.
    """

    def __init__(
        self, dataset: Dataset, sampling: Sampling, seed: int, number: int, share: Share | None = None
    ) -> None:
        share = share or Share()
        self.dataset, self._sampling, self._key = dataset, sampling, (seed, number, share.rank)
        order = _order(dataset, share, np.random.default_rng([seed, number]))
        num_clips = _clips_per_rank(len(dataset), sampling, share)
        num_steps = len(order) // num_clips
        self.rows = order[: num_steps * num_clips].reshape(num_steps, num_clips)  # of the dataset
        self.steps = range(share.start_step, num_steps)

    def plan(self, step: int) -> Plan:
        """The steps of batch number `step`."""
        seed, number, rank = self._key
        rng = np.random.default_rng([seed, number, step, rank])
        return _random_plan(self.dataset, self.rows[step], self._sampling, rng)

    def __iter__(self) -> Iterator[Plan]:
        return (self.plan(step) for step in self.steps)


def _clips_per_rank(num_clips: int, sampling: Sampling, share: Share) -> int:
    if sampling.clips_per_batch % share.world_size or num_clips < share.world_size:
        raise ValueError(
            f"batches of {sampling.clips_per_batch} out of {num_clips} clips can't be shared by "
            f"{share.world_size} ranks: take a multiple, and at least a clip for each"
        )
    return min(sampling.clips_per_batch, num_clips) // share.world_size


def _order(dataset: Dataset, share: Share, rng: np.random.Generator) -> np.ndarray:
    """The rows of one rank. Mapped: any order. Streamed: a run of shuffled shards, every clip moved a bit."""
    num_rows = len(dataset) // share.world_size
    if not dataset.shards.is_remote:
        return rng.permutation(len(dataset))[share.rank :: share.world_size][:num_rows]
    clips = dataset.clips
    place = rng.permutation(len(dataset.version.shards))[clips.shard]
    arriving = np.lexsort((clips.offset[:, 0], place))[share.rank * num_rows :][:num_rows]
    return arriving[np.argsort(np.arange(num_rows) + rng.uniform(0, SPREAD_CLIPS, num_rows))]


def even_plan(dataset: Dataset, rows: np.ndarray, num_steps: int) -> Plan:
    """`num_steps` evenly spaced steps of each clip, centre crop, sound exactly on the frame.

    The same relative positions for every clip, so that a step's place says nothing about its clip.
    """
    steps = [valid_steps(dataset.profile, int(dataset.clips.valid_ms[row])) for row in rows]
    places = (np.arange(num_steps) + 0.5) / num_steps
    frames = np.concatenate([s[(places * len(s)).astype(int)] for s in steps])
    centre = np.full((len(frames), 2), 0.5)
    return Plan(np.repeat(rows, num_steps), frames, np.zeros(len(frames), np.int64), centre)


def load_batch(dataset: Dataset, plan: Plan, frame_px: int) -> Batch:
    """Reads and decodes the steps of `plan`."""
    dataset = dataset.holding(needed(plan))
    num_steps = len(plan.rows)
    frames = np.empty((num_steps, frame_px, frame_px, 3), np.uint8)
    log_mel = np.empty((num_steps, N_MELS, STEP_MS // HOP_MS), np.float32)
    for step, (row, index) in enumerate(zip(plan.rows.tolist(), plan.frames.tolist(), strict=True)):
        side_px = round(frame_px / CROP_SHARE)
        frame = _scaled(dataset.frame(row, index, side_px), side_px)
        frames[step] = _cropped(frame, frame_px, plan.corners[step])
        start = window_start(dataset.profile, index, int(plan.shifts_ms[step]))
        log_mel[step] = dataset.log_mel(row)[:, start : start + log_mel.shape[2]]
    # Decoders give rows of pixels: seen as (steps, 3, px, px) that is channels_last, without a copy.
    images = torch.from_numpy(frames).permute(0, 3, 1, 2)
    return Batch(images, torch.from_numpy(log_mel), torch.from_numpy(dataset.videos[plan.rows]))


def needed(plan: Plan) -> Iterator[tuple[int, str]]:
    """The members (row, suffix) that the steps of `plan` are made of."""
    for row, index in zip(plan.rows.tolist(), plan.frames.tolist(), strict=True):
        yield row, frame_suffix(index)
        yield row, LOG_MEL_SUFFIX


def window_start(profile: Profile, index: int, shift_ms: int = 0) -> int:
    """The first log-mel frame of the second centred on frame `index`, moved by `shift_ms`."""
    start_ms = float(frame_time_ms(profile, index)) - STEP_MS / 2 + shift_ms
    return round(start_ms * FRAMES_PER_S / 1000)


def _random_plan(dataset: Dataset, rows: np.ndarray, sampling: Sampling, rng: np.random.Generator) -> Plan:
    profile, num_steps = dataset.profile, sampling.steps_per_clip
    frames, shifts_ms = [], []
    for valid_ms in dataset.clips.valid_ms[rows].tolist():
        steps = valid_steps(profile, valid_ms)
        chosen = np.sort(rng.choice(steps, num_steps, replace=len(steps) < num_steps))
        start_ms = frame_time_ms(profile, chosen) - STEP_MS / 2
        room_ms = min(valid_ms, profile.length_ms) - STEP_MS - start_ms
        earliest = -(np.minimum(sampling.jitter_ms, start_ms).astype(int) // HOP_MS)
        latest = np.minimum(sampling.jitter_ms, room_ms).astype(int) // HOP_MS
        frames.append(chosen)
        shifts_ms.append(rng.integers(earliest, latest, endpoint=True) * HOP_MS)
    corners = rng.random((len(rows) * num_steps, 2))
    return Plan(np.repeat(rows, num_steps), np.concatenate(frames), np.concatenate(shifts_ms), corners)


def _scaled(frame: np.ndarray, side_px: int) -> np.ndarray:
    height, width = frame.shape[:2]
    factor = side_px / min(height, width)
    if 1.0 <= 1.0 / factor <= OVERSIZE:
        return frame
    if factor > OVERSIZE:
        raise ValueError(f"a frame of {width}x{height} px is too small for a crop out of {side_px} px")
    image = torch.from_numpy(frame).permute(2, 0, 1)[None]
    size = (max(side_px, round(height * factor)), max(side_px, round(width * factor)))
    return functional.interpolate(image, size, mode="bilinear", antialias=True)[0].permute(1, 2, 0).numpy()


def _cropped(frame: np.ndarray, size_px: int, corner: np.ndarray) -> np.ndarray:
    top = round(corner[0] * (frame.shape[0] - size_px))
    left = round(corner[1] * (frame.shape[1] - size_px))
    return frame[top : top + size_px, left : left + size_px]
