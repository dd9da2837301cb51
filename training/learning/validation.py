"""Validation: loss, AUC and accuracy over all combinations of some clips, and the calibration."""

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from schemas.errors import RequestError
from training import estimates
from training.interface import AvcModel
from training.networks.embeddings import Embeddings
from training.reading.dataset import Dataset
from training.reading.decoding import planned
from training.reading.negatives import Negatives, Steps
from training.reading.sampling import Plan, View


def require_pairs(clips: Dataset, plans: Iterable[Plan], view: View, policy: Negatives) -> None:
    """Raises RequestError if no batch of `plans` has two steps that do not match by `policy`."""
    steps = (replace(planned(clips, plan, view), policy=policy) for plan in plans)
    if not any(batch.negatives.any() for batch in steps):
        raise RequestError(
            f"split {clips.clips.names['split'][0].as_py()!r} has no two steps that do not match by "
            f"{' or '.join(policy.kinds)}: use other negatives, or clips that have such pairs (labels, or length)"
        )


@dataclass(frozen=True)
class Combination:
    """Every step of every clip with itself and with its negatives."""

    similarity: Tensor  # (pairs,)
    labels: np.ndarray  # bool (pairs,): whether both belong to the same step
    steps: Steps


@torch.no_grad()
def combine(model: AvcModel, encoded: Embeddings, policy: Negatives) -> Combination:
    """The full combination of the clips' steps, without pairs that neither match nor are negatives by `policy`."""
    V = encoded.image.flatten(0, 1)
    A = encoded.audio.flatten(0, 1)
    device = model.calibration.device
    steps = encoded.steps(policy)
    matches = torch.eye(len(V), dtype=torch.bool)
    counted = matches | steps.negatives
    if model.is_early_fusion:  # a pair that is left out would cost as much as one that counts
        rows, columns = counted.nonzero(as_tuple=True)
        similarity = model.paired_in_blocks(V[rows].to(device), A[columns].to(device)).cpu()
    else:
        similarity = model.similarity(V.to(device), A.to(device)).cpu()[counted]
    return Combination(similarity, matches[counted].numpy(), steps)


def all_pairs(model: AvcModel, encoded: Embeddings, combined: Combination) -> dict[str, float]:
    """Loss, AUC and balanced accuracy of the model on the clips and their combination."""
    labels = combined.labels
    logits = model.calibrated(combined.similarity.to(model.calibration.device))
    logits = logits.cpu().numpy()
    return {
        "loss": loss_of(model, encoded, combined.steps.policy),
        "auc": estimates.auc(logits, labels),
        "accuracy": estimates.balanced_accuracy(logits, labels),
    }


def fit_calibration(combined: Combination) -> tuple[float, float]:
    """Scale and bias that make balanced logits of the similarities."""
    return estimates.platt(combined.similarity.double().numpy(), combined.labels)


@torch.no_grad()
def loss_of(model: AvcModel, encoded: Embeddings, policy: Negatives) -> float:
    """The model's own loss over all steps of the clips."""
    device = model.calibration.device
    steps = encoded.steps(policy)
    V = encoded.image.flatten(0, 1).to(device)
    A = encoded.audio.flatten(0, 1).to(device)
    return float(model.loss(V, A, steps.to(device)))
