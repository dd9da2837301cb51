"""A training that learns nothing: it is said, with what to check and which tower does not see."""

import logging
import shutil
import time
from dataclasses import replace

import numpy as np
import pytest
import torch
from avc_fixtures import SHORT_RUN, TINY

from schemas.errors import DataError, OperationalError
from schemas.shard import LOG_MEL_SUFFIX, tar_path
from training.learning.plateau import is_plateau, probe_towers
from training.learning.state import BEST, LAST
from training.loop import train
from training.models import contrastive
from training.reading.dataset import open_dataset
from training.reading.sampling import Sampling, usable


def test_a_loss_that_stands_at_chance_is_reported(caplog):
    with caplog.at_level(logging.WARNING):
        assert is_plateau([1.001] * 40, 0.6)
        assert not is_plateau([1.001] * 40, 0.3)
        assert not is_plateau([1.0] * 36 + [0.9] * 4, 0.6)
        assert is_plateau([1.7] * 40, 0.6), "worse than chance is no learning either"
        assert is_plateau([1.001] * 500, 0.1), "a long training is told before its half"

    assert len(caplog.records) == 3
    for cause in ("learning rate", "sign", "wrong axis", "softmax", "BatchNorm", "shuffled"):
        assert cause in caplog.text


@pytest.fixture
def blindfolded(dataset):
    """A model whose pictures all look the same to it."""
    torch.manual_seed(0)
    model = contrastive.build(TINY)
    model.image_std.fill_(torch.inf)
    clips = usable(dataset, model.view)
    return model, clips.split("train"), clips.split("val")


@pytest.mark.parametrize("is_bf16", [False, True])
def test_the_probe_names_the_tower_that_does_not_see(blindfolded, caplog, is_bf16):
    with caplog.at_level(logging.WARNING):
        found = probe_towers(*blindfolded, Sampling(12, 1), is_bf16=is_bf16)

    assert found["probe_chance"] == pytest.approx(1 / 6)
    assert found["probe_image"] < 1.5 / 6 < 0.5 < found["probe_audio"]
    assert "image tower cannot tell the classes apart" in caplog.text


def test_no_probe_without_labels(blindfolded, caplog):
    model, train_clips, val = blindfolded
    bare = replace(train_clips, classes=np.full(len(train_clips), -1))

    with caplog.at_level(logging.WARNING):
        assert probe_towers(model, bare, val, Sampling(12, 1)) == {}

    assert "needs clips of two labels" in caplog.text


def test_a_training_that_stands_still_probes_once(dataset, tmp_path, monkeypatch):
    from training.learning import plateau

    monkeypatch.setattr(plateau, "PROBE_STEPS", 1)  # as many as a run of four steps has room for

    told = list(train(dataset, "contrastive", TINY, replace(SHORT_RUN, learning_rate=0.0), tmp_path))

    assert [m["step"] for m in told if m.get("is_plateau")] == [2, 4]
    assert [m["step"] for m in told if "probe_image" in m] == [2]


@pytest.mark.parametrize("budget", [{"steps": 4, "seconds": None}, {"steps": None, "seconds": 3.0}])
def test_a_probe_that_the_budget_has_no_room_for_is_left_out(dataset, tmp_path, caplog, budget):
    run = replace(SHORT_RUN, learning_rate=0.0, num_threads=1, **budget)
    begin = time.monotonic()

    with caplog.at_level(logging.WARNING):
        told = list(train(dataset, "contrastive", TINY, run, tmp_path))

    assert any(metrics.get("is_plateau") for metrics in told)
    assert not any("probe_image" in metrics for metrics in told)
    assert "no probe of the towers: it takes as long as 120 steps, and the budget has" in caplog.text
    if budget["seconds"]:
        assert time.monotonic() - begin < 3 * budget["seconds"] + 5, "validations and imports, and no probe"


def test_a_training_that_diverges_ends_and_leaves_the_best_weights_as_they_were(dataset, tmp_path):
    run = replace(SHORT_RUN, checkpoint_s=0.0, num_threads=1)
    kept = {}
    told = train(dataset, "contrastive", TINY, replace(run, learning_rate=1e30, warmup_share=0.5), tmp_path)

    with pytest.raises(RuntimeError, match=r"diverged: at step \d+ and a learning rate of .*lower rate"):
        for _ in told:
            kept = {path.name: path.read_bytes() for path in tmp_path.glob(BEST)}

    assert {path.name: path.read_bytes() for path in tmp_path.glob(BEST)} == kept


@pytest.mark.parametrize("is_seen_before", [True, False])
def test_sound_that_is_no_number_ends_a_training_and_is_named(dataset, tmp_path, monkeypatch, is_seen_before):
    if not is_seen_before:  # the statistics of sound are those of the first clip, which is whole
        monkeypatch.setattr("training.networks.frontend.STATISTICS_CLIPS", 1)
    root = shutil.copytree(dataset.shards._root, tmp_path / "root")
    broken = open_dataset(root, dataset.version)
    for row in np.flatnonzero(broken.clips.names["split"].to_numpy() == "train")[1:]:
        shard, offset, size_bytes = broken.place(int(row), LOG_MEL_SUFFIX)
        with tar_path(root, dataset.version.shards[shard]).open("r+b") as tar:
            tar.seek(offset + size_bytes - 120_000)
            tar.write(b"\x00\x7e" * 60_000)
    where = (
        "log_mel.npy in" if is_seen_before else r"the training has diverged: at step 1 .* train\d+_0_10000 in"
    )

    with pytest.raises(
        (DataError, OperationalError), match=rf"{where} train-\d+-\w+.tar .*verify --mend"
    ) as told:
        list(train(broken, "contrastive", TINY, replace(SHORT_RUN, num_threads=1), tmp_path / "run"))

    assert "diverged" in str(told.value)
    assert not (tmp_path / "run" / LAST).exists()
