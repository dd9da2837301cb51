"""What turns gradients into weights: parameter groups, schedule and averaged weights."""

import copy
import math

import torch
from torch import nn

from training.interface import AvcModel


def parameter_groups(model: nn.Module, weight_decay: float) -> list[dict]:
    """Weight decay for weights only: decayed norms, biases and temperatures drift to useless values."""
    weights = [p for p in model.parameters() if p.requires_grad and p.ndim > 1]
    others = [p for p in model.parameters() if p.requires_grad and p.ndim <= 1]
    return [{"params": weights, "weight_decay": weight_decay}, {"params": others, "weight_decay": 0.0}]


def make_optimizer(kind: str, model: nn.Module, rate: float, weight_decay: float) -> torch.optim.Optimizer:
    """`adamw`, or `sgd` with momentum 0.9 as the papers of 2018 have it."""
    groups = parameter_groups(model, weight_decay)
    if kind == "sgd":
        return torch.optim.SGD(groups, lr=rate, momentum=0.9)
    return torch.optim.AdamW(groups, lr=rate)


def learning_rate(progress: float, warmup_share: float) -> float:
    """The share of the peak rate: a linear warm-up, then half a cosine to zero."""
    if progress < warmup_share:
        # Never zero: the first step of a long warm-up should move something.
        return max(progress / warmup_share, 0.01)
    return 0.5 * (1 + math.cos(math.pi * (progress - warmup_share) / (1 - warmup_share)))


class Average:
    """The exponential moving average of a model: weights and BatchNorm statistics alike."""

    def __init__(self, model: AvcModel, decay: float) -> None:
        self.model = copy.deepcopy(model).eval().requires_grad_(False)
        self._decay = decay
        self.updates = 0

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """Moves the average towards `model`; quickly at first, when there is little to average."""
        self.updates += 1
        decay = min(self._decay, (1 + self.updates) / (10 + self.updates))
        own = self.model.state_dict()
        for name, tensor in model.state_dict().items():
            if name == "calibration":  # fitted for the average, not learnt
                continue
            if tensor.is_floating_point():
                own[name].lerp_(tensor, 1 - decay)
            else:
                own[name].copy_(tensor)
