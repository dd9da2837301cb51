"""`python -m benchmarks.compiled [--steps 60]`: gradients of a batch with encoders by torch.compile and without.

The same batch of the default model stands in memory; the two take turns, step by step, in each precision. Needs a C++
compiler on a CPU. `first` is what the first step takes, with compilation.
"""

import argparse
import os
import platform
import statistics
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from benchmarks.step import bare_step, first_batch
from tests.support import avc_fixtures as shards
from training.learning.ranks import Ranks
from training.loop import TrainConfig, Trainer
from training.networks.precision import Precision
from training.reading.dataset import Dataset
from training.reading.decoding import Batch

PRECISIONS: tuple[Precision, ...] = ("float32", "bfloat16")


@dataclass(frozen=True)
class Side:
    """One trainer, its batch and what each step took."""

    trainer: Trainer
    batch: Batch
    seconds: list[float]

    def step(self) -> None:
        """One step without clipping and averages."""
        begin = time.perf_counter()
        bare_step(self.trainer, self.batch)
        self.seconds.append(time.perf_counter() - begin)


def main() -> None:
    """Prints the conditions and the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--steps", type=int, default=60)
    num_steps = parser.parse_args().steps
    print(
        f"{platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, "
        f"{torch.get_num_threads()} threads; contrastive, medians of {num_steps} steps\n\n"
        "| precision | eager, ms | compiled, ms | times as fast | first, s |\n|---|---:|---:|---:|---:|"
    )
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryDirectory() as cache:
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = cache  # what was compiled before would hide what that takes
        dataset = shards.written(Path(folder), shards.corresponding({"train": 160, "val": 8, "eval": 2}))
        for precision in PRECISIONS:
            eager, compiled = (side(dataset, precision, is_compiled) for is_compiled in (False, True))
            for _ in range(num_steps + 1):
                eager.step()
                compiled.step()
            before, after = (1000 * statistics.median(one.seconds[1:]) for one in (eager, compiled))
            print(
                f"| {precision} | {before:.0f} | {after:.0f} | {before / after:.2f} | {compiled.seconds[0]:.0f} |"
            )


def side(dataset: Dataset, precision: Precision, is_compiled: bool) -> Side:
    """A trainer of the default model, with its first batch."""
    config = replace(TrainConfig(steps=1, seconds=None), precision=precision, is_compiled=is_compiled)
    trainer = Trainer(dataset, "contrastive", None, config, Ranks())
    return Side(trainer, first_batch(trainer), [])


if __name__ == "__main__":
    main()
