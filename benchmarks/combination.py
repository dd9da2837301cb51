"""`python -m benchmarks.combination [--root DIR] [--scenes 2000] [--minutes 20] [--auc 0.8]`: all pairs against few.

Time to a validation AUC with the same trunks, batches and schedule on generated scenes, for `l3` and `ave`: the loss of
all N x N pairs of a batch against the usual way, in which every picture stands in one pair, half of them matching. Then
the cost of a scored pair of N = 16 steps: both sides encoded for each pair, in float32, or once for all pairs.
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import MethodType

import torch
from torch import Tensor

from benchmarks.models import scenes_built, scenes_parser
from schemas.shard import read_version
from training.interface import AvcModel
from training.learning.ranks import Ranks
from training.loop import TrainConfig, Trainer
from training.models import configure, load
from training.networks import losses
from training.networks.precision import autocast, has_fast_bf16
from training.networks.seed_model import SeedModel
from training.reading.dataset import Dataset, open_dataset
from training.reading.negatives import Steps

MODELS = ("ave", "l3")
NUM_STEPS = 16  # of a clip, of which all pairs are scored
REPEATS = 3
VALIDATIONS = 60
GOAL = 4.0


def main() -> None:
    """Prints the conditions and both tables."""
    parser = scenes_parser(__doc__)
    parser.add_argument("--minutes", type=float, default=20.0, help="the most that one training may take")
    parser.add_argument("--auc", type=float, default=0.8)
    options = parser.parse_args()
    with scenes_built(options, "small") as root:
        print(
            f"to AUC {options.auc:g}\n\n"
            f"| model | all pairs, s | one by one, s | ratio (goal {GOAL:g}) |\n|---|---:|---:|---:|"
        )
        for name in MODELS:
            compare(open_dataset(root, read_version(root)), name, options)
    print_costs()


def compare(dataset: Dataset, name: str, options: argparse.Namespace) -> None:
    """Prints one model's line."""
    took = [seconds_to(dataset, name, options, is_naive=naive) for naive in (False, True)]
    told = [f"{one:.0f}" if one < torch.inf else f"> {60 * options.minutes:g}" for one in took]
    bound = ">= " if took[1] == torch.inf else ""
    ratio = min(took[1], 60 * options.minutes) / took[0]
    print(f"| {name} | {told[0]} | {told[1]} | {bound}{ratio:.1f} |", flush=True)


def seconds_to(dataset: Dataset, name: str, options: argparse.Namespace, *, is_naive: bool) -> float:
    """Seconds of training until the validation AUC is reached; infinite where it was not in time."""
    config = TrainConfig(seconds=60 * options.minutes, num_validations=VALIDATIONS, validation_steps=2)
    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(dataset, name, None, config, Ranks())
        if is_naive:
            trainer.model.loss = MethodType(naive_loss, trainer.model)
        for metrics in trainer.run(Path(folder)):
            if metrics.get("val_auc", 0.0) >= options.auc:
                return metrics["seconds"]
    return torch.inf


def naive_loss(model: SeedModel, V: Tensor, A: Tensor, steps: Steps) -> Tensor:
    """Every picture in one pair: with its own sound, or with that of a random other clip; half of either."""
    if not model.training:
        return type(model).loss(model, V, A, steps)
    model.centre(V, A)
    logits_NN = model.similarity(V, A)
    negatives_NN = steps.negatives
    is_own_N = torch.rand(len(V), device=V.device) < 0.5
    columns_N = torch.multinomial(negatives_NN.float(), 1)[:, 0]
    rows_N = torch.arange(len(V), device=V.device)
    own = logits_NN.diagonal()[is_own_N]
    other = logits_NN[rows_N, columns_N][~is_own_N]
    return losses.two_way(own, other)


def print_costs() -> None:
    """What a scored pair costs: N inputs a side for N pairs, in float32, or for N x N, as fast as the CPU can."""
    device = torch.device("cpu")
    is_bf16 = has_fast_bf16(device)
    print(f"\n| model | a pair, encoded for itself, ms | encoded once (bf16: {is_bf16}), ms | ratio |")
    print("|---|---:|---:|---:|")
    for name in MODELS:
        naive, once = costs(load(name).build(configure(name)).eval(), device, is_bf16=is_bf16)
        print(f"| {name} | {naive:.2f} | {once:.3f} | {naive / once:.1f} |")


@torch.inference_mode()
def costs(model: AvcModel, device: torch.device, *, is_bf16: bool) -> tuple[float, float]:
    """Milliseconds a pair, both ways."""
    images = torch.rand(NUM_STEPS, 3, 112, 112)
    sounds = torch.randn(NUM_STEPS, 64, 100)
    naive = per_pair(lambda: score(model, images, sounds), NUM_STEPS)
    fast = model.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    rows = images.contiguous(memory_format=torch.channels_last)
    with autocast(device, is_bf16):
        return naive, per_pair(lambda: score(fast, rows, sounds), NUM_STEPS**2)


def score(model: AvcModel, images: Tensor, sounds: Tensor) -> Tensor:
    """All pairs of the inputs."""
    return model.score(model.encode_image(images)["vector"], model.encode_audio(sounds)["vector"])


def per_pair(call: Callable, num_pairs: int) -> float:
    """Milliseconds a pair, the best of some calls."""
    took = []
    for _ in range(REPEATS + 1):
        begin = time.perf_counter()
        call()
        took.append(time.perf_counter() - begin)
    return 1000 * min(took[1:]) / num_pairs


if __name__ == "__main__":
    main()
