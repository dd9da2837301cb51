"""Numbers that evaluations report: estimates with intervals, ranks, calibration, and the probe for shortcuts."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from schemas.errors import DataError

NUM_RESAMPLES = 1000
LEVEL = 0.95
NEWTON_STEPS = 50  # logistic regression converges in under 10 if it converges at all
TOLERANCE = 1e-8
TIE = 1e-6  # similarities that are closer than float32's rounding count as equal


@dataclass(frozen=True)
class Estimate:
    """A number with its 95 % interval over clips, and the value for a model that knows nothing."""

    value: float
    low: float
    high: float
    chance: float

    def __str__(self) -> str:
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}] (chance {self.chance:.3f})"


@dataclass(frozen=True)
class GateScore:
    """The number by which a model is promoted, and the digest of the pairs that it was measured on.

    Scores are compared only if the digest is the same.
    """

    value: float
    evaluation_digest: str


def percent(value: float) -> str:
    """0.6134 as `61.3 %`."""
    return f"{100 * value:.1f} %"


def bootstrap(
    statistic: Callable[[np.ndarray], float], clusters: np.ndarray, chance: float, seed: int = 0
) -> Estimate:
    """The percentile bootstrap of `statistic(rows)`, drawing whole clusters (videos) with replacement.

    Rows of one video are not independent observations: intervals over pairs would be too narrow.
    """
    _, sizes = np.unique(clusters, return_counts=True)
    order = np.argsort(clusters, kind="stable")
    starts = np.cumsum(sizes) - sizes
    rng = np.random.default_rng(seed)
    values = []
    for _ in range(NUM_RESAMPLES):
        draw = rng.integers(len(sizes), size=len(sizes))
        # All rows of the drawn clusters at once: position 0, 1, ... within each, added to where it starts.
        firsts = np.cumsum(sizes[draw]) - sizes[draw]
        places = np.arange(sizes[draw].sum()) - np.repeat(firsts, sizes[draw])
        values.append(statistic(order[np.repeat(starts[draw], sizes[draw]) + places]))
    tail = (1 - LEVEL) / 2
    low, high = np.nanquantile(values, [tail, 1 - tail])
    return Estimate(float(statistic(np.arange(len(clusters)))), float(low), float(high), chance)


def auc(scores: np.ndarray, labels: np.ndarray) -> float:
    """The probability that a positive scores above a negative, ties counting half; nan without both.

    Raises DataError for a score that is NaN: it would count as half right.
    """
    if np.isnan(scores).any():
        raise DataError(
            f"{np.isnan(scores).sum()} of {len(scores)} scores are not numbers: the model's weights have diverged; "
            "train again at a lower learning rate"
        )
    positives = scores[labels]
    negatives = np.sort(scores[~labels])
    if not len(positives) or not len(negatives):
        return float("nan")
    below = np.searchsorted(negatives, positives, "left")
    not_above = np.searchsorted(negatives, positives, "right")
    return float((below + not_above).mean() / (2 * len(negatives)))


def ranks(scores: np.ndarray, candidates: np.ndarray) -> np.ndarray:
    """The rank of each row's own column among the `candidates` (n, n), 1 the best: (n,).

    Ties count half, so that a model that gives all the same score performs at chance.
    """
    own = np.diagonal(scores)[:, None]
    others = candidates & ~np.eye(len(scores), dtype=bool)
    better = ((scores > own + TIE) & others).sum(1)
    equal = ((np.abs(scores - own) <= TIE) & others).sum(1)
    return 1 + better + equal / 2


def accuracy(scores: np.ndarray, labels: np.ndarray) -> float:
    """The share of pairs on the right side of logit 0."""
    return float(((scores > 0) == labels).mean())


def balanced_accuracy(scores: np.ndarray, labels: np.ndarray) -> float:
    """The mean of the two classes' accuracies at logit 0; nan without both."""
    if labels.all() or not labels.any():
        return float("nan")
    return float(((scores[labels] > 0).mean() + (scores[~labels] <= 0).mean()) / 2)


def platt(scores: np.ndarray, labels: np.ndarray) -> tuple[float, float]:
    """Scale and bias that turn scores into logits (Platt 1999), with both classes weighted equally."""
    weights = np.where(labels, 0.5 / max(labels.sum(), 1), 0.5 / max((~labels).sum(), 1)) * len(labels)
    # A little ridge keeps separable scores finite; otherwise it shrinks the scale by well under a percent.
    scale, bias = fit_logistic(scores[:, None], labels, ridge=1e-3, weights=weights)
    # A model whose scores run the wrong way knows nothing usable: the scores must not be inverted, and without a scale,
    # its bias would say of every pair that it matches.
    return (float(scale), float(bias)) if scale > 0 else (0.0, 0.0)


def fit_logistic(
    inputs: np.ndarray, labels: np.ndarray, *, ridge: float, weights: np.ndarray | None = None
) -> np.ndarray:
    """Coefficients of a logistic regression by Newton's method, the bias last: (columns + 1,)."""
    weights = np.ones(len(labels)) if weights is None else weights
    design = np.column_stack([inputs, np.ones(len(labels))]).astype(np.float64)
    penalty = np.full(design.shape[1], ridge)
    penalty[-1] = 1e-9  # the bias is free, except that the system must remain solvable
    beta = np.zeros(design.shape[1])
    for _ in range(NEWTON_STEPS):
        p = 1 / (1 + np.exp(-np.clip(design @ beta, -30, 30)))
        gradient = design.T @ (weights * (p - labels)) + penalty * beta
        hessian = (design.T * (weights * p * (1 - p))) @ design + np.diag(penalty)
        move = np.linalg.solve(hessian, gradient)
        # Newton overshoots from far away; a step longer than the data's logit range is shortened.
        reach = np.abs(design @ move).max()
        beta -= move * min(1.0, 4.0 / max(reach, 1e-12))
        if reach < TOLERANCE:
            break
    return beta


def probe(inputs: np.ndarray, labels: np.ndarray, clusters: np.ndarray, *, num_folds: int = 5) -> np.ndarray:
    """Cross-validated predictions (logits) of `labels` by a logistic regression on `inputs`.

    Whole clusters are left out at a time: a probe that has seen the clip learns the clip.
    """
    ids = np.unique(clusters)
    fold_of = dict(zip(ids.tolist(), np.random.default_rng(0).permutation(len(ids)) % num_folds, strict=True))
    folds = np.array([fold_of[cluster] for cluster in clusters.tolist()])
    logits = np.zeros(len(labels))
    for fold in range(min(num_folds, len(ids))):
        train = folds != fold
        test = folds == fold
        mean = inputs[train].mean(0)
        std = inputs[train].std(0) + 1e-6
        beta = fit_logistic((inputs[train] - mean) / std, labels[train], ridge=1.0)
        logits[test] = (inputs[test] - mean) / std @ beta[:-1] + beta[-1]
    return logits
