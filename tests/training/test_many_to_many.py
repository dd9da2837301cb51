"""The poster's family: what its sequences are, what its heads say, and training on frozen vectors in seconds."""

import math
from dataclasses import replace

import pytest
import torch
from avc_fixtures import SHORT_RUN
from hypothesis import given
from hypothesis import strategies as st

from training.learning.ranks import Ranks
from training.loop import Trainer, train
from training.models import avol, contrastive, l3, load, load_model, many_to_many, multisensory
from training.models.many_to_many import KINDS, MAX_ROLL, arranged, balanced, matches, strangers
from training.networks.checkpoint import num_parameters, save_checkpoint
from training.networks.frozen import cached_batches, compute_features
from training.reading.decoding import load_batch
from training.reading.negatives import Negatives, Steps
from training.reading.sampling import Epoch, Sampling, usable

SMALL = many_to_many.Config(width=8, embedding=16, fused=32, recurrent=16)


@given(
    batch=st.integers(2, 5), length=st.integers(1, 9), kind=st.sampled_from(KINDS), seed=st.integers(0, 999)
)
def test_own_sounds_are_only_reordered(batch, length, kind, seed):
    order, is_other, roll = arranged(kind, batch, length, torch.Generator().manual_seed(seed))

    assert (order.sort(1).values == torch.arange(length)).all()
    assert is_other.any() == (kind == "other") or kind == "spliced"
    for row, late in zip(order, roll, strict=True):
        assert abs(late) <= MAX_ROLL
        if kind == "rolled":  # positive: heard later than seen
            assert (row == torch.arange(length).roll(int(late))).all()


