"""Training: learns what can be learnt, nothing where there is nothing, and says how it went."""

import math
import re
from dataclasses import replace

import avc_fixtures as shards
import numpy as np
import pytest
import torch
from avc_fixtures import SHORT_RUN, TINY, tiny_run
from documents import REPOSITORY, output_of

from training.evaluation import correspondence
from training.learning.step import Average, learning_rate, parameter_groups
from training.learning.validation import all_pairs, combine, fit_calibration
from training.loop import TrainConfig, train
from training.models import load_model
from training.networks.checkpoint import read_checkpoint
from training.networks.embeddings import embed
from training.reading.negatives import Negatives
from training.reading.sampling import Sampling


def test_a_tiny_model_learns_a_correspondence(dataset, trained):
    facts = read_checkpoint(trained)["facts"]

    assert facts["metrics"]["val_auc"] > 0.8
    assert facts["metrics"]["val_loss"] < 0.85 * math.log(3 * 17)  # 17 other clips of 3 steps to choose from
    result = correspondence.evaluate(load_model(trained), dataset)
    assert result.random.auc.low > 0.6


def test_pairs_without_law_stay_at_chance(shuffled, tmp_path):
    model = load_model(tiny_run(shuffled, tmp_path, num_steps=30))

    auc = correspondence.evaluate(model, shuffled).random.auc

    # On some processors so few steps end in a model that scores all pairs alike: that is at chance, exactly.
    assert auc.low <= 0.5 <= auc.high


def test_every_step_says_what_it_did(dataset, tmp_path):
    told = list(train(dataset, "contrastive", TINY, SHORT_RUN, tmp_path))

    assert [m["step"] for m in told] == [1, 2, 3, 4]
    needed = {
        "epoch",
        "loss",
        "learning_rate",
        "temperature",
        "grad_norm",
        "samples_per_s",
        "data_wait_share",
    }
    assert all(needed <= set(m) and all(math.isfinite(v) for v in m.values()) for m in told)
    validated = [m for m in told if "val_auc" in m]
    assert [m["step"] for m in validated] == [2, 4]
    assert all({"train_loss", "val_loss", "train_auc", "val_accuracy"} <= set(m) for m in validated)
    assert (tmp_path / "best.pt").is_file()


def test_the_documents_example_runs(tmp_path):
    shards.write_dataset(tmp_path / "data", shards.corresponding({"train": 8, "val": 4, "eval": 6}))
    document = (REPOSITORY / "docs" / "training.md").read_text()
    example = document.split("```python\n")[1].split("```")[0].replace("seconds=120", "seconds=None, steps=2")

    output = output_of(example, tmp_path, PYTHONPATH=str(REPOSITORY))

    assert re.fullmatch(r"\d\.\d+ \[\d.*, \d.*\] \(chance 0\.500\)\n", output)


def test_the_same_seed_trains_the_same_model(dataset, tmp_path):
    def losses(seed, folder):
        told = train(dataset, "contrastive", TINY, replace(SHORT_RUN, seed=seed), tmp_path / folder)
        return [metrics["loss"] for metrics in told]

    first = losses(3, "a")
    np.testing.assert_allclose(first, losses(3, "b"), rtol=1e-3)
    assert abs(first[0] - losses(4, "c")[0]) > 1e-3


def test_a_budget_in_seconds_ends_with_a_validation(dataset, tmp_path):
    config = replace(SHORT_RUN, steps=None, seconds=1.5)

    told = list(train(dataset, "contrastive", TINY, config, tmp_path))

    assert told[-1]["progress"] == 1.0 and "val_auc" in told[-1]
    assert all(metrics["progress"] < 1.0 for metrics in told[:-1])
    assert told[-1]["seconds"] >= 1.5


def test_the_best_weights_are_kept(dataset, tmp_path):
    told = list(train(dataset, "contrastive", TINY, SHORT_RUN, tmp_path))

    best = max((m for m in told if "val_auc" in m), key=lambda m: m["val_auc"])
    kept = read_checkpoint(tmp_path / "best.pt")
    assert kept["facts"]["metrics"]["step"] == best["step"]
    again = embed(load_model(tmp_path / "best.pt"), dataset.split("val"), SHORT_RUN.validation_steps)
    assert numbers(load_model(tmp_path / "best.pt"), again)["auc"] == pytest.approx(best["val_auc"], abs=0.01)


