"""A training that was killed goes on as if nothing had happened; several ranks train as one."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from shutil import which

import numpy as np
import pytest
import torch
import training_process
from avc_fixtures import TINY
from training_process import config

from training.learning.augment import Augmentation
from training.learning.ranks import Ranks, open_ranks
from training.learning.state import LAST
from training.learning.step import Encoder, Gradients
from training.loop import train
from training.models import contrastive
from training.networks.checkpoint import read_checkpoint
from training.reading.decoding import load_batch
from training.reading.negatives import Negatives, Steps
from training.reading.sampling import Epoch, Sampling

SCRIPT = Path(training_process.__file__)
REPOSITORY = Path(__file__).resolve().parents[2]
STEPS = 14  # two epochs and a bit: the sampler's place counts


@pytest.fixture(autouse=True)
def _free_algorithms():
    yield
    torch.use_deterministic_algorithms(False)


def command(dataset, folder: Path, *launcher: str, **settings) -> tuple[list[str], dict]:
    """The training as a process, and how to start it."""
    root = dataset.shards._root
    arguments = [sys.executable, *launcher, str(SCRIPT), str(root), str(folder), json.dumps(settings)]
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"}
    return arguments, {"env": environment, "stdout": subprocess.PIPE, "text": True}


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_after_kill_9_at_any_step_the_weights_are_those_of_an_undisturbed_run(dataset, tmp_path, precision):
    settings = {"steps": STEPS, "checkpoint_s": 0.0, "precision": precision}
    for _ in train(dataset, "contrastive", TINY, config(**settings), tmp_path / "whole"):
        pass
    killed_after = int(np.random.default_rng().integers(1, STEPS))
    arguments, how = command(dataset, tmp_path / "killed", **settings)
    with subprocess.Popen(arguments, **how) as process:
        assert process.stdout
        for _ in range(killed_after):
            process.stdout.readline()
        process.kill()

    told = list(train(dataset, "contrastive", TINY, config(**settings), tmp_path / "killed"))

    assert told == [] or told[0]["step"] >= killed_after
    whole, again = (read_checkpoint(tmp_path / name / LAST) for name in ("whole", "killed"))
    assert whole["facts"]["progress"]["step"] == again["facts"]["progress"]["step"] == STEPS
    for one, other in zip(_tensors(whole), _tensors(again), strict=True):
        assert torch.equal(one, other), f"killed after step {killed_after}"


def _tensors(content) -> list[torch.Tensor]:
    """All tensors of a nest, in its order."""
    if isinstance(content, torch.Tensor):
        return [content]
    values = content.values() if isinstance(content, dict) else content
    return [t for value in values if isinstance(value, dict | list | torch.Tensor) for t in _tensors(value)]


def test_a_checkpoint_of_another_training_is_refused_with_both_values(dataset, tmp_path):
    for _ in train(dataset, "contrastive", TINY, config(), tmp_path):
        pass

    with pytest.raises(ValueError, match=r"another setting \(seed: 0 there, 5 here\)"):
        next(train(dataset, "contrastive", TINY, config(seed=5), tmp_path))
    with pytest.raises(ValueError, match=r"another model \(embedding: 32 there, 16 here\)"):
        next(train(dataset, "contrastive", replace(TINY, embedding=16), config(), tmp_path))
    fewer = replace(dataset, exclude=frozenset({dataset.keys[0]}))
    with pytest.raises(ValueError, match="another dataset"):
        next(train(fewer, "contrastive", TINY, config(), tmp_path))
    content = read_checkpoint(tmp_path / LAST)
    content["front_end"]["HOP"] = 240.0
    torch.save(content, tmp_path / LAST)
    with pytest.raises(ValueError, match=r"another front end \(HOP: 240.0 there, 160.0 here\)"):
        next(train(dataset, "contrastive", TINY, config(), tmp_path))


def test_a_finished_training_is_not_begun_again(dataset, tmp_path):
    first = list(train(dataset, "contrastive", TINY, config(), tmp_path))

    assert len(first) == 4
    assert list(train(dataset, "contrastive", TINY, config(), tmp_path)) == []


def test_patience_ends_a_training_that_gets_no_better(dataset, tmp_path):
    settings = config(steps=40, num_validations=20, patience=2, learning_rate=0.0)

    told = list(train(dataset, "contrastive", TINY, settings, tmp_path))

    assert len([m for m in told if "val_auc" in m]) < 20
    assert told[-1]["step"] < 40


def test_a_batch_in_pieces_has_the_gradient_of_one_graph(dataset):
    """BatchNorm sees a piece: the reference encodes the same pieces, with all their graphs at once."""
    clips = dataset.split("train")
    epoch = Epoch(clips, Sampling(6, 2), 0, 0)
    batch = load_batch(clips, epoch.plan(0), epoch.sampling.view)
    models = [_model() for _ in range(2)]
    encoders = [Encoder(model, Augmentation(), is_bf16=False).train() for model in models]

    loss, chance = Gradients(encoders[0], Negatives(), Ranks()).backward(batch, 3, (0, 0))
    pieces = [encoders[1](piece.frames, piece.sound, piece.draws) for piece in batch.chunks(3)]
    V, A = (torch.cat(side) for side in zip(*pieces, strict=True))
    steps = Steps(batch.clips, batch.videos, batch.classes, batch.seen_ms, batch.heard_ms)
    expected = models[1].loss(V, A, steps)
    expected.backward()

    assert loss == pytest.approx(expected.item(), abs=1e-6)
    assert chance == pytest.approx(np.log(11))  # ten steps of other videos and its own
    for (name, one), other in zip(models[0].named_parameters(), models[1].parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad, msg=name, atol=1e-6, rtol=1e-4)
    for one, other in zip(models[0].buffers(), models[1].buffers(), strict=True):
        if one.is_floating_point():
            torch.testing.assert_close(one, other)  # the statistics moved once


def _model():
    torch.manual_seed(0)
    return contrastive.build(TINY)


COMPILED = pytest.param(
    {"is_compiled": True, "num_pieces": 2},
    marks=pytest.mark.skipif(not which("g++"), reason="torch.compile needs a C++ compiler on a CPU"),
)


@pytest.mark.slow
@pytest.mark.parametrize("changed", [{"clips_per_batch": 8}, {"clips_per_batch": 7}, COMPILED], ids=str)
def test_two_ranks_have_the_losses_of_one(dataset, tmp_path, changed):
    """Seven clips are four on one rank and three on the other. The one rank never compiles its encoders."""
    # Adam's first steps make signs of gradients: at a high rate the rounding of small ones grows into the weights.
    settings = {**changed, "steps": 4, "learning_rate": 3e-4}
    asked = replace(config(**settings), is_compiled=False)
    alone = list(train(dataset, "contrastive", TINY, asked, tmp_path / "a"))

    launcher = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
    arguments, how = command(dataset, tmp_path / "b", *launcher, **settings)
    told = subprocess.run(arguments, **how, check=True).stdout.splitlines()

    steps = [json.loads(line) for line in told if line.startswith("{")]
    by_step = {n: [m["loss"] for m in steps if m["step"] == n] for n in range(1, 5)}
    for metrics in alone:
        assert by_step[metrics["step"]] == pytest.approx([metrics["loss"]] * 2, abs=1e-4)
    weights = [read_checkpoint(tmp_path / name / LAST)["state"] for name in ("a", "b")]
    assert weights[0].keys() == weights[1].keys()
    for name, tensor in weights[0].items():
        torch.testing.assert_close(weights[1][name], tensor, atol=2e-3, rtol=0, msg=name)


@pytest.mark.slow
def test_ranks_with_unlike_shares_cut_them_into_as_many_pieces(dataset, tmp_path):
    """Eight and six steps: pieces of two would be four and three, and the ranks would wait for each other."""
    launcher = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
    settings = {"clips_per_batch": 7, "steps": 2, "num_pieces": 4}
    arguments, how = command(dataset, tmp_path, *launcher, **settings)

    told = subprocess.run(arguments, **how, check=True, timeout=300).stdout.splitlines()

    losses = [json.loads(line)["loss"] for line in told if line.startswith("{")]
    assert len(losses) == 4 and len(set(losses)) == 2


def test_a_rank_takes_the_gpu_of_its_own_number(monkeypatch):
    called = []
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("LOCAL_RANK", "1")
    monkeypatch.setattr(torch.cuda, "set_device", called.append)
    monkeypatch.setattr(torch.distributed, "init_process_group", called.append)
    monkeypatch.setattr(torch.distributed, "get_rank", lambda: 1)
    monkeypatch.setattr(torch.distributed, "destroy_process_group", lambda: None)

    with open_ranks(torch.device("cuda")) as ranks:
        assert called == [1, "nccl"] and ranks.rank == 1
