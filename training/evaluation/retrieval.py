"""Which of these sounds belongs to this picture, and which of these pictures to this sound?

The score of a clip's pictures with a clip's sounds is the mean over the diagonal of their N x N steps.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from training.estimates import bootstrap
from training.evaluation import SPLIT, steps_a_clip
from training.interface import AvcModel
from training.networks.embeddings import Embeddings, embed
from training.reading.dataset import Dataset, clip_groups
from training.reading.sampling import usable

CUTOFFS = (1, 5, 10)
MAX_CLIPS = 5000  # a matrix of 200 MB
MAX_FUSED = 100  # 10,000 networks
PICTURES_AT_ONCE = 64  # against all sounds: of L3-Net, 160 MB of hidden units for 5,000 clips
TIE = 1e-6  # similarities nearer than float32's rounding are the same


def evaluate(model: AvcModel, dataset: Dataset, groups: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Recall and median rank over the clips of split `eval`, both directions, also within groups: JSON-able.

    Of more than MAX_CLIPS (MAX_FUSED of a model that fuses early) a fixed draw is taken: the count is part of what
    a recall means, and reported.
    """
    clips = usable(dataset.split(SPLIT), model.view)
    clips = drawn(clips, MAX_FUSED if model.is_early_fusion else MAX_CLIPS)
    num_steps = steps_of_matrix(model, dataset)
    encoded = embed(model, clips, num_steps)
    group_of = clip_groups(clips, groups)
    scores = clip_scores(model, encoded)
    alike = group_of[:, None] == group_of[None, :]
    result: dict[str, Any] = {"question": "retrieval", "num_clips": len(clips), "num_steps": num_steps}
    for name, matrix in (("image_to_audio", scores), ("audio_to_image", scores.T)):
        result[name] = recalls(matrix, encoded.videos) | {
            "within_group": recalls(matrix, encoded.videos, allowed=alike)
        }
    return result


def steps_of_matrix(model: AvcModel, dataset: Dataset) -> int:
    """How many steps of each clip are compared with those of each other: one where a pair costs a network."""
    return 1 if model.is_early_fusion else steps_a_clip(dataset.profile, model.view)


def drawn(clips: Dataset, most: int) -> Dataset:
    """The clips, or `most` of them, always the same."""
    if len(clips) <= most:
        return clips
    return clips.take(np.sort(np.random.default_rng(0).permutation(len(clips))[:most]))


@torch.inference_mode()
def clip_scores(model: AvcModel, encoded: Embeddings) -> np.ndarray:
    """The mean logit of each clip's pictures with each clip's sounds, step by step: float64 (n, n)."""
    device = model.calibration.device
    total = np.zeros((len(encoded.rows), len(encoded.rows)))
    for step in range(encoded.num_steps):
        V = encoded.image[:, step].to(device)
        A = encoded.audio[:, step].to(device)
        blocks = [model.score(some, A).double().cpu() for some in V.split(PICTURES_AT_ONCE)]
        total += torch.cat(blocks).numpy()
    return total / encoded.num_steps


def recalls(scores: np.ndarray, videos: np.ndarray, allowed: np.ndarray | None = None) -> dict[str, Any]:
    """R@k and median rank of the own clip among all candidates, or among the `allowed` (n, n) ones.

    Queries without any competitor are left out: finding one among one is no finding.
    """
    candidates = _candidates(videos, allowed)
    is_query = candidates.sum(1) > 1
    if not is_query.any():
        return {"num_queries": 0}
    rank = ranks(scores, candidates)[is_query]
    count = candidates.sum(1)[is_query]
    clusters = videos[is_query]
    result: dict[str, Any] = {"num_queries": int(is_query.sum()), "mean_candidates": float(count.mean())}
    for k in CUTOFFS:
        chance = float(np.minimum(k / count, 1.0).mean())
        hits = rank <= k
        result[f"recall_at_{k}"] = dict(
            vars(bootstrap(lambda at, hits=hits: hits[at].mean(), clusters, chance))
        )
    chance = float(np.median((count + 1) / 2))
    result["median_rank"] = dict(vars(bootstrap(lambda at: float(np.median(rank[at])), clusters, chance)))
    return result


def ranks(scores: np.ndarray, candidates: np.ndarray) -> np.ndarray:
    """The rank of each row's own column, 1 the best: (n,). Ties count half, so that a model that gives all
    the same score stands where chance does."""
    own = np.diagonal(scores)[:, None]
    others = candidates & ~np.eye(len(scores), dtype=bool)
    better = ((scores > own + TIE) & others).sum(1)
    equal = ((np.abs(scores - own) <= TIE) & others).sum(1)
    return 1 + better + equal / 2


def _candidates(videos: np.ndarray, allowed: np.ndarray | None) -> np.ndarray:
    """Every clip of another video, and the own one: other clips of the same video may fit as well."""
    candidates = (videos[:, None] != videos[None, :]) | np.eye(len(videos), dtype=bool)
    return candidates if allowed is None else candidates & allowed
