"""Studies: what one word stands for, and which clips a variant is trained and judged on."""

from dataclasses import fields, replace

import avc_fixtures as shards
import numpy as np
import pytest

from flows.commands import train
from flows.experiments.fit import planned
from flows.experiments.studies import STUDIES, models_named, study_named
from flows.presets import TrainSettings
from training.models import load, names
from training.reading.dataset import thinned, with_labels


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    clips = shards.corresponding({"train": 20, "val": 6, "eval": 6}, num_kinds=3)
    return shards.written(tmp_path_factory.mktemp("studies"), clips)


@pytest.mark.parametrize("study", STUDIES)
def test_every_study_compares_things_that_are_there(study):
    compared = study_named(study)

    assert len({one.name for one in compared}) == len(compared) >= 2
    for one in compared:
        one.check()
        assert set(one.settings) <= {f.name for f in fields(TrainSettings)}


def test_models_presets_and_categories_are_variants_too():
    assert [one.model for one in models_named("l3,contrastive/deep")] == ["l3", "contrastive/deep"]
    everything, chosen = study_named("categories:Guitar+Dog")
    assert chosen.settings == {"trained_on": ("Guitar", "Dog"), "judged_on": ("Guitar", "Dog")}
    assert everything.settings == {"judged_on": ("Guitar", "Dog")}
    with pytest.raises(ValueError, match=r"contrastive has no preset 'huge'; choose from small, residual"):
        models_named("contrastive/huge")
    with pytest.raises(
        ValueError, match=r"no study 'learning_curve'; there are .*learning-curve.*categories:"
    ):
        study_named("learning_curve")
    for study in ("learning-curve", "categories:Dog"):
        with pytest.raises(ValueError, match=f"that is a study: use --study {study}"):
            models_named(study)


def test_no_model_no_preset_of_a_model_and_no_study_have_one_name():
    presets = {preset for name in names() for preset in getattr(load(name), "PRESETS", {})}

    assert not set(names()) & presets and not set(STUDIES) & (presets | set(names()))
    assert [one.model for one in models_named("transfer")] == ["transfer"], "the model, which is registered"


@pytest.mark.parametrize("rank", ["0", "1"])
def test_torchrun_of_a_comparison_is_refused_by_every_rank(tmp_path, monkeypatch, rank):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", rank)

    with pytest.raises(ValueError, match="torchrun trains one model, and l3,ave names 2"):
        train.run(train.Options(str(tmp_path), model="l3,ave"))


def test_labels_choose_clips_of_the_splits_that_are_named(dataset):
    chosen = with_labels(dataset, frozenset({"/kind/1"}), ("train", "val"))

    assert {
        label for row in range(len(chosen.split("train"))) for label in chosen.split("train").labels(row)
    } == {"/kind/1"}
    assert len(chosen.split("val")) == 2 and len(chosen.split("eval")) == 6


def test_a_share_of_the_clips_is_part_of_a_larger_one(dataset):
    tenth, third = (set(thinned(dataset, share).split("train").keys) for share in (0.1, 0.3))

    assert (len(tenth), len(third)) == (2, 6) and tenth < third
    assert thinned(dataset, 0.1).split("val").keys == dataset.split("val").keys
    assert np.unique(thinned(dataset, 0.1).videos).size == 2 + 6 + 6


def test_labels_without_a_table_are_names_already(tmp_path):
    from flows.experiments.experiment import ExperimentOptions, prepare

    shards.write_dataset(tmp_path, shards.corresponding({"train": 6, "val": 6, "eval": 6}, num_kinds=3))
    asked = ExperimentOptions(str(tmp_path), preset="demo", settings={"judged_on": ["/kind/1"]})

    chosen = prepare(asked).dataset()

    assert len(chosen.split("eval")) == 2 and len(chosen.split("train")) == 6
    with pytest.raises(ValueError, match="unknown label or category '/kind/7'"):
        prepare(replace(asked, settings={"judged_on": ["/kind/7"]})).dataset()


def test_a_version_with_too_little_to_judge_by_is_refused_before_it_is_trained_on(tmp_path):
    from flows.experiments.evaluate import require_evaluations
    from flows.experiments.experiment import ExperimentOptions, prepare

    shards.write_dataset(tmp_path, shards.corresponding({"train": 6, "val": 4, "eval": 2}))
    experiment = prepare(ExperimentOptions(str(tmp_path), preset="demo"))

    with pytest.raises(ValueError, match=r"split 'eval' has 2 usable video\(s\), and an evaluation needs 3"):
        require_evaluations(experiment, planned(experiment.dataset(), experiment.pipeline.config.train))
