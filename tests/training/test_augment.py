"""Augmentation: a step's own random numbers, and changes that mean what they say."""

from dataclasses import replace

import pytest
import torch

from training.augment import Augmentation, augment_images, augment_log_mel

STILL = Augmentation(
    flip=False,
    brightness=0,
    contrast=0,
    saturation=0,
    hue_turns=0,
    grey_share=0,
    gain_db=0,
    tilt_db=0,
    mask_mels=0,
    mask_frames=0,
)


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

    masked = augment_log_mel(sounds, replace(STILL, mask_mels=8, mask_frames=10), draws(sounds))

    for before, after in zip(sounds, masked, strict=True):
        changed = before != after
        assert changed.all(1).sum() <= 8 and changed.all(0).sum() <= 10
        assert changed.sum() == (changed.all(1)[:, None] | changed.all(0)[None]).sum()
