"""Augmentation: a step's own random numbers, and changes that mean what they say."""

from dataclasses import replace

import pytest
import torch

from training.learning.augment import (
    STRENGTHS,
    Augmentation,
    augment_images,
    augment_log_mel,
    augment_wave,
    strength_named,
)

STILL = STRENGTHS["none"]


def draws(steps, seed=0):
    return torch.rand(len(steps), 6, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def images():
    return torch.rand(8, 3, 16, 16, generator=torch.Generator().manual_seed(0))


def test_no_strength_changes_nothing(images):
    sounds = torch.randn(8, 64, 100)

    torch.testing.assert_close(augment_images(images, STILL, draws(images)), images)
    torch.testing.assert_close(augment_log_mel(sounds, STILL, draws(sounds)), sounds)


def test_a_change_belongs_to_the_step_and_not_to_its_batch(images):
    numbers = draws(images)

    together = augment_images(images, Augmentation(), numbers)

    torch.testing.assert_close(together[3:5], augment_images(images[3:5], Augmentation(), numbers[3:5]))
    other = augment_images(images, Augmentation(), draws(images, seed=1))
    assert (together - other).abs().amax((1, 2, 3)).min() > 0.01


def test_all_frames_of_a_step_are_changed_alike(images):
    film = images[:, None].expand(-1, 3, -1, -1, -1)

    changed = augment_images(film, Augmentation(), draws(images))

    assert changed.shape == film.shape
    torch.testing.assert_close(changed[:, 0], changed[:, 2])
    torch.testing.assert_close(changed[:, 1], augment_images(images, Augmentation(), draws(images)))


def test_pictures_stay_in_range_and_some_are_flipped(images):
    flipped = augment_images(images, replace(STILL, flip=True), draws(images))

    same = [torch.allclose(a, b, atol=1e-5) for a, b in zip(flipped, images, strict=True)]
    turned = [torch.allclose(a, b.flip(-1), atol=1e-5) for a, b in zip(flipped, images, strict=True)]
    assert any(same) and any(turned) and all(s or t for s, t in zip(same, turned, strict=True))
    strong = augment_images(images, Augmentation(brightness=0.9), draws(images))
    assert strong.min() >= 0 and strong.max() <= 1


def test_gain_is_one_constant_a_sound():
    sounds = torch.randn(16, 64, 100)

    change = augment_log_mel(sounds, replace(STILL, gain_db=6.0), draws(sounds)) - sounds

    torch.testing.assert_close(change, change[:, :1, :1].expand_as(change), atol=1e-5, rtol=0)
    assert 0.3 < change.abs().max() <= 0.6  # 6 dB are 0.6 in log10 of power


def test_masks_are_one_band_and_one_moment():
    sounds = torch.randn(32, 64, 100)

    masked = augment_log_mel(sounds, replace(STILL, mask_bins=1 / 8, mask_time=1 / 10), draws(sounds))

    for before, after in zip(sounds, masked, strict=True):
        changed = before != after
        assert changed.all(1).sum() <= 8 and changed.all(0).sum() <= 10
        assert changed.sum() == (changed.all(1)[:, None] | changed.all(0)[None]).sum()


def test_masks_cover_the_same_share_of_any_spectrum():
    sounds = torch.randn(400, 257, 199)

    covered = augment_log_mel(sounds, replace(STILL, mask_bins=1 / 8, mask_time=0.0), draws(sounds)) != sounds

    assert covered.any(2).sum(1).max() == 32 and covered.all(2).sum(1).float().mean() > 12


def test_a_wave_is_silent_for_a_moment_and_nowhere_else_changed():
    waves = 1 + torch.rand(64, 2, 1000)

    masked = augment_wave(waves, replace(STILL, mask_time=0.1), draws(waves))

    silent = masked == 0
    assert torch.equal(masked[~silent], waves[~silent])
    assert silent.sum(2).max() <= 100 and silent[:, 0].any(1).float().mean() > 0.9
    steps = silent.int().diff(dim=2).abs().sum(2)
    assert steps.max() <= 2, "one run"


def test_some_pictures_are_out_of_focus_and_keep_their_light(images):
    many = images.repeat(50, 1, 1, 1)

    blurred = augment_images(many, replace(STILL, blur_share=0.3, blur_share_of_width=0.1), draws(many))

    is_changed = (blurred != many).flatten(1).any(1)
    assert 0.2 < is_changed.float().mean() < 0.4
    change = blurred[is_changed] - many[is_changed]
    assert (blurred[is_changed].diff(dim=3).abs().mean() < many[is_changed].diff(dim=3).abs().mean()).all()
    assert change.mean().abs() < 0.01


def test_a_blur_is_a_gaussian_of_its_own_picture():
    dot = torch.zeros(200, 3, 41, 41)
    dot[:, :, 20, 20] = 1.0

    blurred = augment_images(dot, replace(STILL, blur_share=1.0, blur_share_of_width=0.1), draws(dot))

    place = torch.arange(41.0) - 20
    spread = (blurred.sum(2) * place**2).sum(2).sqrt()  # of each picture and channel
    torch.testing.assert_close(blurred.sum((2, 3)), torch.ones(200, 3))
    torch.testing.assert_close(spread[:, 0], spread[:, 2])
    assert spread.max() < 4.1 and spread.max() > 3.0 and spread.min() < 1.0


def test_frames_of_a_step_are_blurred_alike_and_not_into_each_other(images):
    film = torch.stack([images, torch.zeros_like(images)], 1)
    strength = replace(STILL, blur_share=1.0, blur_share_of_width=0.1)

    blurred = augment_images(film, strength, draws(images))

    torch.testing.assert_close(blurred[:, 0], augment_images(images, strength, draws(images)))
    assert blurred[:, 1].abs().max() == 0


@pytest.mark.parametrize("kind", ["wave", "log_mel"])
def test_a_mixed_sound_has_one_other_far_below_it(kind):
    """Sound n has power in place n only; some are 30 dB louder than others."""
    count = 64
    strength = replace(STILL, mix_share=0.5)
    level = 10 ** torch.linspace(-3, 0, count)
    power = torch.eye(count) * level[:, None]
    if kind == "wave":
        mixed = augment_wave(power[:, None].sqrt(), strength, draws(power))[:, 0] ** 2
    else:
        mixed = 10 ** augment_log_mel((power + 1e-12).log10()[:, :, None], strength, draws(power))[:, :, 0]

    mixed = mixed / level[:, None]
    torch.testing.assert_close(mixed.diagonal(), torch.ones(count), atol=1e-4, rtol=0)
    under = mixed - mixed.diagonal().diag()
    loud = under > 1e-6
    assert set(loud.sum(1).tolist()) == {0, 1} and 0.3 < loud.any(1).float().mean() < 0.7
    assert under.max() <= 0.1 + 1e-6 and under[loud].min() >= 0.01 - 1e-6  # 10 to 20 dB below


def test_an_unknown_strength_is_told_with_the_choices():
    with pytest.raises(ValueError, match="no augmentation 'wild'; choose from none, usual, strong"):
        strength_named("wild")
