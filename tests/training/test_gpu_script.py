"""`make gpu`: its small form goes through all of it on the CPU; without a GPU its large form says so."""

import os
import subprocess
import sys
from pathlib import Path
from shutil import which

import pytest

from benchmarks.gpu import CHECKS

REPOSITORY = Path(__file__).resolve().parents[2]


def run(*options: str, **environment: str) -> tuple[int, dict[str, str]]:
    """The exit code of the script, and what it says of each check."""
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.gpu", *options],
        cwd=REPOSITORY,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=480,
    )
    lines = [line.strip("| ").split(" | ", 1) for line in done.stdout.splitlines() if " s |" in line]
    return done.returncode, {name: told for name, told in lines}


@pytest.mark.slow
def test_all_that_it_tries_works_in_small_on_the_cpu():
    code, told = run("--small")

    assert list(told) == list(CHECKS)
    failed = {name: line for name, line in told.items() if not line.startswith("passed")}
    if which("g++"):
        assert (code, failed) == (0, {})
    else:
        assert code == 1 and "needs a C++ compiler" in failed.pop("compiled") and failed == {}


def test_without_a_gpu_it_says_so_and_fails():
    code, told = run(CUDA_VISIBLE_DEVICES="")

    assert code == 1
    assert list(told) == ["device"]
    assert told["device"].startswith("FAILED | CheckError: no GPU that torch can use (torch ")
