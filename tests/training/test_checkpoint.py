"""Checkpoints: whole or absent, without pickles, and true to their front end."""

import os
from dataclasses import asdict

import pytest
import torch
from avc_fixtures import TINY
from hypothesis import given
from hypothesis import strategies as st

from schemas import waveforms
from schemas.errors import MissingError
from training.models import contrastive, load_model
from training.networks.checkpoint import ResumeError, digest_of_content, read_checkpoint, save_checkpoint


@pytest.fixture
def saved(tmp_path):
    model = contrastive.build(TINY)
    model.calibration.copy_(torch.tensor([3.0, -2.0]))
    save_checkpoint(tmp_path / "a" / "best.pt", "contrastive", TINY, model, {"why": "test"})
    return tmp_path / "a" / "best.pt", model.eval()


def test_a_model_comes_back_as_it_was(saved):
    path, model = saved

    loaded = load_model(path)

    images = torch.rand(2, 3, 112, 112)
    assert not loaded.training
    torch.testing.assert_close(loaded.encode_image(images)["vector"], model.encode_image(images)["vector"])
    assert loaded.calibration.tolist() == [3.0, -2.0]
    assert read_checkpoint(path)["config"] == asdict(TINY)


def test_another_front_end_is_refused_with_both_values(saved, monkeypatch):
    monkeypatch.setattr(waveforms, "N_FFT", 1024)

    with pytest.raises(ValueError, match=r"N_FFT: 512.0 there, 1024.0 here"):
        load_model(saved[0])


def test_a_failed_save_leaves_the_old_checkpoint(saved):
    path, model = saved

    class Unsaveable:
        def __reduce__(self):
            raise OSError("no")

    with pytest.raises(OSError, match="no"):
        save_checkpoint(path, "contrastive", TINY, model, {"bad": Unsaveable()})

    assert read_checkpoint(path)["facts"] == {"why": "test"}
    assert [p.name for p in path.parent.iterdir()] == ["best.pt"]


def test_nothing_pickled_is_loaded(tmp_path):
    torch.save({"format": 2, "evil": _Evil(tmp_path / "made")}, tmp_path / "evil.pt")

    with pytest.raises(ResumeError, match=r"evil.pt is not a checkpoint of tensors and plain values only"):
        read_checkpoint(tmp_path / "evil.pt")
    assert not (tmp_path / "made").exists()


class _Evil:
    def __init__(self, path):
        self._path = path

    def __reduce__(self):
        return (os.mkdir, (str(self._path),))


def test_what_is_no_checkpoint_is_told_by_its_name(saved):
    path = saved[0]
    whole = saved[0].read_bytes()

    for content in (b"", b"not a checkpoint", whole[: len(whole) // 2]):
        path.write_bytes(content)
        with pytest.raises(
            ResumeError, match=r"best.pt is not a checkpoint of tensors and plain values only, or is"
        ):
            load_model(path)
    torch.save([1, 2], path)
    with pytest.raises(ResumeError, match=r"best.pt is not a checkpoint: it holds a list instead of names"):
        load_model(path)


def test_weights_of_another_network_are_refused(saved):
    path, _ = saved
    content = read_checkpoint(path)
    content["state"].pop("log_temperature")
    torch.save(content, path)

    with pytest.raises(
        ResumeError, match=r"best.pt does not hold the weights of model contrastive .*log_temperature"
    ):
        load_model(path)


def test_a_checkpoint_that_does_not_exist_is_named(tmp_path):
    with pytest.raises(MissingError, match="there is no checkpoint .*none.pt"):
        read_checkpoint(tmp_path / "none.pt")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    path = tmp_path_factory.mktemp("checkpoint") / "best.pt"
    save_checkpoint(
        path, "contrastive", TINY, contrastive.build(TINY), {"why": "test", "nested": {1: [2.5, None]}}
    )
    return path


@given(share=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
def test_a_flipped_bit_is_told_or_changes_nothing(checkpoint, share, bit):
    whole = read_checkpoint(checkpoint)
    content = bytearray(checkpoint.read_bytes())
    content[int(share * len(content))] ^= 1 << bit
    flipped = checkpoint.with_name("flipped.pt")
    flipped.write_bytes(content)

    try:
        found = read_checkpoint(flipped)
    except ResumeError as error:
        assert str(flipped) in str(error)
    else:
        assert digest_of_content(found) == digest_of_content(whole)


def test_a_checkpoint_from_before_digests_is_read_as_it_is(checkpoint, tmp_path):
    content = read_checkpoint(checkpoint)
    torch.save(content, tmp_path / "old.pt")

    assert digest_of_content(read_checkpoint(tmp_path / "old.pt")) == digest_of_content(content)


def test_weights_that_changed_in_their_place_are_told(checkpoint, tmp_path):
    content = torch.load(checkpoint, weights_only=True)
    next(iter(content["state"].values())).view(-1)[0] += 1e-3
    torch.save(content, tmp_path / "changed.pt")

    with pytest.raises(
        ResumeError, match=r"changed.pt is damaged: it is not what was saved; restore it from a copy"
    ):
        read_checkpoint(tmp_path / "changed.pt")
