"""Several models on one version: the same steps for all, three seeds each, one table."""

import dataclasses

import pytest

from flows import presets
from flows.commands.text import comparison_text
from flows.experiments.studies import Variant
from flows.presets import TrainSettings
from tasks.sources.scenes.corpus import CorpusConfig

pytestmark = pytest.mark.slow


def test_models_are_compared_at_equal_steps(prefect_server, tmp_path, monkeypatch):
    from flows import compare_models as comparison
    from flows.build_dataset import build_dataset
    from flows.builds.options import BuildOptions
    from flows.compare_models import compare_models
    from flows.experiments.comparison import ComparisonOptions

    settings = {"corpus": CorpusConfig(96, eval_share=0.3), "train": TrainSettings(seconds=8.0)}
    config = dataclasses.replace(presets.demo(), **settings)
    monkeypatch.setitem(presets.PRESETS, "compared", lambda: config)
    monkeypatch.setattr(comparison, "SEEDS", (0, 1))  # enough to see that they differ
    build_dataset(BuildOptions(str(tmp_path), preset="compared"))

    compared = compare_models(ComparisonOptions(str(tmp_path), "contrastive,ave"))

    assert [one.name for one in compared] == ["contrastive", "ave"]
    assert compared[0].steps == compared[1].steps > 0
    mean, low, high, chance = compared[1].numbers["AUC, any other video"]
    assert low <= mean <= high and chance == 0.5
    assert len({one.numbers["AUC, any other video"][0] for one in compared}) == 2
    table = comparison_text(compared)
    assert table.count("\n") == 5 and "ave" in table and "chance" in table


def test_a_model_that_is_not_there_is_told_before_the_first_trains(tmp_path):
    from flows.compare_models import compare_variants
    from flows.experiments.experiment import ExperimentOptions

    with pytest.raises(ValueError, match="no model 'resent'"):
        compare_variants(
            ExperimentOptions(str(tmp_path)), [Variant("a", "contrastive"), Variant("b", "resent")]
        )
