"""Does this second of sound belong to this picture? The AVC decision on held-out videos.

Pairs are fixed by a seed before any model is asked. Every picture and every sound of the list stands in
exactly as many matching as other pairs, so neither alone says anything about the answer. The probes prove that of
the list, and nothing of the model or of its training: whoever sees one side only is right in half of a balanced list.
The threshold is the model's own calibration, fitted on the validation split.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from schemas.manifest import digest_of
from training import estimates
from training.estimates import Estimate, bootstrap
from training.evaluation import SPLIT, steps_a_clip
from training.interface import AvcModel
from training.networks.embeddings import Embeddings, embed
from training.reading.dataset import NO_GROUP, Dataset, clip_groups
from training.reading.negatives import Negatives
from training.reading.sampling import usable

CHANCE = 0.5
PROBE_WIDTH = 256  # Newton's method has a matrix of its square: 25,088 numbers would take 5 GB
MIN_VIDEOS = 3  # to pair and to leave some out of a probe's training
PAIR_LISTS = ("random", "same_group")


@dataclass(frozen=True)
class PairConfig:
    """Which pairs are asked: `num_steps` seconds of each clip, each once with its own sound and once not."""

    num_steps: int = 5
    seed: int = 0
    tolerance_ms: float = Negatives.tolerance_ms  # from here on a clip's own sound is not the picture's


@dataclass(frozen=True)
class Pairs:
    """A balanced list of pairs, by row of the embeddings; all int64 (pairs,), but `labels`."""

    image_rows: np.ndarray
    audio_rows: np.ndarray
    steps: np.ndarray  # the picture's index among the clip's evaluated steps
    labels: np.ndarray  # bool: whether the sound is the picture's own
    audio_steps: np.ndarray  # the sound's index

    def __len__(self) -> int:
        return len(self.labels)


def evaluate(
    model: AvcModel,
    dataset: Dataset,
    groups: Mapping[str, str] | None = None,
    *,
    held_out: frozenset[str] = frozenset(),
    config: PairConfig | None = None,
) -> dict[str, Any]:
    """AVC on split `eval`, against sounds of any other video, of the same group and of another time: JSON-able.

    `groups` maps video ids to the group that counts as the same kind (default: the first label); `held_out`
    names groups that training never saw, which are reported apart and in no other number. Raises ValueError
    where fewer than MIN_VIDEOS are left.
    """
    config = config or PairConfig(steps_a_clip(dataset.profile, model.view))
    clips = usable(dataset.split(SPLIT), model.view)
    group_of, is_known = seen_groups(clips, groups, held_out)
    encoded = embed(model, clips, config.num_steps)
    random_pairs, alike_pairs = _pair_lists(encoded, group_of, is_known, config)
    logits = score_pairs(model, encoded, random_pairs)
    result: dict[str, Any] = {
        "question": "correspondence",
        "num_clips": int(is_known.sum()),
        "num_videos": len(np.unique(clips.videos[is_known])),
        "num_pairs": len(random_pairs),
        "evaluation_digest": digest_of(dataset.lineage, _digest(clips, encoded, [random_pairs, alike_pairs])),
        "pairs_digest": _digest(clips, encoded, [random_pairs]),
        "calibration": [float(value) for value in model.calibration],
        "random": _judged(encoded, random_pairs, logits),
        "same_group": judge(model, encoded, alike_pairs),
        "shifted": judge(model, encoded, shifted_pairs(encoded, np.flatnonzero(is_known), config)),
        "probes": shortcut_probes(encoded, random_pairs),
        "family_oracle": {
            name: _group_oracle(pairs, group_of)
            for name, pairs in zip(PAIR_LISTS, (random_pairs, alike_pairs), strict=True)
        },
        "per_group": _per_group(encoded, random_pairs, group_of, logits),
    }
    if held_out:
        lists = _pair_lists(encoded, group_of, ~is_known, config)
        scores = {name: judge(model, encoded, pairs) for name, pairs in zip(PAIR_LISTS, lists, strict=True)}
        result["held_out"] = {"groups": sorted(held_out), **scores}
    return result


def seen_groups(
    clips: Dataset, groups: Mapping[str, str] | None, held_out: frozenset[str]
) -> tuple[np.ndarray, np.ndarray]:
    """The group of each clip, and whether training saw it. Raises ValueError where fewer than MIN_VIDEOS are left."""
    group_of = clip_groups(clips, groups)
    is_seen = ~np.isin(group_of, sorted(held_out))
    if (num_videos := len(np.unique(clips.videos[is_seen]))) < MIN_VIDEOS:
        raise ValueError(
            f"split {SPLIT!r} has {num_videos} usable video(s) to judge by, and {MIN_VIDEOS} are needed: build the "
            "list of an evaluation set too (AudioSet's is eval_segments.csv), or more of it"
        )
    return group_of, is_seen


def known_pairs(
    clips: Dataset,
    encoded: Embeddings,
    groups: tuple[Mapping[str, str] | None, frozenset[str]],
    config: PairConfig,
) -> tuple[Pairs, Pairs]:
    """The two lists of `evaluate`, of groups that training saw; `groups`: of the videos, and those held out."""
    group_of = clip_groups(clips, groups[0])
    return _pair_lists(encoded, group_of, ~np.isin(group_of, sorted(groups[1])), config)


def _group_oracle(pairs: Pairs, group_of: np.ndarray) -> float:
    """The accuracy of knowing the group of each side, and nothing else: any pair of one group is said to match."""
    says_match = group_of[pairs.image_rows] == group_of[pairs.audio_rows]
    return float((says_match == pairs.labels).mean()) if len(pairs) else float("nan")


def _pair_lists(
    encoded: Embeddings, group_of: np.ndarray, chosen: np.ndarray, config: PairConfig
) -> tuple[Pairs, Pairs]:
    """The chosen clips against any other of them, and against others of their group."""
    rows = np.flatnonzero(chosen)
    kinds = np.unique(group_of[rows], return_inverse=True)[1]
    lists = (make_pairs(encoded.videos[rows], kind, config) for kind in (np.zeros(len(rows)), kinds))
    first, second = (replace(p, image_rows=rows[p.image_rows], audio_rows=rows[p.audio_rows]) for p in lists)
    return first, second


def make_pairs(videos: np.ndarray, kinds: np.ndarray, config: PairConfig) -> Pairs:
    """Each step of each clip once with its own sound and once with that of another video of its kind.

    Clips whose kind has no second video are left out, of both classes. `videos`, `kinds`: (clips,).
    """
    own = []
    other = []
    for kind in np.unique(kinds):
        rows = np.flatnonzero(kinds == kind)
        partner = derangement(videos[rows], np.random.default_rng([config.seed, len(own)]))
        has_partner = partner >= 0
        own.append(rows[has_partner])
        other.append(rows[partner[has_partner]])
    own_rows, other_rows = (np.concatenate(rows) if rows else np.zeros(0, np.int64) for rows in (own, other))
    image_rows = np.repeat(np.concatenate([own_rows, own_rows]), config.num_steps)
    audio_rows = np.repeat(np.concatenate([own_rows, other_rows]), config.num_steps)
    steps = np.tile(np.arange(config.num_steps), 2 * len(own_rows))
    return Pairs(image_rows, audio_rows, steps, np.arange(len(steps)) < len(steps) // 2, steps)


def shifted_pairs(encoded: Embeddings, rows: np.ndarray, config: PairConfig) -> Pairs:
    """Each step of clips `rows` once with its own sound and once with that of another time of the clip.

    Half of the steps further on, round the clip's end: as far as every step can be. Clips whose steps lie nearer
    than the tolerance are left out.
    """
    seen_ms = encoded.seen_ms.numpy()
    own = np.arange(encoded.num_steps)
    other = np.roll(own, -(len(own) // 2))
    rows = rows[np.abs(seen_ms - seen_ms[:, other]).min(1)[rows] >= config.tolerance_ms]
    images = np.repeat(np.concatenate([rows, rows]), len(own))
    steps = np.tile(own, 2 * len(rows))
    audio_steps = np.concatenate([np.tile(own, len(rows)), np.tile(other, len(rows))])
    return Pairs(images, images, steps, np.arange(len(steps)) < len(steps) // 2, audio_steps)


def derangement(videos: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A random permutation that gives every clip one of another video: int64 (clips,), -1 where none can be.

    Each clip is given once: positives and negatives have the same sounds.
    """
    ids, number, counts = np.unique(videos, return_inverse=True, return_counts=True)
    partner = np.full(len(videos), -1)
    rows = np.argsort(rng.permutation(len(ids))[number], kind="stable")
    # A video with more than half of the clips can't be deranged whole: its surplus is left out.
    surplus = int(max(2 * counts.max(initial=0) - len(videos), 0))
    if surplus:
        largest = np.flatnonzero(videos == ids[counts.argmax()])
        rows = rows[~np.isin(rows, largest[:surplus])]
    if len(rows):
        # Clips of one video stand together, so a turn by the longest run leaves none on its own video.
        partner[rows] = np.roll(rows, -int(np.unique(videos[rows], return_counts=True)[1].max()))
    return partner


