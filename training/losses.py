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


def masked(logits_NN: Tensor, videos_N: Tensor) -> Tensor:
    """The logits with -inf where picture and sound are different steps of one video."""
    same_video_NN = videos_N[:, None] == videos_N[None, :]
    other_step_NN = same_video_NN & ~torch.eye(len(videos_N), dtype=torch.bool, device=videos_N.device)
    return logits_NN.masked_fill(other_step_NN, -torch.inf)


def chance(videos_N: Tensor) -> float:
    """What `contrastive` is for a model that knows nothing: the mean log of the number of candidates."""
    candidates_N = (videos_N[:, None] != videos_N[None, :]).sum(1) + 1
    return float(candidates_N.float().log().mean())
