"""`python -m benchmarks.gpu [--small]`: whether training works on this machine's GPU, in at most 8 minutes.

It (`make gpu`) goes through the device that is chosen, steps in float32, in bfloat16 and compiled, their time and
memory, training on several ranks, exact resumption after kill -9, and an exported model in a process that knows nothing
of this repository. A line each, passed or failed with the reason; ends with 1 if one failed. `--small` does the same
with a tiny network on the CPU.
"""

import argparse
import json
import math
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import torch
from mlflow.models import Model as MlflowModel

from benchmarks.step import first_batch
from schemas.shard import read_version
from tests.support import avc_fixtures as shards
from training.learning.ranks import Ranks
from training.learning.state import BEST, LAST
from training.loop import TrainConfig, Trainer, train
from training.models import load_model
from training.models.contrastive import Config
from training.networks.checkpoint import read_checkpoint
from training.networks.precision import Precision, has_fast_bf16, pick_device
from training.reading.dataset import Dataset, open_dataset
from training.reading.sampling import Sampling
from training.tracking.registry import DATA, examples, write_program

REPOSITORY = Path(__file__).resolve().parents[1]
LONGEST_S = 480.0  # of all of it
WARM_UP = 3  # steps that are not timed
SHORT = 12  # steps of the trainings that are compared
NEAR = {"cpu": 1e-4, "cuda": 5e-3}  # losses of one process and of several: a GPU's convolutions round to TF32
LIKE = 0.05  # by which share the first loss in bfloat16 may differ from that in float32
LOADED = """
import sys, torch
program = torch.export.load(sys.argv[1]).module()
given, expected = torch.load(sys.argv[2], weights_only=True)
found = program(*given)
assert not {"training", "schemas", "flows", "tasks", "mlflow"} & sys.modules.keys()
torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-3)
"""


class CheckError(Exception):
    """What a check has found wrong."""


@dataclass(frozen=True)
class Bench:
    """Where it is tried, on what, and until when."""

    root: Path
    folder: Path
    is_small: bool
    ends: float = math.inf

    @cached_property
    def dataset(self) -> Dataset:
        """The version under the root."""
        return open_dataset(self.root, read_version(self.root))

    @property
    def device(self) -> str:
        """The GPU where there must be one."""
        return "cpu" if self.is_small else "cuda"

    @property
    def model(self) -> Config:
        """The default one; of the small form a tiny one."""
        return shards.TINY if self.is_small else Config()

    def config(self, **changes: object) -> TrainConfig:
        """A training on that device."""
        sampling = Sampling(8, 2) if self.is_small else Sampling()
        usual = TrainConfig(
            steps=SHORT, seconds=None, sampling=sampling, num_validations=2, device=self.device
        )
        return replace(usual, **{"precision": "float32", **changes})  # pyright: ignore[reportArgumentType]

    def exact(self) -> TrainConfig:
        """A training that is the same each time, to the bit."""
        threads = 1 if self.is_small else None
        return self.config(is_deterministic=True, checkpoint_s=0.0, num_threads=threads)

    def process(self, *command: str) -> subprocess.Popen:
        """A process of this file, which prints the loss of each step."""
        return subprocess.Popen(  # noqa: S603  (our own command)
            [sys.executable, *command],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=REPOSITORY,
        )

    def output_of(self, *command: str) -> str:
        """What it prints, in the time that is left. Raises CheckError where it fails."""
        process = self.process(*command)
        try:
            told, complaint = process.communicate(timeout=max(1.0, self.ends - time.monotonic()))
        except subprocess.TimeoutExpired:
            raise CheckError(f"not done within the {LONGEST_S:.0f} s of this script") from None
        finally:
            process.kill()
            process.wait()
        if process.returncode:
            raise CheckError(last_line(complaint) or f"ended with {process.returncode}")
        return told


def last_line(text: str) -> str:
    """What a process said last."""
    return next((line for line in reversed(text.splitlines()) if line.strip()), "")


def device_chosen(bench: Bench) -> str:
    """The device that a training takes by itself."""
    built = f"torch {torch.__version__}, built for " + (
        f"CUDA {torch.version.cuda}" if torch.version.cuda else "CPUs"
    )
    if bench.is_small:
        return f"cpu, as --small asks; {built}"
    if pick_device().type != "cuda":
        raise CheckError(
            f"no GPU that torch can use ({built}): see `nvidia-smi`, and install torch for its driver"
        )
    names = [torch.cuda.get_device_properties(n) for n in range(torch.cuda.device_count())]
    return f"{len(names)} x {names[0].name}, {names[0].total_memory / 1e9:.0f} GB; {built}"