@pytest.mark.parametrize("length", range(1, 12))
def test_every_offset_that_is_asked_is_another_sequence(length):
    order, _, roll = arranged("rolled", 500, length, torch.Generator().manual_seed(0))

    by_roll = {late: tuple(row) for late, row in zip(roll.tolist(), order.tolist(), strict=True)}
    assert len(set(by_roll.values())) == len(by_roll) == 2 * min(MAX_ROLL, (length - 1) // 2) + 1


@pytest.mark.parametrize("length", [2, 3, 6])
@pytest.mark.parametrize("kind", KINDS)
def test_the_place_of_a_step_says_nothing_of_whether_it_matches(kind, length):
    order, is_other, _ = arranged(kind, 4000, length, torch.Generator().manual_seed(0))

    shares = matches(order, is_other).float().mean(0)

    assert shares.max() - shares.min() < 0.05  # five deviations of 4,000 draws


@given(st.lists(st.integers(0, 2), min_size=1, max_size=7))
def test_another_clip_is_always_of_another_video(videos):
    numbers = torch.tensor(videos)

    found = strangers(numbers[:, None] != numbers)

    for own, other in zip(videos, found.tolist(), strict=True):
        assert videos[other] != own if other >= 0 else set(videos) == {own}


def test_a_stranger_is_one_that_the_policy_calls_a_negative():
    model = many_to_many.build(SMALL)
    one = torch.arange(4)
    videos = one.repeat_interleave(2)
    classes = torch.tensor([0, 1, 0, -1]).repeat_interleave(2)
    times = 1000.0 * torch.arange(8)
    steps = Steps(videos, videos, classes, times, times, Negatives(("same_class",)))

    assert strangers(steps.negatives[::2, ::2]).tolist() == [2, -1, 0, -1]
    assert torch.isfinite(model.loss(torch.randn(8, 16), torch.randn(8, 16), steps))


def test_without_strangers_a_clip_is_told_from_itself_only():
    one = torch.zeros(6, dtype=torch.long)
    steps = Steps(one, one, one, 1000.0 * torch.arange(6), 1000.0 * torch.arange(6))

    assert torch.isfinite(many_to_many.build(SMALL).loss(torch.randn(6, 16), torch.randn(6, 16), steps))


@pytest.mark.parametrize("output", ["sigmoid", "vector"])
def test_perfect_and_ignorant_answers(output):
    target = torch.tensor([[1.0, 0.0, 1.0, 0.0], [0.0, 0.0, 0.0, 0.0]])
    scale = 40.0 if output == "sigmoid" else 0.5

    assert balanced(scale * (2 * target - 1), target, output) < 1e-6
    chance = math.log(2) if output == "sigmoid" else 0.25
    assert balanced(torch.zeros(2, 4), target, output).item() == pytest.approx(chance)


@pytest.mark.parametrize("output", ["sigmoid", "vector"])
@pytest.mark.parametrize("begin_ms", [0.0, 1.0, 2.0, 3.0])  # what the length of sequences is drawn by
def test_a_network_that_answers_always_the_same_has_the_loss_of_chance(output, begin_ms):
    model = many_to_many.build(replace(SMALL, output=output))
    for head in (model.step_head, model.offset_head):
        torch.nn.init.zeros_(head.weight)
        torch.nn.init.zeros_(head.bias)
    videos = torch.arange(4).repeat_interleave(6)
    times = begin_ms + 1000.0 * torch.arange(24)
    steps = Steps(videos, videos, videos, times, times)

    loss = model.loss(torch.randn(24, 16), torch.randn(24, 16), steps)

    assert loss.item() == pytest.approx(model.chance_loss(steps))


def test_who_knows_only_how_often_an_offset_comes_has_the_loss_of_chance():
    """The offsets of rolled sequences alone are asked: an aligned one would make 0 the best guess."""
    _, _, roll = arranged("rolled", 9000, 2 * MAX_ROLL + 1, torch.Generator().manual_seed(0))

    shares = torch.bincount(roll + MAX_ROLL, minlength=2 * MAX_ROLL + 1) / len(roll)

    assert (shares - 1 / (2 * MAX_ROLL + 1)).abs().max() < 0.015


@torch.inference_mode()
def test_a_pair_is_a_sequence_of_one_step_in_any_number_of_blocks(monkeypatch):
    torch.manual_seed(0)
    model = many_to_many.build(SMALL).eval()
    V = torch.randn(5, 16)
    A = torch.randn(3, 16)

    together = model.similarity(V, A)
    monkeypatch.setattr(many_to_many, "PAIRS_AT_ONCE", 4)

    torch.testing.assert_close(model.similarity(V, A), together)
    one = model.sequence(V[4:, None], A[1:2, None])[0][0, 0]
    torch.testing.assert_close(together[4, 1], one)


def test_the_loss_is_drawn_by_the_batch_and_nothing_else():
    torch.manual_seed(0)
    model = many_to_many.build(SMALL)
    videos = torch.arange(4).repeat_interleave(6)
    steps = Steps(videos, videos, videos, 1000.0 * torch.arange(24), 1000.0 * torch.arange(24))
    V = torch.randn(24, 16)
    A = torch.randn(24, 16)

    first = model.loss(V, A, steps)
    torch.rand(7)

    assert model.loss(V, A, steps) == first


@pytest.mark.parametrize(("apart_ms", "is_asked"), [(1000.0, True), (400.0, False), (0.0, False)])
def test_moments_too_close_are_neither_right_nor_wrong(apart_ms, is_asked):
    """Windows of a second, most of which is the same: the picture may fit either. 0: a short clip's step twice."""
    torch.manual_seed(0)
    model = many_to_many.build(SMALL).eval()
    one = torch.zeros(6, dtype=torch.long)
    steps = Steps(one, one, one, apart_ms * torch.arange(6), apart_ms * torch.arange(6))
    torch.nn.init.zeros_(model.step_head.weight)
    torch.nn.init.constant_(model.step_head.bias, 9.0)  # whatever is asked, it says that it matches

    loss = model.loss(torch.randn(6, 16), torch.randn(6, 16), steps) - 0.2 * math.log(5)

    assert (loss > 3) == is_asked


def test_an_input_passes_through_its_trunk_once():
    model = many_to_many.build(SMALL).train()
    norms = [m for m in model.trunks.modules() if isinstance(m, torch.nn.BatchNorm2d)]

    model.encode_image(torch.rand(2, 3, 112, 112))
    model.encode_audio(torch.randn(2, 64, 100))

    assert all(norm.num_batches_tracked == 1 for norm in norms)


def test_the_heads_have_the_size_that_was_asked_for():
    model = many_to_many.build(many_to_many.Config())
    gru = 2 * (3 * 128 * (256 + 128) + 2 * 3 * 128)
    heads = 2 * (128 * 128 + 128 + 2 * 128 + 128 * 128 + 128) + (4 * 128 * 256 + 256) + 257 + 257 * 9

    assert num_parameters(model) == num_parameters(model.trunks) + heads + gru


@pytest.mark.parametrize("output", ["sigmoid", "vector"])
def test_it_trains_end_to_end(dataset, tmp_path, output):
    run = replace(SHORT_RUN, **(many_to_many.TRAINING_OVERRIDES | {"sampling": Sampling(6, 4), "steps": 3}))

    told = list(train(dataset, "many_to_many", replace(SMALL, output=output), run, tmp_path))

    assert math.isfinite(told[-1]["loss"]) and "val_auc" in told[-1]


def test_on_frozen_vectors_a_hundred_steps_take_seconds_and_keep_what_the_trunk_knows(
    dataset, trained, tmp_path
):
    run = replace(SHORT_RUN, **(many_to_many.TRAINING_OVERRIDES | {"steps": 150, "ema_decay": 0.9}))
    config = replace(SMALL, trunk=str(trained))

    told = list(train(dataset, "many_to_many", config, run, tmp_path))

    assert told[-1]["val_auc"] > 0.7
    theirs = load_model(trained)
    ours = load_model(tmp_path / "best.pt")
    for name, tensor in theirs.state_dict().items():
        assert torch.equal(ours.trunk.state_dict()[name], tensor)


@torch.no_grad()
def test_computed_features_are_what_the_trunk_gives(dataset, trained):
    config = replace(SMALL, trunk=str(trained))
    trainer = Trainer(dataset, "many_to_many", config, SHORT_RUN, Ranks())
    clips = usable(dataset.split("train"), trainer.model.view)
    epoch = Epoch(clips, Sampling(4, 2), 0, 0)
    features = compute_features(trainer.model, clips, is_bf16=False)

    batch = next(cached_batches(epoch, features))

    still = replace(
        epoch.plan(0), corners=torch.full((8, 2), 0.5).numpy(), shifts_ms=epoch.plan(0).shifts_ms * 0
    )
    decoded = load_batch(clips, still, trainer.model.view)
    expected = trainer.model.eval().features("audio", decoded.sound)
    torch.testing.assert_close(batch.sound, expected, atol=2e-3, rtol=2e-3)
    assert torch.equal(batch.seen_ms, decoded.seen_ms)


@pytest.mark.parametrize(
    ("name", "config"),
    [
        ("avol", avol.Config(width=8)),
        ("l3", replace(l3.PRESETS["spectrogram"], width=8)),
        ("contrastive", contrastive.Config(width=4, motion=True)),
    ],
)
def test_a_trunk_of_any_kind_is_taken_with_what_it_needs(name, config, tmp_path):
    module = load(name)
    save_checkpoint(tmp_path / "trunk.pt", name, config, module.build(config), {})
    asked = replace(SMALL, trunk=str(tmp_path / "trunk.pt"))

    model = many_to_many.build(asked).eval()
    needs = many_to_many.needs(asked)

    theirs = module.needs(config)
    assert (needs.sample_rate_hz, needs.frame_rate_hz) == (theirs.sample_rate_hz, theirs.frame_rate_hz)
    assert needs.length_ms == 4000
    view = model.view
    shown = (2, view.num_frames, 3, view.frame_px, view.frame_px)
    heard = (2, 64, 100) if view.sound == "log_mel" else (2, 1, needs.sample_rate_hz)
    with torch.no_grad():
        V = model.encode_image(torch.zeros(shown if view.num_frames > 1 else (2, *shown[2:])))["vector"]
        A = model.encode_audio(model.front_end(torch.zeros(heard)))["vector"]
    assert V.shape == A.shape == (2, SMALL.embedding)


def test_a_trunk_that_fuses_early_is_refused(tmp_path):
    config = multisensory.Config(width=0.125, num_frames=16, frame_px=32)
    save_checkpoint(tmp_path / "fused.pt", "multisensory", config, multisensory.build(config), {})

    with pytest.raises(ValueError, match=r"fused.pt fuses picture and sound before"):
        many_to_many.build(replace(SMALL, trunk=str(tmp_path / "fused.pt")))
