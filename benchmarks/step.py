"""`python -m benchmarks.step [--steps 60]`: what a training step costs beyond its network.

The bare step is forward, loss, backward and optimizer on one batch that stands in memory, augmented as in training.
The whole step also waits for its batch, clips, averages, logs to MLflow as `mcgurk train` does, and looks at its clock.
Validations and checkpoints are left out of both. The two take turns, step by step, so that neighbours disturb both.
"""

import argparse
import os
import platform
import statistics
import tempfile
import time
from pathlib import Path

import torch

from tests import avc_fixtures as shards
from training import tracking
from training.decoding import Batch, load_batch
from training.loop import TrainConfig, Trainer
from training.ranks import Ranks
from training.sampling import Epoch

MOST_SHARE = 0.05
WARM_UP = 5


def main() -> None:
    """Prints the conditions and the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--steps", type=int, default=60)
    num_steps = parser.parse_args().steps
    with tempfile.TemporaryDirectory() as folder:
        bare_s, whole_s = measure(Path(folder), num_steps)
    sampling = TrainConfig().sampling
    batch = f"{sampling.clips_per_batch} clips x {sampling.steps_per_clip} steps"
    more = whole_s / bare_s - 1
    print(
        f"{platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, {torch.get_num_threads()} "
        f"threads; contrastive, {batch}, medians of {num_steps}\n\n| step | ms |\n|---|---:|\n"
        f"| bare network | {1000 * bare_s:.1f} |\n| whole | {1000 * whole_s:.1f} |\n"
        f"| more (goal {100 * MOST_SHARE:g} %) | {100 * more:.1f} % |"
    )


def first_batch(trainer: Trainer) -> Batch:
    """The first batch of the first epoch, on the trainer's device."""
    clips, sampling = trainer.train_clips, trainer.config.sampling
    return load_batch(clips, Epoch(clips, sampling, 0, 0).plan(0), sampling.view).to(trainer.device)


def bare_step(trainer: Trainer, batch: Batch) -> None:
    """Forward, loss, backward and optimizer, until the device has done them."""
    trainer.optimizer.zero_grad(set_to_none=True)
    trainer.gradients.backward(batch, 1, (0,))
    trainer.optimizer.step()
    if trainer.device.type == "cuda":  # a whole step waits as well, for what it tells
        torch.cuda.synchronize()


def measure(folder: Path, num_steps: int) -> tuple[float, float]:
    """Median seconds of the bare and of the whole step."""
    dataset = shards.written(folder / "root", shards.corresponding({"train": 160, "val": 8, "eval": 2}))
    config = TrainConfig(steps=10 * (num_steps + WARM_UP), seconds=None, num_validations=1, checkpoint_s=1e9)
    trainer = Trainer(dataset, "contrastive", None, config, Ranks())
    batch = first_batch(trainer)
    spec = tracking.RunSpec("step", {}, tracking.VersionSource("0" * 64, ""), {})
    bare_s, whole_s = [], []
    with tracking.experiment_run(tracking.Store(folder), spec) as run:
        running = trainer.run(folder / "run")
        for _ in range(num_steps + WARM_UP):
            begin = time.perf_counter()
            run.log_step(next(running))
            middle = time.perf_counter()
            bare_step(trainer, batch)
            whole_s.append(middle - begin)
            bare_s.append(time.perf_counter() - middle)
    return statistics.median(bare_s[WARM_UP:]), statistics.median(whole_s[WARM_UP:])


if __name__ == "__main__":
    main()
