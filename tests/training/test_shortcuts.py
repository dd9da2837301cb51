"""Who knows one side of a pair only must not tell whether it matches: of batches that training draws, unread.

What a loss makes of a pair is its gradient by the pair's logit, of a model that knows nothing: how much it wants the
pair to match, or not to. Where a picture, a sound, a place in the clip weighs the same in both, nothing is learnt
from it alone. `many_to_many` draws sequences, which its own tests look at; `sync` asks for no pairs.
"""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from schemas.feature import PROFILES
from training.models import contrastive, multisensory
from training.networks import losses
from training.reading.decoding import planned
from training.reading.negatives import Negatives, Steps
from training.reading.sampling import Epoch, Plan, Sampling, usable

POLICIES = [
    ("other_clip",),
    ("same_class",),
    ("shifted",),
    ("other_clip", "shifted"),
    ("same_class", "shifted"),
]
SAMPLINGS = {
    "usual": Sampling(16, 2),
    "streamed": Sampling(8, 4),
    "of few classes": Sampling(16, 2, classes_per_batch=4),
}
NUM_EPOCHS = 80  # of three to six batches
Loss = Callable[[Tensor, Tensor], Tensor]


def infonce(logits: Tensor, negatives: Tensor) -> Tensor:
    """What `contrastive` and `transfer` learn by."""
    return losses.contrastive(logits, torch.tensor(1.0), negatives)


LOSSES: dict[str, Loss] = {"infonce": infonce, "pairs": losses.pairs}  # l3, ave, avol, contrastive/sigmoid


@pytest.fixture(scope="module")
def clips(dataset):
    """Some are short, some videos have two, classes are of all sizes, and some clips have none."""
    train = dataset.split("train")
    rng = np.random.default_rng(0)
    table = replace(train.clips, valid_ms=rng.choice([10_000, 10_000, 6_300, 3_100], 48))
    classes = np.repeat([1, 2, 3, 4, -1], [4, 8, 12, 20, 4])
    videos = np.r_[np.arange(40), np.arange(8)]
    mixed = rng.permutation(48)
    return replace(train, clips=table, classes=classes[mixed], videos=videos)


@pytest.fixture(scope="module", params=SAMPLINGS)
def batches(clips, request) -> list[tuple[int, Plan, Steps]]:
    """Half of the training, plan and steps of every batch."""
    sampling = SAMPLINGS[request.param]
    dataset = usable(clips, sampling.view)
    plans = [(n % 2, plan) for n in range(NUM_EPOCHS) for plan in Epoch(dataset, sampling, 0, n)]
    return [(half, plan, planned(dataset, plan, sampling.view)) for half, plan in plans]


def weights(loss: Loss, negatives: Tensor) -> tuple[Tensor, Tensor]:
    """How much each picture's matching pair is asked for (N,), and how much each other pair is not (N, N)."""
    logits = torch.zeros(negatives.shape, requires_grad=True)
    (slope,) = torch.autograd.grad(loss(logits, negatives), logits)
    return -slope.diagonal(), slope - slope.diag().diag()


def accuracy(known: np.ndarray, half: np.ndarray, matching: np.ndarray, other: np.ndarray) -> float:
    """How often one who knows that of a pair, and saw one half of the training, is right about the other half."""
    values, where = np.unique(known, return_inverse=True)
    table = np.zeros((2, 2, len(values)))
    for kind, weight in enumerate((matching, other)):
        np.add.at(table[:, kind], (half, where), weight)
    (match, mismatch), asked = table / table.sum(2, keepdims=True)
    says_match = match > mismatch
    return float(asked[0, says_match].sum() + asked[1, ~says_match].sum()) / 2


def accuracies(batches, policy: Negatives, loss: Loss) -> dict[str, float]:
    """The accuracy of one who knows a certain thing about a picture or a sound, and nothing of the other side."""
    rows = []
    for half, plan, steps in batches:
        matching, others = weights(loss, replace(steps, policy=policy).negatives)
        place = np.arange(len(plan.rows))
        known = (plan.rows, 100 * plan.rows + plan.frames, plan.frames, place, plan.shifts_ms, steps.classes)
        rows.append([*known, np.full(len(place), half), matching, others.sum(1), others.sum(0)])
    clip, step, frame, place, shift, kind, half, matching, seen, heard = (
        np.concatenate(column) for column in zip(*rows, strict=True)
    )
    things = {"clip": clip, "step": step, "place in clip": frame, "place in batch": place, "class": kind}
    told = {name: accuracy(one, half, matching, seen) for name, one in things.items()}
    things["shift"] = shift
    return told | {f"{name}, heard": accuracy(one, half, matching, heard) for name, one in things.items()}


@pytest.mark.parametrize("kinds", POLICIES)
def test_every_picture_and_every_sound_weighs_as_much_in_matching_as_in_other_pairs(batches, kinds):
    policy = Negatives(kinds)

    for _, _, steps in batches:
        matching, others = weights(losses.pairs, replace(steps, policy=policy).negatives)
        torch.testing.assert_close(others.sum(1), matching, atol=1e-7, rtol=0)
        torch.testing.assert_close(others.sum(0), matching, atol=1e-7, rtol=0)


def test_so_it_does_among_the_candidates_of_one_class_where_a_video_has_one_clip(batches):
    for _, _, steps in batches:
        alone = replace(steps, videos=steps.clips, policy=contrastive.SAME_CLASS)
        matching, others = weights(infonce, alone.negatives)
        torch.testing.assert_close(others.sum(1), matching, atol=1e-7, rtol=0)
        torch.testing.assert_close(others.sum(0), matching, atol=1e-7, rtol=0)


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("kinds", POLICIES)
def test_whoever_knows_one_side_is_right_half_the_time(batches, kinds, loss):
    """Nearly so for InfoNCE: of four steps of a clip, those in its middle have fewer that are far enough away."""
    told = accuracies(batches, Negatives(kinds), LOSSES[loss])

    most = 0.016 if loss == "infonce" and "shifted" in kinds else 0.004
    assert max(abs(one - 0.5) for one in told.values()) < most, told


def test_the_probe_finds_what_a_plain_mean_over_pairs_would_teach(batches):
    """Clips of a rare class, or of none, would stand in matching pairs more than in other ones."""

    def plain(logits, negatives):
        matching = functional.softplus(-logits.diagonal()).mean()
        other = functional.softplus(logits)[negatives]
        return (matching + other.sum() / max(1, len(other))) / 2

    told = accuracies(batches, Negatives(("same_class",)), plain)

    assert told["class"] > 0.54 and told["clip, heard"] > 0.54


def test_early_fusion_asks_for_each_sound_once_as_own_and_once_as_shifted(clips):
    seen = replace(clips, version=replace(clips.version, profile=PROFILES["multisensory"]))
    model = multisensory.build(multisensory.Config(width=0.125, num_frames=16, frame_px=32))
    sampling = replace(multisensory.TRAINING_OVERRIDES["sampling"], view=model.view)
    dataset = usable(seen, model.view)
    num_asked = 0

    for number in range(NUM_EPOCHS):
        for plan in Epoch(dataset, sampling, 0, number):
            steps = replace(
                planned(dataset, plan, model.view), policy=multisensory.TRAINING_OVERRIDES["negatives"]
            )
            own, shifted = multisensory.other_sounds(steps.negatives)
            assert sorted(shifted.tolist()) == own.tolist()
            assert (steps.clips[own] == steps.clips[shifted]).all()
            num_asked += len(own)
    assert num_asked > 1000