def judge(model: AvcModel, encoded: Embeddings, pairs: Pairs) -> dict[str, Any]:
    """Accuracies and AUC of the model's logits on `pairs`, by pair and by clip; only their number without pairs."""
    return _judged(encoded, pairs, score_pairs(model, encoded, pairs))


def _judged(encoded: Embeddings, pairs: Pairs, logits: np.ndarray) -> dict[str, Any]:
    if not len(pairs):
        return {"num_clips": 0}
    clip_logits = np.array([logits[at].mean() for at in _clip_blocks(pairs)])
    clip_labels = np.array([pairs.labels[at][0] for at in _clip_blocks(pairs)])
    clip_videos = encoded.videos[[pairs.image_rows[at][0] for at in _clip_blocks(pairs)]]
    videos = encoded.videos[pairs.image_rows]
    return {
        "num_clips": len(np.unique(pairs.image_rows)),
        "accuracy": _estimate(estimates.accuracy, logits, pairs.labels, videos),
        "balanced_accuracy": _estimate(estimates.balanced_accuracy, logits, pairs.labels, videos),
        "auc": _estimate(estimates.auc, logits, pairs.labels, videos),
        "clip_accuracy": _estimate(estimates.accuracy, clip_logits, clip_labels, clip_videos),
        "clip_auc": _estimate(estimates.auc, clip_logits, clip_labels, clip_videos),
    }


