"""What networks cost: counted while they run, and layer by layer by hand."""

from collections.abc import Callable
from typing import Any

from torch.utils.flop_counter import FlopCounterMode


def multiply_adds(network: Callable, *inputs: Any) -> tuple[Any, int]:
    """What a network gives, and how many multiplications with an addition it took."""
    with FlopCounterMode(display=False) as counter:
        out = network(*inputs)
    return out, counter.get_total_flops() // 2


def convolutions(first_kernel: int, *channels: int) -> list[int]:
    """The weights of each convolution of a `vgg`: the first has a kernel of its own, the others 3x3."""
    kernels = [first_kernel**2] + [9] * (len(channels) - 2)
    pairs = zip(channels[:-1], channels[1:], kernels, strict=True)
    return [before * after * kernel for before, after, kernel in pairs]


def at(places: list[int], weights: list[int]) -> int:
    """Multiply-adds of layers with so many weights, each at so many places."""
    return sum(p * w for p, w in zip(places, weights, strict=True))
