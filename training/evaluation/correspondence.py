"""Does this second of sound belong to this picture? The AVC decision on held-out videos.

A seed fixes the pairs before any model scores them. Every picture and every sound of the list occurs in exactly as many
matching as other pairs, so neither alone tells anything about the answer. The probes verify this property of the list,
and say nothing about the model or its training: a viewer of only one side is right about half of a balanced list. The
threshold is the model's own calibration, fitted on the validation split.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from schemas.errors import RequestError
from schemas.files import digest_of
from training import estimates
from training.estimates import Estimate, bootstrap, percent
from training.evaluation import (
    DEFAULT_OPTIONS,
    SPLIT,
    Evaluation,
    EvaluationOptions,
    GroupScore,
    ReportRow,
    Section,
    absent_as,
    steps_a_clip,
)
from training.interface import AvcModel
from training.networks.embeddings import Embeddings, embed
from training.reading.dataset import NO_GROUP, Dataset, clip_groups
from training.reading.pairs import PairConfig, Pairs, pair_lists, shifted_pairs
from training.reading.sampling import View, usable

CHANCE = 0.5
PROBE_WIDTH = 256  # Newton's method needs a matrix with the square of it: 25,088 numbers would take 5 GB
MIN_VIDEOS = 3  # to pair, and to leave some out of a probe's training
PAIR_LISTS = ("random", "same_group")
NO_PAIRS = {"num_clips": 0}

Statistic = Callable[[np.ndarray, np.ndarray], float]  # of logits and labels


@dataclass(frozen=True)
class PairScores:
    """How well a model tells matching from other pairs: by pair, and by clip (the mean logit of its steps)."""

    num_clips: int
    accuracy: Estimate
    balanced_accuracy: Estimate
    auc: Estimate
    clip_accuracy: Estimate
    clip_auc: Estimate


@dataclass(frozen=True)
class Probes:
    """How often a viewer of the pictures alone, or a listener to the sounds alone, is right: 0.5 if balanced."""

    frame_only: Estimate
    audio_only: Estimate


@dataclass(frozen=True)
class HeldOut:
    """Scores on groups that training never saw; None if a list has no pairs."""

    groups: tuple[str, ...]
    random: PairScores | None = absent_as(NO_PAIRS)
    same_group: PairScores | None = absent_as(NO_PAIRS)


@dataclass(frozen=True)
class Correspondence(Evaluation):
    """Scores against sounds of any other video, of the same group, and of another time of the clip."""

    num_videos: int
    num_pairs: int
    evaluation_digest: str  # of the data and both lists: scores are compared only if it is the same
    pairs_digest: str
    calibration: tuple[float, ...]
    random: PairScores
    probes: Probes
    family_oracle: Mapping[str, float]  # accuracy of knowing the group of each side, by list
    per_group: tuple[GroupScore, ...]
    same_group: PairScores | None = absent_as(NO_PAIRS)
    shifted: PairScores | None = absent_as(NO_PAIRS)
    held_out: HeldOut | None = None


def applies(model: AvcModel, dataset: Dataset) -> bool:
    """To every model: whatever scores pairs has an answer."""
    del model, dataset
    return True


def evaluate(
    model: AvcModel,
    dataset: Dataset,
    options: EvaluationOptions = DEFAULT_OPTIONS,
    *,
    config: PairConfig | None = None,
) -> Correspondence:
    """AVC on split `eval`; held-out groups are reported separately and in no other number.

    Raises RequestError if fewer than MIN_VIDEOS are left.
    """
    config = config or PairConfig(
        steps_a_clip(dataset.profile, model.view), tolerance_ms=options.tolerance_ms
    )
    clips = usable(dataset.split(SPLIT), model.view)
    group_of, is_known = seen_groups(clips, options)
    encoded = embed(model, clips, config.num_steps)
    random_pairs, alike_pairs = pair_lists(encoded.videos, group_of, is_known, config)
    logits = score_pairs(model, encoded, random_pairs)
    of_random = _scores(encoded, random_pairs, logits)
    assert of_random is not None  # three videos always make a pair
    return Correspondence(
        question="correspondence",
        num_clips=int(is_known.sum()),
        num_videos=len(np.unique(clips.videos[is_known])),
        num_pairs=len(random_pairs),
        evaluation_digest=digest_of(dataset.lineage, _digest(clips, encoded, [random_pairs, alike_pairs])),
        pairs_digest=_digest(clips, encoded, [random_pairs]),
        calibration=tuple(float(value) for value in model.calibration),
        random=of_random,
        same_group=judge(model, encoded, alike_pairs),
        shifted=judge(
            model, encoded, shifted_pairs(encoded.seen_ms.numpy(), np.flatnonzero(is_known), config)
        ),
        probes=shortcut_probes(encoded, random_pairs),
        family_oracle={
            name: _group_oracle(pairs, group_of)
            for name, pairs in zip(PAIR_LISTS, (random_pairs, alike_pairs), strict=True)
        },
        per_group=tuple(_per_group(encoded, random_pairs, group_of, logits)),
        held_out=_held_out(model, encoded, (group_of, is_known), options.held_out, config),
    )


def headline(result: Correspondence) -> list[tuple[str, Estimate]]:
    """Accuracy and AUC against other sounds, and the balance of the pairs."""
    rows = [
        ("accuracy, against the sound of any other video", result.random.accuracy),
        ("AUC, the same pairs", result.random.auc),
    ]
    if result.same_group:
        rows.append(("accuracy, against sounds of the same family", result.same_group.accuracy))
    if result.shifted:
        rows.append(("accuracy, against the same clip at another time", result.shifted.accuracy))
    return [
        *rows,
        ("balance of the pairs: picture alone", result.probes.frame_only),
        ("balance of the pairs: sound alone", result.probes.audio_only),
    ]


def answer(result: Correspondence) -> str:
    """The result in one sentence, with its interval and chance."""
    accuracy = result.random.accuracy
    is_better = accuracy.low > accuracy.chance
    head = "Yes, better than chance" if is_better else "No better than chance, as far as this can tell"
    return (
        f"{head}: on {result.num_videos} videos it never saw, the model decides correctly whether a second of sound "
        f"belongs to a picture in {percent(accuracy.value)} of cases (95 % interval {percent(accuracy.low)} to "
        f"{percent(accuracy.high)}; chance {percent(accuracy.chance)})."
    )


def section(result: Correspondence) -> Section:
    """The rows about matching and other pairs, probes last, and the groups."""
    held_out = result.held_out or HeldOut(())
    tables = [
        ("random", "against any other video's sound", result.random),
        ("same group", "against another of the same kind", result.same_group),
        ("shifted", "against the same clip's sound at another time", result.shifted),
        ("unseen groups", "on kinds that training never saw", held_out.random),
        ("unseen, same group", "those, against the same kind", held_out.same_group),
    ]
    rows = []
    for name, meaning, scores in tables:
        if scores is None:
            continue
        rows.append(ReportRow(f"Accuracy, {name}", scores.accuracy, meaning))
        rows.append(ReportRow(f"AUC, {name}", scores.auc, "a matching pair scores higher"))
        if name == "random":
            rows.append(
                ReportRow("Accuracy by clip", scores.clip_accuracy, "over all seconds of a clip together")
            )
    balance = "50 % if the list is balanced, whatever the model"
    rows.append(ReportRow("Balance of the pairs: picture only", result.probes.frame_only, balance))
    rows.append(ReportRow("Balance of the pairs: sound only", result.probes.audio_only, balance))
    lead = (
        f"{result.num_pairs:,} pairs of held-out videos, half of them matching, fixed before any model scored them. "
        "Every picture and every sound occurs in as many matching as other pairs, and the threshold comes from the "
        "validation split. The band is the 95 % interval over videos, the dashed line is chance."
    )
    return Section("", rows, lead, result.per_group)


def require(dataset: Dataset, view: View, options: EvaluationOptions = DEFAULT_OPTIONS) -> None:
    """Raises RequestError if fewer than MIN_VIDEOS videos can be evaluated."""
    seen_groups(usable(dataset.split(SPLIT), view), options)


def seen_groups(clips: Dataset, options: EvaluationOptions) -> tuple[np.ndarray, np.ndarray]:
    """The group of each clip, and whether training saw it: str (clips,) and bool (clips,).

    Raises RequestError if fewer than MIN_VIDEOS are left.
    """
    group_of = clip_groups(clips, options.groups)
    is_seen = ~np.isin(group_of, sorted(options.held_out))
    if (num_videos := len(np.unique(clips.videos[is_seen]))) < MIN_VIDEOS:
        raise RequestError(
            f"split {SPLIT!r} has {num_videos} usable video(s), and an evaluation needs {MIN_VIDEOS}: also build the "
            "list of an evaluation set (AudioSet's is eval_segments.csv), or more of it"
        )
    return group_of, is_seen


def known_pairs(
    clips: Dataset, encoded: Embeddings, options: EvaluationOptions, config: PairConfig
) -> tuple[Pairs, Pairs]:
    """The two lists of `evaluate`, for groups that training saw."""
    group_of = clip_groups(clips, options.groups)
    return pair_lists(encoded.videos, group_of, ~np.isin(group_of, sorted(options.held_out)), config)


def _held_out(
    model: AvcModel,
    encoded: Embeddings,
    groups: tuple[np.ndarray, np.ndarray],
    held_out: frozenset[str],
    config: PairConfig,
) -> HeldOut | None:
    """The scores of the held-out groups; `groups`: the group of each clip, and whether training saw it."""
    if not held_out:
        return None
    group_of, is_known = groups
    lists = pair_lists(encoded.videos, group_of, ~is_known, config)
    scores = {name: judge(model, encoded, pairs) for name, pairs in zip(PAIR_LISTS, lists, strict=True)}
    return HeldOut(tuple(sorted(held_out)), **scores)


def _group_oracle(pairs: Pairs, group_of: np.ndarray) -> float:
    """The accuracy of knowing the group of each side, and nothing else: a pair within one group is assumed to match."""
    is_alike = group_of[pairs.image_rows] == group_of[pairs.audio_rows]
    return float((is_alike == pairs.labels).mean()) if len(pairs) else float("nan")


def judge(model: AvcModel, encoded: Embeddings, pairs: Pairs) -> PairScores | None:
    """Accuracies and AUC of the model's logits on `pairs`, by pair and by clip; None without pairs."""
    return _scores(encoded, pairs, score_pairs(model, encoded, pairs))