def timed(bench: Bench, precision: Precision, *, is_compiled: bool) -> tuple[float, str]:
    """The first loss; and what a step on that batch takes, in ms and in memory. It must learn the batch."""
    config = bench.config(precision=precision, is_compiled=is_compiled)
    torch.manual_seed(0)
    trainer = Trainer(bench.dataset, "contrastive", bench.model, config, Ranks())
    batch = first_batch(trainer)
    is_cuda = trainer.device.type == "cuda"
    if is_cuda:
        torch.cuda.reset_peak_memory_stats()
    seconds = []
    losses = []
    for _ in range(SHORT + WARM_UP):
        begin = time.perf_counter()
        trainer.optimizer.zero_grad(set_to_none=True)
        loss, _chance = trainer.gradients.backward(batch, 1, (0,))
        trainer.optimizer.step()
        losses.append(float(loss))  # waits for the device
        seconds.append(time.perf_counter() - begin)
    first, *_others, last = losses
    if not last < first:  # nan is not, either
        raise CheckError(
            f"the loss was {first:.3f}, and {last:.3f} after {len(losses)} steps on the same batch"
        )
    memory = f", {torch.cuda.max_memory_allocated() / 1e9:.1f} GB at most" if is_cuda else ""
    step_ms = 1000 * statistics.median(seconds[WARM_UP:])
    return (
        first,
        f"{step_ms:.1f} ms a step (the first {seconds[0]:.1f} s){memory}; loss {first:.3f} to {last:.3f}",
    )


def float32_steps(bench: Bench) -> str:
    """Steps as every GPU can do them."""
    return timed(bench, "float32", is_compiled=False)[1]


def bfloat16_steps(bench: Bench) -> str:
    """Steps in half the bytes, which begin as in float32."""
    loss, told = timed(bench, "bfloat16", is_compiled=False)
    return require_like(bench, loss, told) + (
        "" if has_fast_bf16(pick_device(bench.device)) else "; emulated here"
    )


def compiled_steps(bench: Bench) -> str:
    """Steps of a compiled network, which begin as without."""
    loss, told = timed(bench, "float32" if bench.is_small else "bfloat16", is_compiled=True)
    return require_like(bench, loss, told)


def require_like(bench: Bench, loss: float, told: str) -> str:
    """Raises CheckError for a first loss unlike that in float32."""
    usual = timed(bench, "float32", is_compiled=False)[0]
    if abs(loss - usual) > LIKE * abs(usual):
        raise CheckError(f"the first loss is {loss:.3f}, and in float32 {usual:.3f}")
    return told


def several_ranks(bench: Bench) -> str:
    """As many processes as there are GPUs, by torchrun, have the losses of one; two on the CPU without two GPUs."""
    gpus = torch.cuda.device_count() if bench.device == "cuda" else 0
    where = "cuda" if gpus > 1 else "cpu"
    size = max(2, gpus)
    command = ("--trained", str(bench.root), where)
    config = ranked(bench, where)
    steps = train(bench.dataset, "contrastive", shards.TINY, config, bench.folder / "alone")
    alone = {metrics["step"]: metrics["loss"] for metrics in steps}
    launcher = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(size))
    together = losses_in(bench.output_of(*launcher, "-m", "benchmarks.gpu", *command))
    if len(together) != size * len(alone):
        raise CheckError(f"{len(together)} steps of {size} processes, and {len(alone)} of one")
    apart = max(abs(loss - alone[step]) for step, loss in together)
    if apart > NEAR[where]:
        raise CheckError(f"losses differ by {apart:.1e} from those of one process")
    note = "" if gpus > 1 or bench.is_small else "; a second GPU is not there, so nccl was not tried"
    how = "nccl" if where == "cuda" else "gloo on the CPU"
    return f"{size} processes ({how}), losses within {apart:.0e} of those of one{note}"


def ranked(bench: Bench, device: str) -> TrainConfig:
    """The training that one process and several do alike: a tiny one, that rounding moves little."""
    return replace(replace(bench, is_small=True).exact(), steps=4, learning_rate=3e-4, device=device)


def losses_in(text: str) -> list[tuple[int, float]]:
    """The steps and losses that processes of this file have printed."""
    return [json.loads(line) for line in text.splitlines() if line.startswith("[")]


