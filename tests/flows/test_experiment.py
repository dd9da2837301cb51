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


def test_a_champion_of_an_earlier_version_is_measured_on_the_latest(root):
    compared = run_experiment(options(root, is_offered=False))
    first = run_experiment(options(root, seed=1))
    shards.write_dataset(root, shards.corresponding({"train": 12, "val": 6, "eval": 15}, num_kinds=3))

    second = run_experiment(options(root, seed=2))

    assert "not offered" in compared["reason"]
    assert first["is_promoted"] and "first champion" in first["reason"]
    assert "the champion's" in second["reason"]  # compared, and not refused
    digests = [one["correspondence"]["evaluation_digest"] for one in (first, second)]
    assert digests[0] != digests[1]
    versions = tracking.MlflowClient(prepare(options(root)).store.tracking_uri).search_model_versions()
    assert [one.tags["evaluation_digest"] for one in versions] == [digests[1]] * 2
