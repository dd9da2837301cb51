"""What an experiment trains: the settings that a user asks for, checked before anything runs."""

import math
from dataclasses import replace

import pytest
from avc_fixtures import corresponding, written

from flows.experiments.fit import check, planned
from flows.presets import TrainSettings
from training.learning.augment import STRENGTHS
from training.models import multisensory
from training.models.contrastive import PRESETS


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return written(tmp_path_factory.mktemp("planned"), corresponding({"train": 4, "val": 2, "eval": 2}))


def test_a_training_is_what_was_asked_for(dataset):
    settings = TrainSettings(
        "contrastive/deep",
        seed=4,
        steps=7,
        augmentation="strong",
        patience=2,
        precision="float32",
        config={"width": 8, "motion": False},
    )

    training = planned(dataset, settings)

    assert training.model_config == replace(PRESETS["deep"], width=8)
    config = training.config
    assert (config.steps, config.seconds, config.seed, config.patience) == (7, None, 4, 2)
    assert config.augmentation == STRENGTHS["strong"] and config.precision == "float32"
    params = training.params
    assert params["is_bf16"] is False
    assert params["model.width"] == 8 and params["augmentation"]["blur_share"] == 0.3
    assert params["num_parameters"] > 1000 and params["front_end"]["N_MELS"] == 64


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"config": {"widht": 8}}, "model contrastive has no setting widht; choose from width, "),
        ({"config": {"width": "wide"}}, "width must be of type int, like 16, and not 'wide'"),
        ({"augmentation": "wild"}, "no augmentation 'wild'; choose from none, usual, strong"),
        ({"precision": "half"}, "no precision 'half'; choose from auto, float32, bfloat16"),
        ({"negatives": ("alike",)}, "no negatives alike; choose from other_clip, same_class, shifted"),
        ({"model": "contrastive/huge"}, "model contrastive has no preset 'huge'; choose from small, "),
        ({"config": {"objective": "sigmod"}}, "no objective 'sigmod'; choose from infonce, sigmoid"),
        ({"config": {"frame_px": 0}}, "frame_px of model contrastive is 0: it must be 1 or more"),
        ({"config": {"image_blocks": "1+x"}}, "image_blocks must be of type int, like 1, and not 'x'"),
        ({"config": {"image_blocks": []}}, "image_blocks of model contrastive is empty"),
        (
            {"config": {"temperature": math.nan}},
            "temperature of model contrastive is nan: it must be 0.0 or more",
        ),
        ({"seconds": -1.0}, "seconds is -1.0: it must be a number above 0"),
    ],
)
def test_what_cannot_be_had_is_refused_before_anything_runs(dataset, settings, told):
    for refused in (check, lambda asked: planned(dataset, asked)):
        with pytest.raises(ValueError, match=told):
            refused(replace(TrainSettings(), **settings))


def test_a_trunk_that_is_no_checkpoint_is_told_before_anything_runs(tmp_path):
    (tmp_path / "notes.txt").write_text("not a checkpoint")

    with pytest.raises(ValueError, match=r"notes.txt is not a checkpoint of tensors and plain values only"):
        check(TrainSettings("many_to_many", config={"trunk": str(tmp_path / "notes.txt")}))
    with pytest.raises(FileNotFoundError, match=r"missing.pt"):
        check(TrainSettings("many_to_many", config={"trunk": str(tmp_path / "missing.pt")}))


def test_several_numbers_are_given_with_plus_or_as_a_list(dataset):
    for blocks in ("2+1", [2, 1]):
        training = planned(dataset, TrainSettings(config={"image_blocks": blocks, "audio_blocks": 3}))

        assert training.model_config.image_blocks == (2, 1) and training.model_config.audio_blocks == (3,)


def test_a_model_keeps_its_own_training(dataset):
    training = planned(dataset, TrainSettings("sync", steps=1))

    assert training.config.sampling.clips_per_batch == 16
    assert training.config.augmentation.hue_turns == 0
    own = planned(dataset, TrainSettings("multisensory", steps=1)).config.negatives
    assert own == multisensory.TRAINING_OVERRIDES["negatives"] and own.kinds == ("shifted",)


def test_negatives_that_are_asked_for_go_before_the_models_own(dataset):
    asked = TrainSettings("multisensory", steps=1, negatives=("other_clip", "shifted"))

    policy = planned(dataset, asked).config.negatives

    assert policy.kinds == ("other_clip", "shifted")
    assert policy.tolerance_ms == multisensory.TRAINING_OVERRIDES["negatives"].tolerance_ms


def test_a_comparisons_seeds_go_before_what_is_set():
    from flows.experiments.experiment import ExperimentOptions

    asked = ExperimentOptions("root", seed=2, settings={"seed": 7, "steps": 50, "patience": 3})

    settings = asked.merge_settings(TrainSettings())

    assert (settings.seed, settings.steps, settings.patience, settings.model) == (2, 50, 3, "contrastive")
