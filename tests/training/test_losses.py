"""The contrastive loss and its masks."""

import math

import pytest
import torch

from training.networks import losses

VIDEOS = torch.tensor([0, 0, 1, 1, 2, 2])
NEGATIVES = VIDEOS[:, None] != VIDEOS[None]


def test_perfect_embeddings_cost_nothing():
    similarity = torch.where(VIDEOS[:, None] == VIDEOS[None], 1.0, -1.0)

    assert losses.contrastive(similarity, torch.tensor(0.05), NEGATIVES) < 1e-6


def test_a_model_that_knows_nothing_pays_the_chance_loss():
    loss = losses.contrastive(torch.zeros(6, 6), torch.tensor(0.07), NEGATIVES)

    assert loss.item() == pytest.approx(losses.chance(NEGATIVES))
    assert losses.chance(NEGATIVES) == pytest.approx(math.log(5))  # four steps of other videos and its own


def test_other_steps_of_the_same_video_are_no_negatives():
    similarity = torch.randn(6, 6, generator=torch.Generator().manual_seed(0))
    changed = similarity.clone()
    changed[0, 1] = 50.0
    changed[3, 2] = -50.0

    temperature = torch.tensor(0.5)
    assert losses.contrastive(similarity, temperature, NEGATIVES) == losses.contrastive(
        changed, temperature, NEGATIVES
    )
    changed[0, 2] += 1.0
    assert losses.contrastive(similarity, temperature, NEGATIVES) < losses.contrastive(
        changed, temperature, NEGATIVES
    )


def test_the_loss_is_symmetric_and_wants_the_diagonal():
    similarity = torch.randn(6, 6, generator=torch.Generator().manual_seed(1), requires_grad=True)

    loss = losses.contrastive(similarity, torch.tensor(0.5), NEGATIVES)
    loss.backward()

    assert loss.item() == pytest.approx(losses.contrastive(similarity.T, torch.tensor(0.5), NEGATIVES).item())
    assert (similarity.grad.diagonal() < 0).all()
    assert (similarity.grad - similarity.grad.diag().diag() >= 0).all()


def test_steps_with_more_negatives_weigh_more_and_those_with_none_nothing():
    logits = torch.randn(6, 6, generator=torch.Generator().manual_seed(2))
    kinds = torch.tensor([0, 0, 0, 1, 1, 2])
    negatives = (kinds[:, None] == kinds[None]) & ~torch.eye(6, dtype=torch.bool)
    softplus = torch.nn.functional.softplus

    loss = losses.pairs(logits, negatives)

    own = (softplus(-logits.diagonal()) * torch.tensor([2.0, 2, 2, 1, 1, 0])).sum() / 8
    torch.testing.assert_close(loss, (own + softplus(logits)[negatives].mean()) / 2)
    assert losses.pairs(logits, torch.zeros(6, 6, dtype=torch.bool)) == 0


def test_where_all_have_as_many_negatives_the_loss_is_the_plain_mean_bit_for_bit():
    logits = torch.randn(6, 6, generator=torch.Generator().manual_seed(3))
    softplus = torch.nn.functional.softplus
    others = softplus(logits).masked_fill(~NEGATIVES, 0.0).sum() / NEGATIVES.sum()

    assert losses.pairs(logits, NEGATIVES) == (softplus(-logits.diagonal()).mean() + others) / 2
