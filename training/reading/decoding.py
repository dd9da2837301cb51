"""The steps of a plan as tensors: a few frames and a second of sound, decoded and cropped."""

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields
from functools import cache, lru_cache, partial

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from schemas.errors import DataError
from schemas.feature import Profile
from schemas.shard import AUDIO_SUFFIX, LOG_MEL_SUFFIX, VIDEO_SUFFIX, frame_suffix
from schemas.waveforms import FRAMES_PER_S
from training.reading.dataset import Dataset
from training.reading.negatives import Steps
from training.reading.sampling import Plan, View

CROP_SHARE = 0.875  # of the short side, as in the seed papers: 224 of 256
OVERSIZE = 1.25  # a frame larger than needed by this factor is scaled down before it is cropped


@dataclass(frozen=True)
class Batch:
    """Decoded steps, one per row: the input of a training step."""

    frames: Tensor  # uint8 (steps, 3, px, px), or (steps, frames, 3, px, px) if a step shows several
    sound: Tensor  # float32 log-mel (steps, mels, frames), or int16 wave (steps, channels, samples)
    clips: Tensor  # int64 (steps,): equal for the same clip
    videos: Tensor  # int64 (steps,): equal for the same video
    classes: Tensor  # int64 (steps,): of the clip's first label, -1 without one
    seen_ms: Tensor  # float32 (steps,): the middle of what is seen, from the segment's start
    heard_ms: Tensor  # float32 (steps,): the middle of what is heard
    draws: Tensor  # float32 (steps, NUM_DRAWS): what augmentation does to them

    def to(self, device: torch.device) -> "Batch":
        """The same batch on `device`."""
        return Batch(*(getattr(self, f.name).to(device, non_blocking=True) for f in fields(self)))

    def chunks(self, num_chunks: int) -> list["Batch"]:
        """The same steps in exactly `num_chunks` batches of nearly equal size."""
        parts = zip(*(getattr(self, f.name).tensor_split(num_chunks) for f in fields(self)), strict=True)
        return [Batch(*part) for part in parts]


def load_batch(dataset: Dataset, plan: Plan, view: View) -> Batch:
    """Reads and decodes the steps of `plan`."""
    dataset = dataset.holding(needed(dataset, plan, view))
    return timed(dataset, plan, view, (load_frames(dataset, plan, view), load_sounds(dataset, plan, view)))


def load_frames(dataset: Dataset, plan: Plan, view: View) -> Tensor:
    """The pictures of the steps of `plan`: `Batch.frames`. Raises DataError for a frame that is too small."""
    side_px = round(view.frame_px / CROP_SHARE)
    px = view.frame_px
    frames = np.empty((len(plan.rows), view.num_frames, px, px, 3), np.uint8)

    def fill(steps: range) -> None:
        for step in steps:
            shown = view.shown(int(plan.frames[step]))
            for n, frame in enumerate(dataset.frames(int(plan.rows[step]), shown, side_px)):
                frames[step, n] = _cropped(_scaled(frame, side_px), px, plan.corners[step])

    _on_threads(fill, len(plan.rows))
    # Decoders return rows of pixels: viewed as (..., 3, px, px), they are channels_last without a copy.
    images = torch.from_numpy(frames).permute(0, 1, 4, 2, 3)
    return images[:, 0] if view.num_frames == 1 else images


def _on_threads(work: Callable[[range], None], count: int) -> None:
    """Calls `work` for all numbers below `count`, on as many threads as torch may use: decoders release the GIL."""
    num_threads = torch.get_num_threads()
    if min(num_threads, count) < 2:
        work(range(count))
        return
    for _ in _pool(num_threads).map(work, [range(n, count, num_threads) for n in range(num_threads)]):
        pass


