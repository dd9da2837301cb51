"""What a model may and may not learn from the studio, through the whole pipeline."""

import dataclasses

import pytest

from flows import presets
from flows.presets import TrainSettings
from tasks.sources.scenes.corpus import CorpusConfig

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("flows")]


def learnt(root, monkeypatch, corpus: CorpusConfig, steps: int) -> dict:
    """The evaluation of a model that was trained on `corpus`."""
    from flows.dataset import build_dataset
    from flows.experiment import ExperimentOptions, run_experiment
    from flows.pipeline import BuildOptions

    config = dataclasses.replace(presets.demo(), corpus=corpus, train=TrainSettings(steps=steps))
    monkeypatch.setitem(presets.PRESETS, "goal", lambda: config)
    build_dataset(BuildOptions(str(root), preset="goal"))
    return run_experiment(ExperimentOptions(str(root)))["correspondence"]


def test_a_model_learns_what_causes_the_sound(prefect_server, tmp_path, monkeypatch):
    found = learnt(tmp_path / "root", monkeypatch, CorpusConfig(480, eval_share=0.2), steps=330)

    assert found["random"]["auc"]["low"] > 0.55
    assert found["random"]["accuracy"]["low"] > 0.5
    assert found["probes"]["frame_only"]["low"] <= 0.5 <= found["probes"]["frame_only"]["high"]
    assert found["probes"]["audio_only"]["low"] <= 0.5 <= found["probes"]["audio_only"]["high"]


def test_a_model_of_scenes_without_cause_stays_at_chance(prefect_server, tmp_path, monkeypatch):
    corpus = CorpusConfig(312, eval_share=0.3, has_cause=False)

    found = learnt(tmp_path / "root", monkeypatch, corpus, steps=200)

    for pairs in ("random", "same_group"):
        assert found[pairs]["accuracy"]["low"] <= 0.5 <= found[pairs]["accuracy"]["high"], pairs
