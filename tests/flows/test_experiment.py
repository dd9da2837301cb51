"""Experiments on a version that stands: which run they go on with, and what they offer for promotion."""

from dataclasses import replace

import avc_fixtures as shards
import pytest
import torch

from flows.experiment import ExperimentOptions, prepare, run_experiment
from training import tracking
from training.checkpoint import read_checkpoint
from training.progress import LAST

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("prefect_server")]


@pytest.fixture
def root(tmp_path):
    shards.write_dataset(tmp_path, shards.corresponding({"train": 12, "val": 6, "eval": 12}, num_kinds=3))
    return tmp_path


def options(root, **changes) -> ExperimentOptions:
    return replace(ExperimentOptions(str(root), preset="demo", steps=2, with_media=False), **changes)


def test_an_unfinished_run_of_other_code_is_left_and_a_new_one_begun(root):
    first = run_experiment(options(root))
    experiment = prepare(options(root))
    note = experiment.pipeline.state / "trainings" / experiment.identity[:16]
    note.write_text(f"{first['run_id']}\n")  # as if it had not ended
    last = root / "reports" / first["run_id"][:12] / LAST
    content = read_checkpoint(last)
    content["facts"]["train"]["learning_rate"] = 1.0  # what was the default then
    torch.save(content, last)

    second = run_experiment(options(root))

    assert second["run_id"] != first["run_id"] and second["steps"] == 2
    assert not note.exists()
    assert tracking.has_run(experiment.store, first["run_id"])