@lru_cache(1)
def _pool(num_threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(num_threads, "decode")


os.register_at_fork(after_in_child=_pool.cache_clear)  # threads stay behind in the parent


def load_sounds(dataset: Dataset, plan: Plan, view: View) -> Tensor:
    """The sound of the steps of `plan`: `Batch.sound`."""
    start_ms = view.centre_ms(dataset.profile, plan.frames) - view.sound_ms / 2 + plan.shifts_ms
    read = _log_mels(dataset, view) if view.sound == "log_mel" else partial(_wave, dataset, view)
    pieces = zip(plan.rows.tolist(), start_ms.tolist(), strict=True)
    stored = torch.from_numpy(np.stack([read(row, start) for row, start in pieces]))
    # Converting from float16, torch is twenty times as fast as numpy.
    return stored.float() if view.sound == "log_mel" else stored


def _log_mels(dataset: Dataset, view: View) -> Callable[[int, float], np.ndarray]:
    """Reads the log-mel of a row from a time on; once per clip, even if several steps of a batch hear it."""
    whole = cache(dataset.log_mel)
    length = _mel_frame(view.sound_ms)

    def read(row: int, start_ms: float) -> np.ndarray:
        start = _mel_frame(start_ms)
        return whole(row)[:, start : start + length]

    return read


def _wave(dataset: Dataset, view: View, row: int, start_ms: float) -> np.ndarray:
    rate_hz = dataset.profile.sample_rate_hz
    start = round(start_ms * rate_hz / 1000)
    length = round(view.sound_ms * rate_hz / 1000)
    return np.ascontiguousarray(dataset.wave(row, slice(start, start + length)))


def timed(dataset: Dataset, plan: Plan, view: View, content: tuple[Tensor, Tensor]) -> Batch:
    """The batch of `plan` with this content: pictures and sound."""
    steps = planned(dataset, plan, view)
    return Batch(*content, **steps.rows, draws=torch.from_numpy(plan.draws))


def planned(dataset: Dataset, plan: Plan, view: View) -> Steps:
    """The steps of `plan`, before any of their bytes are read."""
    seen_ms = torch.from_numpy(view.centre_ms(dataset.profile, plan.frames).astype(np.float32))
    return Steps(
        clips=torch.from_numpy(plan.rows),
        videos=torch.from_numpy(dataset.videos[plan.rows]),
        classes=torch.from_numpy(dataset.classes[plan.rows]),
        seen_ms=seen_ms,
        heard_ms=seen_ms + torch.from_numpy(plan.shifts_ms.astype(np.float32)),
    )


def needed(dataset: Dataset, plan: Plan, view: View) -> Iterator[tuple[int, str]]:
    """The members (row, suffix) that the steps of `plan` need."""
    is_video = dataset.profile.picture == "h264"
    for row, index in zip(plan.rows.tolist(), plan.frames.tolist(), strict=True):
        yield from ((row, VIDEO_SUFFIX if is_video else frame_suffix(k)) for k in view.shown(index))
        yield row, sound_suffix(view)


def sound_suffix(view: View) -> str:
    """The suffix of the member that holds a clip's sound."""
    return LOG_MEL_SUFFIX if view.sound == "log_mel" else AUDIO_SUFFIX


def window_start(profile: Profile, index: int, view: View) -> int:
    """The first log-mel frame of the sound centred on step `index`."""
    return _mel_frame(float(view.centre_ms(profile, index)) - view.sound_ms / 2)


def _mel_frame(time_ms: float) -> int:
    return round(time_ms * FRAMES_PER_S / 1000)


def _scaled(frame: np.ndarray, side_px: int) -> np.ndarray:
    height, width = frame.shape[:2]
    factor = side_px / min(height, width)
    if 1.0 <= 1.0 / factor <= OVERSIZE:
        return frame
    if factor > OVERSIZE:
        raise DataError(
            f"a frame of {width}x{height} px is too small for a crop out of {side_px} px: its version has another "
            "profile than it says"
        )
    image = torch.from_numpy(frame).permute(2, 0, 1)[None]
    size = (max(side_px, round(height * factor)), max(side_px, round(width * factor)))
    return functional.interpolate(image, size, mode="bilinear", antialias=True)[0].permute(1, 2, 0).numpy()


def _cropped(frame: np.ndarray, size_px: int, corner: np.ndarray) -> np.ndarray:
    top = round(corner[0] * (frame.shape[0] - size_px))
    left = round(corner[1] * (frame.shape[1] - size_px))
    return frame[top : top + size_px, left : left + size_px]