def _scores(encoded: Embeddings, pairs: Pairs, logits: np.ndarray) -> PairScores | None:
    if not len(pairs):
        return None
    clip_logits = np.array([logits[at].mean() for at in _clip_blocks(pairs)])
    clip_labels = np.array([pairs.labels[at][0] for at in _clip_blocks(pairs)])
    clip_videos = encoded.videos[[pairs.image_rows[at][0] for at in _clip_blocks(pairs)]]
    videos = encoded.videos[pairs.image_rows]
    return PairScores(
        num_clips=len(np.unique(pairs.image_rows)),
        accuracy=_estimate(estimates.accuracy, logits, pairs.labels, videos),
        balanced_accuracy=_estimate(estimates.balanced_accuracy, logits, pairs.labels, videos),
        auc=_estimate(estimates.auc, logits, pairs.labels, videos),
        clip_accuracy=_estimate(estimates.accuracy, clip_logits, clip_labels, clip_videos),
        clip_auc=_estimate(estimates.auc, clip_logits, clip_labels, clip_videos),
    )


@torch.inference_mode()
def score_pairs(model: AvcModel, encoded: Embeddings, pairs: Pairs) -> np.ndarray:
    """The model's logits for `pairs`: (pairs,)."""
    logits = np.empty(len(pairs))
    device = model.calibration.device
    for start in range(0, len(pairs), model.pairs_at_once):
        at = slice(start, start + model.pairs_at_once)
        V = encoded.image[pairs.image_rows[at], pairs.steps[at]].to(device)
        A = encoded.audio[pairs.audio_rows[at], pairs.audio_steps[at]].to(device)
        logits[at] = model.calibrated(model.paired(V, A)).cpu().numpy()
    return logits


