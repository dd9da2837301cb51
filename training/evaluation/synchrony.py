"""By how much is the sound late? Known offsets against those that the model finds, on held-out videos.

Every clip is evaluated at `num_offsets` of the 21 offsets from -2 to 2 s that it has room for, drawn by a seed. The
sound is cut from elsewhere in the clip after decoding, so no codec marks where it was cut. Nothing is padded.
"""

from dataclasses import dataclass, replace

import numpy as np
import torch

from training.estimates import Estimate, bootstrap
from training.evaluation import DEFAULT_OPTIONS, SPLIT, Evaluation, EvaluationOptions
from training.interface import AvcModel
from training.networks.embeddings import pictures
from training.networks.offsets import (
    CLASS_LAGS,
    MS_PER_LAG,
    NUM_CLASSES,
    OffsetModel,
    offset_classes,
    offsets_ms,
)
from training.reading.dataset import NO_GROUP, Dataset, clip_groups
from training.reading.decoding import load_frames, load_sounds, needed
from training.reading.sampling import View, even_plan, usable

CLASS_MS = CLASS_LAGS * MS_PER_LAG
CLIPS_PER_CALL = 8
NEAR_MS = 120.0  # what people and broadcasting rules (ITU-R BT.1359) tolerate


@dataclass(frozen=True)
class GroupOffsets:
    """Shares of the offsets found on the clips of one group."""

    group: str
    num_clips: int
    within_one_class: float
    within_120_ms: float


@dataclass(frozen=True)
class Synchrony(Evaluation):
    """Shares of the offsets that were found; None throughout if no clip has room for offsets."""

    num_offsets: int | None = None  # of each clip
    class_accuracy: Estimate | None = None
    within_one_class: Estimate | None = None
    within_120_ms: Estimate | None = None
    median_error_ms: float | None = None
    per_group: tuple[GroupOffsets, ...] | None = None


def applies(model: AvcModel, dataset: Dataset) -> bool:
    """To models that give a curve over lags."""
    del dataset
    return isinstance(model, OffsetModel)


def evaluate(
    model: OffsetModel,
    dataset: Dataset,
    options: EvaluationOptions = DEFAULT_OPTIONS,
    *,
    num_offsets: int = 3,
    seed: int = 0,
) -> Synchrony:
    """Shares of offsets found within the class, within one class either way, and within NEAR_MS, and the median error.

    Clips without room for `num_offsets` offsets are left out.
    """
    clips, true_classes = _with_offsets(
        usable(dataset.split(SPLIT), model.view), model.view, num_offsets, seed
    )
    if not len(clips):
        return Synchrony(question="synchrony", num_clips=0)
    found_ms, classes = find_offsets(model, clips, true_classes * CLASS_MS)
    error_ms = np.abs(found_ms - true_classes * CLASS_MS).ravel()
    videos = np.repeat(clips.videos, num_offsets)
    apart = np.abs(classes - NUM_CLASSES // 2 - true_classes).ravel()
    group_of = np.repeat(clip_groups(clips, options.groups), num_offsets)
    within_one = (3 * NUM_CLASSES - 2) / NUM_CLASSES**2  # the ends have one neighbour
    return Synchrony(
        question="synchrony",
        num_clips=len(clips),
        num_offsets=num_offsets,
        class_accuracy=_share(apart == 0, videos, 1 / NUM_CLASSES),
        within_one_class=_share(apart <= 1, videos, within_one),
        within_120_ms=_share(error_ms <= NEAR_MS, videos, 2 * NEAR_MS / (CLASS_MS * NUM_CLASSES)),
        median_error_ms=float(np.median(error_ms)),
        per_group=_per_group(group_of, apart, error_ms, num_offsets),
    )


def headline(result: Synchrony) -> list[tuple[str, Estimate]]:
    """The shares of offsets that are found; none if no clip has room for offsets."""
    if result.within_120_ms is None or result.within_one_class is None:
        return []
    return [
        ("offset found within 120 ms", result.within_120_ms),
        ("offset found within one class of 21", result.within_one_class),
    ]


def _per_group(
    group_of: np.ndarray, apart: np.ndarray, error_ms: np.ndarray, num_offsets: int
) -> tuple[GroupOffsets, ...]:
    """Shares by group: arrays of (clips * num_offsets,), `apart` in classes."""
    return tuple(
        GroupOffsets(
            group=str(name),
            num_clips=int((group_of == name).sum()) // num_offsets,
            within_one_class=float((apart[group_of == name] <= 1).mean()),
            within_120_ms=float((error_ms[group_of == name] <= NEAR_MS).mean()),
        )
        for name in np.unique(group_of)
        if not name.startswith(NO_GROUP)
    )


def _with_offsets(clips: Dataset, view: View, num_offsets: int, seed: int) -> tuple[Dataset, np.ndarray]:
    """The clips with room for offsets, and the offsets drawn for each, in classes from the middle one: (n, k)."""
    rng = np.random.default_rng(seed)
    offsets = {}
    for row in range(len(clips)):
        centre_ms = view.centre_ms(clips.profile, even_plan(clips, np.array([row]), 1, view).frames)[0]
        end_ms = min(clips.clips.valid_ms[row], clips.profile.length_ms)
        late = rng.permutation(NUM_CLASSES) - NUM_CLASSES // 2
        start_ms = centre_ms - view.sound_ms / 2 - late * CLASS_MS  # a late sound is cut from earlier on
        late = late[(start_ms >= 0) & (start_ms + view.sound_ms <= end_ms)][:num_offsets]
        if len(late) == num_offsets:
            offsets[row] = late
    return clips.take(np.array(list(offsets), np.int64)), np.array(list(offsets.values()), np.int64)


@torch.inference_mode()
def find_offsets(model: OffsetModel, clips: Dataset, late_ms: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The offsets that the model finds when each clip's sound is late by each of `late_ms` (n, k).

    In ms and by class, both (n, k). The model sees the middle of the clip, once for all of its offsets.
    """
    model.require(clips.profile)
    device = model.calibration.device
    found_ms = []
    classes = []
    for start in range(0, len(clips), CLIPS_PER_CALL):
        rows = np.arange(start, min(start + CLIPS_PER_CALL, len(clips)))
        plan = even_plan(clips, rows, 1, model.view)
        held = clips.holding(needed(clips, plan, model.view))
        V = model.encode_image(pictures(load_frames(held, plan, model.view).to(device)))["vector"]
        for column in range(late_ms.shape[1]):
            # A late sound is cut from an earlier position.
            moved = replace(plan, shifts_ms=-np.round(late_ms[rows, column]).astype(np.int64))
            A = model.encode_audio(model.front_end(load_sounds(held, moved, model.view).to(device)))["vector"]
            curves = model.curve(V, A)
            found_ms.append(offsets_ms(curves)[0].cpu().numpy())
            classes.append(offset_classes(curves).argmax(1).cpu().numpy())
    columns = late_ms.shape[1]
    return _table(found_ms, columns), _table(classes, columns)


def _table(columns: list[np.ndarray], num_columns: int) -> np.ndarray:
    """Columns of blocks of rows, block by block, as one table."""
    blocks = [np.stack(columns[n : n + num_columns], 1) for n in range(0, len(columns), num_columns)]
    return np.concatenate(blocks)


def _share(is_right: np.ndarray, videos: np.ndarray, chance: float) -> Estimate:
    return bootstrap(lambda at: float(is_right[at].mean()), videos, chance)
