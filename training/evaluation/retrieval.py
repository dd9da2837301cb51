"""Which of these sounds belongs to this picture, and which of these pictures to this sound?

The score of a clip's pictures with a clip's sounds is the mean over the diagonal of their N x N steps.
"""

from dataclasses import dataclass

import numpy as np

from training.estimates import Estimate, bootstrap, ranks
from training.evaluation import (
    DEFAULT_OPTIONS,
    SPLIT,
    Evaluation,
    EvaluationOptions,
    ReportRow,
    Section,
    absent_as,
    steps_of_matrix,
)
from training.interface import AvcModel
from training.networks.embeddings import clip_scores, embed
from training.reading.dataset import Dataset, clip_groups
from training.reading.sampling import usable

CUTOFFS = (1, 5, 10)  # fields of Recalls
MAX_CLIPS = 5000  # a matrix of 200 MB
MAX_FUSED = 100  # 10,000 networks
NO_QUERIES = {"num_queries": 0}


@dataclass(frozen=True)
class Recalls:
    """How often a query finds its own clip among the first k candidates, and its median rank."""

    num_queries: int
    mean_candidates: float
    recall_at_1: Estimate
    recall_at_5: Estimate
    recall_at_10: Estimate
    median_rank: Estimate


@dataclass(frozen=True)
class Direction(Recalls):
    """Recalls among all clips, and among those of the query's own group; None if no group has two videos."""

    within_group: Recalls | None = absent_as(NO_QUERIES)


@dataclass(frozen=True)
class Retrieval(Evaluation):
    """Both directions; None if all clips are of one video."""

    num_steps: int
    image_to_audio: Direction | None = absent_as({**NO_QUERIES, "within_group": NO_QUERIES})
    audio_to_image: Direction | None = absent_as({**NO_QUERIES, "within_group": NO_QUERIES})


def applies(model: AvcModel, dataset: Dataset) -> bool:
    """To every model: whatever scores pairs ranks candidates."""
    del model, dataset
    return True


def evaluate(model: AvcModel, dataset: Dataset, options: EvaluationOptions = DEFAULT_OPTIONS) -> Retrieval:
    """Recall and median rank over the clips of split `eval`, both directions, also within groups.

    Of more than MAX_CLIPS (MAX_FUSED for a model that fuses early) a fixed sample is used: a recall is meaningful only
    with the number of candidates, which is reported.
    """
    clips = usable(dataset.split(SPLIT), model.view)
    clips = drawn(clips, MAX_FUSED if model.is_early_fusion else MAX_CLIPS)
    num_steps = steps_of_matrix(model, dataset)
    encoded = embed(model, clips, num_steps)
    group_of = clip_groups(clips, options.groups)
    scores = clip_scores(model, encoded)
    is_alike = group_of[:, None] == group_of[None, :]
    return Retrieval(
        question="retrieval",
        num_clips=len(clips),
        num_steps=num_steps,
        image_to_audio=_direction(scores, encoded.videos, is_alike),
        audio_to_image=_direction(scores.T, encoded.videos, is_alike),
    )


def headline(result: Retrieval) -> list[tuple[str, Estimate]]:
    """The recalls that a search over a collection is judged by."""
    to_audio = result.image_to_audio
    to_image = result.audio_to_image
    rows = []
    if to_audio:
        rows.append(("recall@1, picture -> sound", to_audio.recall_at_1))
        rows.append(("recall@10, picture -> sound", to_audio.recall_at_10))
    if to_image:
        rows.append(("recall@10, sound -> picture", to_image.recall_at_10))
    return rows


def section(result: Retrieval) -> Section:
    """The rows about finding a clip's other half among all, and among those of the same group."""
    rows = []
    for name, found in (
        ("picture to sound", result.image_to_audio),
        ("sound to picture", result.audio_to_image),
    ):
        if found is None:
            continue
        for cutoff in CUTOFFS:
            recall = getattr(found, f"recall_at_{cutoff}")
            rows.append(ReportRow(f"Recall at {cutoff}, {name}", recall, f"its own among the first {cutoff}"))
        scale = found.mean_candidates
        rows.append(
            ReportRow(f"Median rank, {name}", found.median_rank, f"of {scale:.0f}; 1 is best", scale, False)
        )
        if within := found.within_group:
            meaning = f"among {within.mean_candidates:.1f} on average"
            rows.append(ReportRow(f"Recall at 1 in its group, {name}", within.recall_at_1, meaning))
    return Section(f"Finding the other half among {result.num_clips} clips", rows)


def drawn(clips: Dataset, most: int) -> Dataset:
    """The clips, or `most` of them, always the same."""
    if len(clips) <= most:
        return clips
    return clips.take(np.sort(np.random.default_rng(0).permutation(len(clips))[:most]))


def recalls(scores: np.ndarray, videos: np.ndarray, allowed: np.ndarray | None = None) -> Recalls | None:
    """Recall and rank of each row's own column among all candidates, or among the `allowed` (n, n) ones.

    Queries without any competitor are left out, because finding one among one is trivial; None without queries.
    """
    candidates = _candidates(videos, allowed)
    is_query = candidates.sum(1) > 1
    if not is_query.any():
        return None
    rank = ranks(scores, candidates)[is_query]
    count = candidates.sum(1)[is_query]
    clusters = videos[is_query]
    at_cutoffs = {
        f"recall_at_{k}": bootstrap(
            lambda at, hits=rank <= k: hits[at].mean(), clusters, float(np.minimum(k / count, 1.0).mean())
        )
        for k in CUTOFFS
    }
    return Recalls(
        num_queries=int(is_query.sum()),
        mean_candidates=float(count.mean()),
        median_rank=bootstrap(
            lambda at: float(np.median(rank[at])), clusters, float(np.median((count + 1) / 2))
        ),
        **at_cutoffs,
    )


def _direction(scores: np.ndarray, videos: np.ndarray, is_alike: np.ndarray) -> Direction | None:
    among_all = recalls(scores, videos)
    return among_all and Direction(**vars(among_all), within_group=recalls(scores, videos, allowed=is_alike))


def _candidates(videos: np.ndarray, allowed: np.ndarray | None) -> np.ndarray:
    """Every clip of another video, and the clip itself: other clips of the same video may fit as well."""
    candidates = (videos[:, None] != videos[None, :]) | np.eye(len(videos), dtype=bool)
    return candidates if allowed is None else candidates & allowed
