"""`python -m benchmarks.step [--steps 60] [--shipped]`: what a training step costs beyond its network.

The bare step is forward, loss, backward and optimizer on one batch that stands in memory, augmented as in training.
The whole step also waits for its batch, clips, averages, logs to MLflow as `mcgurk train` does, and looks at its clock.
Validations and checkpoints are left out of both. The two take turns, step by step, so that neighbours disturb both.

`--shipped` trains as users do, on one root of the preset `tiny`: behind a build in the same process (`mcgurk demo`),
by `mcgurk train` (alone), as the deployment of `mcgurk serve`, and alone again, because neighbours come and go.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch

from tests.support import avc_fixtures as shards
from training.learning.ranks import Ranks
from training.loop import TrainConfig, Trainer
from training.reading.decoding import Batch, load_batch
from training.reading.sampling import Epoch
from training.tracking import runs

MOST_SHARE = 0.05
WARM_UP = 5


def main() -> None:
    """Prints the conditions and the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--shipped", action="store_true")
    options = parser.parse_args()
    num_steps = options.steps
    if options.shipped:
        with tempfile.TemporaryDirectory() as folder:
            print_shipped(Path(folder) / "root", num_steps)
        return
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
    clips = trainer.train_clips
    sampling = trainer.config.sampling
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
    spec = runs.RunSpec("step", {}, runs.VersionSource("0" * 64, ""), {})
    bare_s = []
    whole_s = []
    with runs.experiment_run(runs.Store(folder), spec) as run:
        running = trainer.run(folder / "run")
        for _ in range(num_steps + WARM_UP):
            begin = time.perf_counter()
            run.log_step(next(running))
            middle = time.perf_counter()
            bare_step(trainer, batch)
            whole_s.append(middle - begin)
            bare_s.append(time.perf_counter() - middle)
    return statistics.median(bare_s[WARM_UP:]), statistics.median(whole_s[WARM_UP:])


MCGURK = Path(sys.executable).parent / "mcgurk"
BUILD_AND_TRAIN = """
import sys
from pathlib import Path
from flows.services.servers import prefect_api
from flows.builds.options import BuildOptions
root, steps = sys.argv[1], int(sys.argv[2])
with prefect_api(Path(root) / "state"):
    from flows.build_dataset import build_dataset
    from flows.run_experiment import run_experiment
    from flows.experiments.experiment import ExperimentOptions
    build_dataset(BuildOptions(root))
    run_experiment(ExperimentOptions(root, steps=steps, seed=int(sys.argv[3])))
"""


def print_shipped(root: Path, num_steps: int) -> None:
    """Prints steps a second of each way to train, and against the mean of those alone."""
    rates = {}
    _run([str(MCGURK), "build", "--root", str(root), "--preset", "tiny", "--source", "studio"])
    for name, train in (
        ("alone", trained_alone),
        ("as shipped: behind a build in one process (demo)", trained_behind_a_build),
        ("as shipped: deployment", trained_by_deployment),
        ("alone, again", trained_alone),
    ):
        train(root, num_steps, seed=len(rates))
        rates[name] = steps_per_s(root)
    alone = statistics.mean(rate for name, rate in rates.items() if name.startswith("alone"))
    print(
        f"{platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}; contrastive on the preset tiny, "
        f"the fastest tenth of {num_steps} steps\n\n| training | steps/s | against alone |\n|---|---:|---:|"
    )
    for name, rate in rates.items():
        print(f"| {name} | {rate:.2f} | {rate / alone:.2f} |")


def steps_per_s(root: Path) -> float:
    """Of the newest training under a root, validations left out: of the fastest tenth, which neighbours let alone."""
    path = max((root / "reports").glob("*/history.jsonl"), key=lambda path: path.stat().st_mtime)
    told = [json.loads(line) for line in path.read_text().splitlines()]
    spans = [
        after["seconds"] - before["seconds"]
        for before, after in zip(told, told[1:], strict=False)
        if "val_auc" not in after
    ]
    return 1 / statistics.quantiles(spans[WARM_UP:], n=10)[0]


def trained_behind_a_build(root: Path, num_steps: int, seed: int) -> None:
    """As `mcgurk demo` does it: the build has its cluster, though nothing is due, and then trains."""
    _run([sys.executable, "-c", BUILD_AND_TRAIN, str(root), str(num_steps), str(seed)])


def trained_alone(root: Path, num_steps: int, seed: int) -> None:
    """By `mcgurk train`."""
    _run([str(MCGURK), "train", "--root", str(root), "--set", f"steps={num_steps}", f"seed={seed}"])


def trained_by_deployment(root: Path, num_steps: int, seed: int) -> None:
    """By a run of the deployment, which the worker of `mcgurk serve` takes."""
    from flows.commands.serve import Doors, serving
    from flows.services.servers import prefect_cli

    options = json.dumps({"root": str(root), "steps": num_steps, "seed": seed})
    with serving(root, root / "state", Doors()):
        run = [
            "deployment",
            "run",
            "run-experiment/on-new-version",
            "--param",
            f"options={options}",
            "--watch",
        ]
        print(prefect_cli(run, root)[-200:], file=sys.stderr)


def _run(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{command[:3]}: {done.stderr[-1500:]}")


if __name__ == "__main__":
    main()