def test_validation_does_not_depend_on_order_or_mode(dataset, trained):
    model = load_model(trained)
    val = dataset.split("val")
    backwards = val.take(np.arange(len(val))[::-1])

    here = numbers(model, embed(model, val, 3))
    there = numbers(model, embed(model.train(), backwards, 3))

    assert model.training
    assert here == pytest.approx(there, abs=1e-4)


def test_the_calibration_puts_the_threshold_between_the_classes(dataset, trained):
    model = load_model(trained)
    encoded = embed(model, dataset.split("val"), 3)
    own = (encoded.image * encoded.audio).sum(-1).mean().item()
    other = (encoded.image * encoded.audio.roll(1, 0)).sum(-1).mean().item()

    scale, bias = fit_calibration(combine(model, encoded, Negatives()))

    assert scale > 0
    assert other < -bias / scale < own


def test_splits_without_videos_to_pair_are_refused(tmp_path, dataset):
    lonely = dataset.take(np.flatnonzero(np.array([s != "val" for s in _splits(dataset)])))

    with pytest.raises(ValueError, match="split 'val' has 0 usable clips"):
        next(train(lonely, "contrastive", TINY, SHORT_RUN, tmp_path))


@pytest.mark.parametrize(
    ("lacking", "policy"), [("train", "same_class"), ("val", "same_class"), ("val", "shifted")]
)
def test_a_split_without_pairs_of_the_policy_is_refused_before_the_first_step(
    dataset, tmp_path, lacking, policy
):
    is_alone = np.array([split == lacking for split in _splits(dataset)])
    lonely = replace(dataset, classes=np.where(is_alone, np.arange(len(dataset)), dataset.classes))
    run = replace(SHORT_RUN, negatives=Negatives((policy,)), validation_steps=1)

    with pytest.raises(ValueError, match=f"split '{lacking}' has no two steps that do not match by {policy}"):
        next(train(lonely, "contrastive", TINY, run, tmp_path))


def test_a_batch_without_pairs_of_the_policy_teaches_nothing_and_ends_nothing(dataset, tmp_path):
    sampling = Sampling(2, 2, classes_per_batch=4)  # six classes: two clips are seldom of one
    run = replace(SHORT_RUN, negatives=Negatives(("same_class",)), sampling=sampling, steps=8)

    told = list(train(dataset, "contrastive", TINY, run, tmp_path))

    assert min(metrics["chance_loss"] for metrics in told) == 0.0
    assert all(math.isfinite(metrics["loss"]) for metrics in told)


def test_steps_and_seconds_are_one_choice():
    with pytest.raises(ValueError, match="steps or seconds"):
        TrainConfig(steps=5, seconds=5.0)
    with pytest.raises(ValueError, match="steps or seconds"):
        TrainConfig(steps=None, seconds=None)


def test_the_schedule_warms_up_and_anneals():
    assert 0 < learning_rate(0.0, 0.1) < learning_rate(0.05, 0.1) < learning_rate(0.1, 0.1) == 1.0
    assert learning_rate(0.55, 0.1) == pytest.approx(0.5)
    assert learning_rate(1.0, 0.1) == pytest.approx(0.0)


def test_only_weights_decay():
    model = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.BatchNorm1d(2))

    decayed, rest = parameter_groups(model, 0.1)

    assert [p.ndim for p in decayed["params"]] == [2] and decayed["weight_decay"] == 0.1
    assert len(rest["params"]) == 3 and rest["weight_decay"] == 0.0


def test_the_average_follows_weights_and_statistics():
    model = torch.nn.BatchNorm1d(2)
    average = Average(model, decay=0.5)

    model.weight.data.fill_(5.0)
    model(torch.full((4, 2), 7.0) + torch.tensor([[0.0], [1.0], [2.0], [3.0]]))
    for _ in range(20):
        average.update(model)

    torch.testing.assert_close(average.model.weight, model.weight, atol=1e-3, rtol=0)
    torch.testing.assert_close(average.model.running_mean, model.running_mean, atol=1e-3, rtol=0)
    assert average.model.num_batches_tracked == 1


def test_mel_statistics_are_of_the_training_sound(dataset, trained):
    model = load_model(trained)
    train_clips = dataset.split("train")
    joined = np.concatenate([train_clips.log_mel(row) for row in range(len(train_clips))], axis=1)

    np.testing.assert_allclose(model.audio_mean[:, 0], joined.astype(np.float32).mean(1), atol=1e-2)


def numbers(model, encoded):
    return all_pairs(model, encoded, combine(model, encoded, Negatives()))


def _splits(dataset):
    return dataset.clips.names["split"].to_pylist()
