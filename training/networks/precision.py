"""The device, and bfloat16 if the hardware is faster with it."""

import os
from pathlib import Path
from shutil import which
from typing import Literal, get_args

import torch
from torch import nn

from schemas.errors import RequestError

CPU_FLAGS = Path("/proc/cpuinfo")
Precision = Literal["auto", "float32", "bfloat16"]  # auto: bfloat16 if the device multiplies it natively
BF16_FLAGS = {"avx512_bf16", "amx_bf16"}  # without them bfloat16 is emulated, and slower than float32


def pick_device(name: str = "auto") -> torch.device:
    """The device called `name`; `auto` is CUDA if available."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(name)


def require_precision(name: str) -> None:
    """Raises RequestError, with the choices, for an unknown name."""
    if name not in get_args(Precision):
        raise RequestError(f"no precision {name!r}; choose from {', '.join(get_args(Precision))}")


def computes_in_bf16(precision: Precision, device: torch.device) -> bool:
    """Whether encoders run in bfloat16 on `device`."""
    return precision == "bfloat16" or precision == "auto" and has_fast_bf16(device)


def has_fast_bf16(device: torch.device) -> bool:
    """Whether `device` multiplies bfloat16 natively."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return device.type == "cpu" and bool(BF16_FLAGS & cpu_flags())


def cpu_flags() -> set[str]:
    """The CPU's feature flags; empty if the system does not list them."""
    if not CPU_FLAGS.is_file():
        return set()
    lines = CPU_FLAGS.read_text().splitlines()
    return set(next((line for line in lines if line.startswith("flags")), "").split())


def require_compiler(device: torch.device) -> None:
    """Raises RequestError if torch.compile would fail at the first step for lack of a C++ compiler."""
    compiler = os.environ.get("CXX", "g++")
    if device.type == "cpu" and not which(compiler):
        raise RequestError(
            f"is_compiled: torch.compile needs a C++ compiler on a CPU, and there is no {compiler!r}: install "
            "one (Debian: apt-get install g++), name it in CXX, or leave is_compiled false"
        )


def autocast(device: torch.device, is_bf16: bool) -> torch.autocast:
    """The context in which encoders run; losses stay outside it, in float32."""
    return torch.autocast(device.type, torch.bfloat16, enabled=is_bf16)


def channels_last(model: nn.Module) -> None:
    """Stores the weights of convolutions with channels last, for which their kernels are fastest."""
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            module.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
        elif isinstance(module, nn.Conv3d):
            module.to(memory_format=torch.channels_last_3d)  # pyright: ignore[reportCallIssue]
