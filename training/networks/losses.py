"""Losses over the full combination of a batch: every picture against every sound.

N steps; `negatives_NN` says which pairs do not match (`training.reading.negatives`), the diagonal does.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional

from training.reading.negatives import Steps

# Of learnt temperatures: below the range, one hard negative is the whole gradient; above it, none counts.
TEMPERATURE_RANGE = (0.01, 0.5)
LEAST_WEIGHT = 1e-6  # a batch without any negative has zero loss


def keep_within(log_value: Tensor, bounds: tuple[float, float]) -> None:
    """Brings a learnt logarithm back inside its bounds. A clamp in the loss would stop its learning."""
    with torch.no_grad():
        log_value.clamp_(*map(math.log, bounds))


def contrastive(similarity_NN: Tensor, temperature: Tensor, negatives_NN: Tensor) -> Tensor:
    """Symmetric InfoNCE (van den Oord et al. 2018) of the diagonal against the negatives.

    Other steps of the same video are not negatives by default: many sounds are stationary, and they may fit as well as
    the step's own. They are left out of the denominator.
    """
    logits_NN = similarity_NN.float() / temperature
    targets_N = torch.arange(len(logits_NN), device=logits_NN.device)
    to_sound = functional.cross_entropy(masked(logits_NN, negatives_NN), targets_N)
    return (to_sound + functional.cross_entropy(masked(logits_NN.T, negatives_NN.T), targets_N)) / 2


def pairs(logits_NN: Tensor, negatives_NN: Tensor) -> Tensor:
    """The seed papers' two-way cross-entropy over the full combination, with equal weight for matching and other pairs.

    A two-way softmax over (other, matching) is the sigmoid of the difference of its logits. All pairs at once with a
    learnt scale and bias are also the sigmoid loss of SigLIP (Zhai et al. 2023), balanced. Each step has the same
    weight in its matching pair as in all its others. Otherwise a model that recognises a clip of a rare class by sight
    would be right about it whatever it hears.
    """
    logits_NN = logits_NN.float()
    others_N = negatives_NN.sum(1).float()
    weight_N = others_N / others_N.mean().clamp_min(LEAST_WEIGHT)
    matching = (weight_N * functional.softplus(-logits_NN.diagonal())).mean()
    other = functional.softplus(logits_NN).masked_fill(~negatives_NN, 0.0).sum()
    return (matching + other / negatives_NN.sum().clamp_min(1)) / 2


def two_way(own_N: Tensor, other_N: Tensor) -> Tensor:
    """The cross-entropy of logits of matching and of other pairs, with equal weight for both classes."""
    return (functional.softplus(-own_N).mean() + functional.softplus(other_N).mean()) / 2


def masked(logits_NN: Tensor, negatives_NN: Tensor) -> Tensor:
    """The logits with -inf where a pair neither matches nor is a negative."""
    own_NN = torch.eye(len(logits_NN), dtype=torch.bool, device=logits_NN.device)
    return logits_NN.masked_fill(~(negatives_NN | own_NN), -torch.inf)


def chance(negatives_NN: Tensor) -> float:
    """The value of `contrastive` for a model that knows nothing: the mean log of the number of candidates."""
    candidates_N = torch.stack([negatives_NN.sum(1), negatives_NN.sum(0)]) + 1
    return float(candidates_N.float().log().mean())


def two_way_chance(negatives_NN: Tensor) -> float:
    """The value of `pairs` and `two_way` for a model that knows nothing: ln 2, or 0 without negatives."""
    return math.log(2) if negatives_NN.any() else 0.0


def within_clip(similarity_NN: Tensor, temperature: Tensor, steps: Steps, sigma_ms: float) -> Tensor:
    """Cross-entropy over the sounds of each picture's own clip, with soft targets that fall with distance in time.

    The poster's full combination of one clip, in which stationary clips do no harm: neighbours may fit nearly as well.
    Both directions; the entropy of the targets is subtracted, so that the best value is 0.
    """
    apart_NN = (steps.seen_ms[:, None] - steps.heard_ms[None, :]) / sigma_ms
    is_other_NN = steps.clips[:, None] != steps.clips[None, :]
    both = []
    for logits_NN, distance_NN in ((similarity_NN, apart_NN), (similarity_NN.T, apart_NN.T)):
        targets_NN = (-distance_NN.square() / 2).masked_fill(is_other_NN, -torch.inf).log_softmax(1)
        found_NN = (logits_NN.float() / temperature).masked_fill(is_other_NN, -torch.inf).log_softmax(1)
        both.append(functional.kl_div(found_NN, targets_NN, reduction="none", log_target=True))
    return torch.stack([loss_NN.masked_fill(is_other_NN, 0.0).sum(1).mean() for loss_NN in both]).mean()
