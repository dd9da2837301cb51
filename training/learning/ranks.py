"""The processes that train together, as torchrun starts them; in a single process all this has no effect.

A loss over the full combination needs the vectors of all ranks. Each rank computes the same loss from all of them and
returns the gradient of its own rows times the number of ranks; DistributedDataParallel takes the mean over ranks, which
is the gradient of that single loss, for encoders and for the loss's own parameters alike.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

T = TypeVar("T")


@dataclass(frozen=True)
class Ranks:
    """The number of this process, and how many there are."""

    rank: int = 0
    size: int = 1

    @property
    def is_first(self) -> bool:
        """Whether this process validates, writes and logs for all."""
        return self.rank == 0

    def gathered(self, rows: Tensor) -> Tensor:
        """The rows of all ranks, one after the other, with gradient; ranks may have different numbers of them."""
        return rows if self.size == 1 else _Gathered.apply(rows, self)  # pyright: ignore[reportReturnType]

    def agreed(self, value: T) -> T:
        """The first rank's `value`, on all ranks."""
        if self.size == 1:
            return value
        values: list[Any] = [value]
        dist.broadcast_object_list(values, src=0)
        return values[0]

    def fewest(self, rows: Tensor) -> int:
        """The smallest number of rows on any rank."""
        if self.size == 1:
            return len(rows)
        count = torch.tensor(len(rows), device=rows.device)
        dist.all_reduce(count, dist.ReduceOp.MIN)
        return int(count)

    def synchronized(self, model: nn.Module, device: torch.device) -> nn.Module:
        """The model with BatchNorms that use the batch of all ranks."""
        if self.size == 1:
            return model
        if device.type == "cuda":
            return nn.SyncBatchNorm.convert_sync_batchnorm(model)
        for name, child in model.named_children():
            if isinstance(child, nn.modules.batchnorm._BatchNorm):
                setattr(model, name, ReducedBatchNorm.like(child))
            else:
                self.synchronized(child, device)
        return model


def world_size() -> int:
    """How many processes torchrun has started; 1 without it."""
    return int(os.environ.get("WORLD_SIZE", "1"))


@contextmanager
def open_ranks(device: torch.device) -> Iterator[Ranks]:
    """The ranks that torchrun's environment names; this process alone without it."""
    size = world_size()
    if size == 1:
        yield Ranks()
        return
    if device.type == "cuda" and device.index is None:
        # Otherwise all ranks of a machine would share its first GPU.
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        yield Ranks(dist.get_rank(), size)
    finally:
        dist.destroy_process_group()


class _Gathered(torch.autograd.Function):
    @staticmethod
    def forward(context: Any, rows: Tensor, ranks: Ranks) -> Tensor:
        counts = [torch.zeros(1, dtype=torch.int64, device=rows.device) for _ in range(ranks.size)]
        dist.all_gather(counts, counts[0].new_tensor([len(rows)]))
        sizes = [int(count) for count in counts]
        # Collectives need equal shapes: shorter ranks are padded, and cut again.
        padded = rows.new_zeros((max(sizes), *rows.shape[1:]))
        padded[: len(rows)] = rows
        parts = [torch.empty_like(padded) for _ in sizes]
        dist.all_gather(parts, padded)
        context.begin = sum(sizes[: ranks.rank])
        context.count = len(rows)
        context.size = ranks.size
        return torch.cat([part[:size] for part, size in zip(parts, sizes, strict=True)])

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        own = gradients[0][context.begin : context.begin + context.count]
        return own * context.size, None


class _Summed(torch.autograd.Function):
    @staticmethod
    def forward(context: Any, part: Tensor) -> Tensor:
        del context
        total = part.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> Tensor:
        del context
        total = gradients[0].clone()
        dist.all_reduce(total)
        return total


class ReducedBatchNorm(nn.modules.batchnorm._BatchNorm):
    """BatchNorm over the rows of all ranks, for devices that torch's SyncBatchNorm does not support."""

    @classmethod
    def like(cls, norm: nn.modules.batchnorm._BatchNorm) -> "ReducedBatchNorm":
        """The same norm, its parameters and buffers shared."""
        made = cls(norm.num_features, norm.eps, norm.momentum)
        made.weight = norm.weight
        made.bias = norm.bias
        made.running_mean = norm.running_mean
        made.running_var = norm.running_var
        made.num_batches_tracked = norm.num_batches_tracked
        return made

    def _check_input_dim(self, input: Tensor) -> None:  # noqa: A002  (torch's name)
        del input

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002
        """Normalized by the statistics of all ranks in training, by the running ones in evaluation."""
        if not self.training:
            return super().forward(input)
        axes = [0, *range(2, input.ndim)]
        shape = [1, -1] + [1] * (input.ndim - 2)
        rows = input.numel() // self.num_features
        count = _Summed.apply(torch.tensor([rows], dtype=torch.float32, device=input.device))
        mean = _Summed.apply(input.float().sum(axes)) / count
        centred = input.float() - mean.view(shape)
        variance = _Summed.apply(centred.square().sum(axes)) / count
        self._remember(mean.detach(), variance.detach() * count / (count - 1))
        scale = self.weight * torch.rsqrt(variance + self.eps)
        return (centred * scale.view(shape) + self.bias.view(shape)).to(input.dtype)

    @torch.no_grad()
    def _remember(self, mean: Tensor, variance: Tensor) -> None:
        assert self.running_mean is not None and self.running_var is not None
        momentum = 0.0 if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean, momentum)
        self.running_var.lerp_(variance, momentum)
        if self.num_batches_tracked is not None:
            self.num_batches_tracked += 1
