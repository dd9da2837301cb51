"""The poster's family: what its sequences are, what its heads say, and training on frozen vectors in seconds."""

import math
from dataclasses import replace

import pytest
import torch
from avc_fixtures import SHORT_RUN
from hypothesis import given
from hypothesis import strategies as st

from training.checkpoint import load_model, num_parameters
from training.decoding import load_batch
from training.frozen import cached_batches, compute_features
from training.loop import Trainer, train
from training.models import many_to_many
from training.models.many_to_many import KINDS, MAX_ROLL, balanced, sounds_of, strangers
from training.negatives import Steps
from training.ranks import Ranks
from training.sampling import Epoch, Sampling, usable

SMALL = many_to_many.Config(width=8, embedding=16, fused=32, recurrent=16)


@given(
    batch=st.integers(2, 5), length=st.integers(1, 9), kind=st.sampled_from(KINDS), seed=st.integers(0, 999)
)
def test_a_step_matches_exactly_where_its_own_sound_stands(batch, length, kind, seed):
    """Every sound is named by its clip and its place."""
    own = torch.arange(batch * length).view(batch, length, 1).float()

    sounds, target, roll = sounds_of(kind, own, own.roll(1, 0), torch.Generator().manual_seed(seed))

    assert ((sounds == own)[..., 0] == target.bool()).all()
    if roll is not None:
        assert abs(roll) <= MAX_ROLL
        assert (sounds == own.roll(roll, 1)).all()  # positive: heard later than seen


@given(st.lists(st.integers(0, 2), min_size=1, max_size=7))
def test_another_clip_is_always_of_another_video(videos):
    found = strangers(torch.tensor(videos))

    if found is None:
        assert len(set(videos)) == 1
    else:
        assert all(videos[other] != own for own, other in zip(videos, found.tolist(), strict=True))


@pytest.mark.parametrize("output", ["sigmoid", "vector"])
def test_perfect_and_ignorant_answers(output):
    target = torch.tensor([[1.0, 0.0, 1.0, 0.0], [0.0, 0.0, 0.0, 0.0]])
    scale = 40.0 if output == "sigmoid" else 0.5

    assert balanced(scale * (2 * target - 1), target, output) < 1e-6
    chance = math.log(2) if output == "sigmoid" else 0.25
    assert balanced(torch.zeros(2, 4), target, output).item() == pytest.approx(chance)


@pytest.mark.parametrize("output", ["sigmoid", "vector"])
def test_a_network_that_answers_always_the_same_has_the_loss_of_chance(output):
    model = many_to_many.build(replace(SMALL, output=output))
    for head in (model.step_head, model.offset_head):
        torch.nn.init.zeros_(head.weight)
        torch.nn.init.zeros_(head.bias)
    videos = torch.arange(4).repeat_interleave(6)
    steps = Steps(videos, videos, videos, 1000.0 * torch.arange(24), 1000.0 * torch.arange(24))

    loss = model.loss(torch.randn(24, 16), torch.randn(24, 16), steps)

    assert loss.item() == pytest.approx(model.chance_loss(steps))


@torch.inference_mode()
def test_a_pair_is_a_sequence_of_one_step_in_any_number_of_blocks(monkeypatch):
    torch.manual_seed(0)
    model = many_to_many.build(SMALL).eval()
    V, A = torch.randn(5, 16), torch.randn(3, 16)

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
    V, A = torch.randn(24, 16), torch.randn(24, 16)

    first = model.loss(V, A, steps)
    torch.rand(7)

    assert model.loss(V, A, steps) == first


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
    run = replace(SHORT_RUN, **(many_to_many.TRAINING | {"sampling": Sampling(6, 4), "steps": 3}))

    told = list(train(dataset, "many_to_many", replace(SMALL, output=output), run, tmp_path))

    assert math.isfinite(told[-1]["loss"]) and "val_auc" in told[-1]


def test_on_frozen_vectors_a_hundred_steps_take_seconds_and_keep_what_the_trunk_knows(
    dataset, trained, tmp_path
):
    run = replace(SHORT_RUN, **(many_to_many.TRAINING | {"steps": 150, "ema_decay": 0.9}))
    config = replace(SMALL, trunk=str(trained))

    told = list(train(dataset, "many_to_many", config, run, tmp_path))

    assert told[-1]["val_auc"] > 0.7
    theirs, ours = load_model(trained), load_model(tmp_path / "best.pt")
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