def shortcut_probes(encoded: Embeddings, pairs: Pairs) -> Probes:
    """What the vectors of each side alone tell about the labels."""
    image = _probe(encoded, encoded.image, (pairs.image_rows, pairs.steps), pairs.labels)
    audio = _probe(encoded, encoded.audio, (pairs.audio_rows, pairs.audio_steps), pairs.labels)
    return Probes(frame_only=image, audio_only=audio)


def _probe(
    encoded: Embeddings, vectors: Tensor, at: tuple[np.ndarray, np.ndarray], labels: np.ndarray
) -> Estimate:
    """The balanced accuracy of a regression on the vectors of the clips and steps `at`, on videos left out."""
    videos = encoded.videos[at[0]]
    logits = estimates.probe(narrowed(vectors.numpy())[at], labels, videos)
    return _estimate(estimates.balanced_accuracy, logits, labels, videos)


def narrowed(vectors: np.ndarray) -> np.ndarray:
    """The vectors in up to PROBE_WIDTH numbers: projected by a fixed random matrix, which preserves distances."""
    width = vectors.shape[-1]
    if width <= PROBE_WIDTH:
        return vectors
    matrix = np.random.default_rng(0).standard_normal((width, PROBE_WIDTH), np.float32)
    return vectors @ (matrix / np.sqrt(PROBE_WIDTH, dtype=np.float32))


def _estimate(statistic: Statistic, logits: np.ndarray, labels: np.ndarray, videos: np.ndarray) -> Estimate:
    return bootstrap(lambda at: statistic(logits[at], labels[at]), videos, CHANCE)


def _clip_blocks(pairs: Pairs) -> list[slice]:
    num_steps = int(pairs.steps.max()) + 1
    return [slice(start, start + num_steps) for start in range(0, len(pairs), num_steps)]


def _per_group(
    encoded: Embeddings, pairs: Pairs, group_of: np.ndarray, logits: np.ndarray
) -> list[GroupScore]:
    table = []
    known = [group for group in np.unique(group_of[pairs.image_rows]) if not group.startswith(NO_GROUP)]
    for group in known:
        at = group_of[pairs.image_rows] == group
        videos = encoded.videos[pairs.image_rows[at]]
        accuracy = _estimate(estimates.accuracy, logits[at], pairs.labels[at], videos)
        table.append(GroupScore(str(group), len(np.unique(videos)), accuracy))
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