@torch.inference_mode()
def score_pairs(model: AvcModel, encoded: Embeddings, pairs: Pairs) -> np.ndarray:
    """The model's logits of `pairs`: (pairs,)."""
    logits = np.empty(len(pairs))
    device = model.calibration.device
    for start in range(0, len(pairs), model.pairs_at_once):
        at = slice(start, start + model.pairs_at_once)
        V = encoded.image[pairs.image_rows[at], pairs.steps[at]].to(device)
        A = encoded.audio[pairs.audio_rows[at], pairs.audio_steps[at]].to(device)
        logits[at] = model.calibrated(model.paired(V, A)).cpu().numpy()
    return logits


def shortcut_probes(encoded: Embeddings, pairs: Pairs) -> dict[str, Any]:
    """How often somebody who only sees, or only hears, is right: 0.5 of a balanced list, whatever the model."""
    probes = {}
    sides = {
        "frame_only": (encoded.image, pairs.image_rows, pairs.steps),
        "audio_only": (encoded.audio, pairs.audio_rows, pairs.audio_steps),
    }
    for name, (vectors, rows, steps) in sides.items():
        inputs = narrowed(vectors.numpy())[rows, steps]
        videos = encoded.videos[rows]
        logits = estimates.probe(inputs, pairs.labels, videos)
        probes[name] = _estimate(estimates.balanced_accuracy, logits, pairs.labels, videos)
    return probes


def narrowed(vectors: np.ndarray) -> np.ndarray:
    """The vectors in up to PROBE_WIDTH numbers: through a random matrix, always the same, which keeps distances."""
    width = vectors.shape[-1]
    if width <= PROBE_WIDTH:
        return vectors
    matrix = np.random.default_rng(0).standard_normal((width, PROBE_WIDTH), np.float32)
    return vectors @ (matrix / np.sqrt(PROBE_WIDTH, dtype=np.float32))


def _estimate(statistic: Any, logits: np.ndarray, labels: np.ndarray, videos: np.ndarray) -> dict[str, float]:
    estimate: Estimate = bootstrap(lambda at: statistic(logits[at], labels[at]), videos, CHANCE)
    return dict(vars(estimate))


def _clip_blocks(pairs: Pairs) -> list[slice]:
    num_steps = int(pairs.steps.max()) + 1
    return [slice(start, start + num_steps) for start in range(0, len(pairs), num_steps)]


def _per_group(
    encoded: Embeddings, pairs: Pairs, group_of: np.ndarray, logits: np.ndarray
) -> list[dict[str, Any]]:
    table = []
    known = [group for group in np.unique(group_of[pairs.image_rows]) if not group.startswith(NO_GROUP)]
    for group in known:
        at = group_of[pairs.image_rows] == group
        videos = encoded.videos[pairs.image_rows[at]]
        accuracy = _estimate(estimates.accuracy, logits[at], pairs.labels[at], videos)
        table.append({"group": str(group), "num_videos": len(np.unique(videos)), "accuracy": accuracy})
    return table


def _digest(clips: Dataset, encoded: Embeddings, lists: list[Pairs]) -> str:
    keys = np.asarray(clips.keys, np.str_)
    frames = encoded.frames
    rows = []
    for pairs in lists:
        for image, audio, step, label in zip(
            pairs.image_rows, pairs.audio_rows, pairs.steps, pairs.labels, strict=True
        ):
            rows.append(
                [
                    str(keys[image]),
                    int(frames[image, step]),
                    str(keys[audio]),
                    int(frames[audio, step]),
                    bool(label),
                ]
            )
    return digest_of(rows)
