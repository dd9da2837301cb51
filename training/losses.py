"""Losses over the full combination of a batch: every picture against every sound."""

import torch
from torch import Tensor
from torch.nn import functional


def contrastive(similarity_NN: Tensor, temperature: Tensor, videos_N: Tensor) -> Tensor:
    """Symmetric InfoNCE (van den Oord et al. 2018) of the diagonal against everything from other videos.

    Other steps of the same video are no negatives: much sound is stationary, and they may fit as well as the
    step's own. They stay out of the denominator.
    """
    logits_NN = masked(similarity_NN.float() / temperature, videos_N)
    targets_N = torch.arange(len(logits_NN), device=logits_NN.device)
    return (
        functional.cross_entropy(logits_NN, targets_N) + functional.cross_entropy(logits_NN.T, targets_N)
    ) / 2


def pairs(logits_NN: Tensor, videos_N: Tensor) -> Tensor:
    """The seed papers' two-way cross-entropy over the full combination, matching and other pairs weighing the same.

    Row n of both sides is one step; pairs of different steps of one video are neither, and are left out. A
    two-way softmax over (other, matching) is the sigmoid of the difference of its logits.
    """
    logits_NN, is_other_NN = logits_NN.float(), videos_N[:, None] != videos_N[None, :]
    matching = functional.softplus(-logits_NN.diagonal()).mean()
    return (matching + functional.softplus(logits_NN[is_other_NN]).mean()) / 2


def masked(logits_NN: Tensor, videos_N: Tensor) -> Tensor:
    """The logits with -inf where picture and sound are different steps of one video."""
    same_video_NN = videos_N[:, None] == videos_N[None, :]
    other_step_NN = same_video_NN & ~torch.eye(len(videos_N), dtype=torch.bool, device=videos_N.device)
    return logits_NN.masked_fill(other_step_NN, -torch.inf)


def chance(videos_N: Tensor) -> float:
    """What `contrastive` is for a model that knows nothing: the mean log of the number of candidates."""
    candidates_N = (videos_N[:, None] != videos_N[None, :]).sum(1) + 1
    return float(candidates_N.float().log().mean())