def resumed(bench: Bench) -> str:
    """A training that is killed by SIGKILL in its middle ends with the weights of an undisturbed one, to the bit."""
    whole = bench.folder / "whole"
    killed = bench.folder / "killed"
    config = bench.exact()
    for _ in train(bench.dataset, "contrastive", bench.model, config, whole):
        pass
    form = "small" if bench.is_small else "large"
    with bench.process("-m", "benchmarks.gpu", "--killed", str(bench.root), str(killed), form) as one:
        assert one.stdout is not None
        told = [one.stdout.readline() for _ in range(SHORT // 2)]
        one.kill()
        if not told[-1]:
            raise CheckError(f"ended before it was killed: {last_line(one.communicate()[1])}")
    again = list(train(bench.dataset, "contrastive", bench.model, config, killed))
    if again and again[0]["step"] == 1:
        raise CheckError("it began anew")
    one_state, other = (read_checkpoint(folder / LAST)["state"] for folder in (whole, killed))
    apart = max(float((one_state[name].float() - other[name].float()).abs().max()) for name in one_state)
    if apart:
        raise CheckError(f"weights differ by up to {apart:.1e} from those of a run that was not killed")
    return f"killed in step {SHORT // 2} or behind it: the same weights, to the bit"


def exported(bench: Bench) -> str:
    """The trained model as a program, which another process loads with torch alone, and which says the same."""
    model = load_model(bench.folder / "whole" / BEST).cpu()
    files = bench.folder / "program"
    write_program(files, model, MlflowModel())
    path = files / DATA / "model.pt2"
    frames, audio = examples(model)
    given = (torch.randint_like(frames, 256), torch.rand_like(audio) - 0.5)
    with torch.inference_mode():
        expected = torch.export.load(path).module()(*given)
    torch.save((given, expected), bench.folder / "expected.pt")
    bench.output_of("-I", "-c", LOADED, str(path), str(bench.folder / "expected.pt"))
    return f"{path.stat().st_size / 1e6:.1f} MB, the same scores in a process without this repository"


CHECKS: dict[str, Callable[[Bench], str]] = {
    "device": device_chosen,
    "float32": float32_steps,
    "bfloat16": bfloat16_steps,
    "compiled": compiled_steps,
    "several ranks": several_ranks,
    "kill -9, and on": resumed,
    "export": exported,
}


def checked(bench: Bench) -> Iterator[bool]:
    """Prints a line for each check; yields whether it passed. Without the device the others are not tried."""
    for name, check in CHECKS.items():
        begin = time.monotonic()
        try:
            if begin > bench.ends:
                raise CheckError(f"not tried: the {LONGEST_S:.0f} s of this script are over")
            told = f"passed | {check(bench)}"
        except (CheckError, RuntimeError, ValueError, OSError, AssertionError) as error:
            told = f"FAILED | {type(error).__name__}: {last_line(str(error))}"
        print(f"| {name} | {told} | {time.monotonic() - begin:.0f} s |", flush=True)
        yield told.startswith("passed")
        if name == "device" and told.startswith("FAILED"):
            return


def print_losses(bench: Bench, config: TrainConfig, folder: Path) -> None:
    """Trains, and prints a line of JSON for each step, in one write: ranks share a pipe."""
    for metrics in train(bench.dataset, "contrastive", bench.model, config, folder):
        sys.stdout.write(json.dumps([metrics["step"], metrics["loss"]]) + "\n")
        sys.stdout.flush()


def main() -> int:
    """Prints the conditions and the table; 1 where a line failed."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--trained", nargs=2, metavar=("ROOT", "DEVICE"), help=argparse.SUPPRESS)
    parser.add_argument("--killed", nargs=3, metavar=("ROOT", "FOLDER", "FORM"), help=argparse.SUPPRESS)
    asked = parser.parse_args()
    os.environ.setdefault(
        "CUBLAS_WORKSPACE_CONFIG", ":4096:8"
    )  # without it CUDA's products differ between runs
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if root := (asked.trained or asked.killed or [None])[0]:
            bench = Bench(Path(root), folder, not asked.killed or asked.killed[2] == "small")
            config = ranked(bench, asked.trained[1]) if asked.trained else bench.exact()
            print_losses(bench, config, Path(asked.killed[1]) if asked.killed else folder)
            return 0
        videos = {"train": 16 if asked.small else 160, "val": 8, "eval": 2}
        shards.write_dataset(folder / "root", shards.corresponding(videos))
        print(f"{platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}\n")
        print("| check | | | took |\n|---|---|---|---:|")
        bench = Bench(folder / "root", folder, asked.small, time.monotonic() + LONGEST_S)
        return 0 if all(list(checked(bench))) else 1


if __name__ == "__main__":
    sys.exit(main())
