"""What a model may and may not learn from the studio, through the whole pipeline."""

import dataclasses
from itertools import product

import numpy as np
import pytest

from flows import presets
from flows.presets import TrainSettings
from tasks.sources.scenes.corpus import CorpusConfig

pytestmark = pytest.mark.slow


def learnt(root, monkeypatch, corpus: CorpusConfig, steps: int, seeds=(0,)) -> list[dict]:
    """The evaluations of models that were trained on `corpus`, one a seed."""
    from flows.build_dataset import build_dataset
    from flows.builds.options import BuildOptions
    from flows.experiments.experiment import ExperimentOptions
    from flows.run_experiment import run_experiment

    config = dataclasses.replace(presets.demo(), corpus=corpus, train=TrainSettings(steps=steps))
    monkeypatch.setitem(presets.PRESETS, "goal", lambda: config)
    build_dataset(BuildOptions(str(root), preset="goal"))
    return [run_experiment(ExperimentOptions(str(root), seed=seed))["correspondence"] for seed in seeds]


def test_a_model_learns_what_causes_the_sound(prefect_server, tmp_path, monkeypatch):
    (found,) = learnt(tmp_path / "root", monkeypatch, CorpusConfig(480, eval_share=0.2), steps=330)

    assert found["random"]["auc"]["low"] > 0.55
    assert found["random"]["accuracy"]["low"] > 0.5
    assert found["probes"]["frame_only"]["low"] <= 0.5 <= found["probes"]["frame_only"]["high"]
    assert found["probes"]["audio_only"]["low"] <= 0.5 <= found["probes"]["audio_only"]["high"]


def test_models_of_scenes_without_cause_stay_at_chance(prefect_server, tmp_path, monkeypatch):
    """AUC beside accuracy, because a model that gives all pairs one answer has 0.5 of that whatever leaks.

    One model's 95 % interval misses chance once in twenty trainings, and there are two lists of pairs. The mean
    of the models' intervals is at least as wide as the interval of their mean, and as narrow as one of them: what
    leaks to all of them is found as before.
    """
    corpus = CorpusConfig(384, eval_share=0.45, has_cause=False)

    found = learnt(tmp_path / "root", monkeypatch, corpus, steps=90, seeds=(0, 1, 2))

    for pairs, number in product(("random", "same_group"), ("accuracy", "auc")):
        estimates = [one[pairs][number] for one in found]
        low, high = (float(np.mean([estimate[end] for estimate in estimates])) for end in ("low", "high"))
        assert low <= 0.5 <= high, (pairs, number, estimates)
        assert high - low < 0.16, f"{pairs}, {number}: an interval so wide excludes no leak"
