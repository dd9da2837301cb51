"""bfloat16 only where the hardware pays for it."""

import pytest
import torch
from torch import nn

from training.networks import precision


def test_bf16_follows_the_cpus_flags(tmp_path, monkeypatch):
    flags = tmp_path / "cpuinfo"
    monkeypatch.setattr(precision, "CPU_FLAGS", flags)
    cpu = torch.device("cpu")

    assert not precision.has_fast_bf16(cpu)  # no such file: not Linux
    flags.write_text("model name\t: old\nflags\t\t: fpu avx2 avx512f\n")
    assert not precision.has_fast_bf16(cpu)
    flags.write_text("model name\t: new\nflags\t\t: fpu avx2 avx512_bf16\n")
    assert precision.has_fast_bf16(cpu)


def test_autocast_is_bfloat16_or_nothing():
    product = torch.ones(2, 2)

    with precision.autocast(torch.device("cpu"), True):
        assert (product @ product).dtype == torch.bfloat16
    with precision.autocast(torch.device("cpu"), False):
        assert (product @ product).dtype == torch.float32


def test_a_precision_that_is_asked_for_goes_before_the_hardware(tmp_path, monkeypatch):
    flags = tmp_path / "cpuinfo"
    monkeypatch.setattr(precision, "CPU_FLAGS", flags)
    cpu = torch.device("cpu")

    for is_native, line in ((True, "flags : avx512_bf16\n"), (False, "flags : avx2\n")):
        flags.write_text(line)
        assert precision.computes_in_bf16("bfloat16", cpu)
        assert not precision.computes_in_bf16("float32", cpu)
        assert precision.computes_in_bf16("auto", cpu) == is_native


def test_convolutions_of_pictures_and_of_films_are_laid_out_by_channels():
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Sequential(nn.Conv3d(3, 8, 3)), nn.Conv1d(3, 8, 3))

    precision.channels_last(model)

    flat, deep, _ = (module.weight for module in model.modules() if hasattr(module, "weight"))
    assert flat.is_contiguous(memory_format=torch.channels_last)
    assert deep.is_contiguous(memory_format=torch.channels_last_3d)


def test_a_cpu_without_a_compiler_is_told_before_the_first_step(monkeypatch):
    monkeypatch.setenv("CXX", "/nowhere/g++")

    with pytest.raises(
        ValueError, match="there is no '/nowhere/g\\+\\+': install one .* or leave is_compiled"
    ):
        precision.require_compiler(torch.device("cpu"))
    precision.require_compiler(torch.device("cuda"))  # which asks for another
