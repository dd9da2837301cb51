"""Augmentation: keyed random numbers, and changes that mean what they say."""

from dataclasses import replace

import pytest
import torch

from training.augment import Augmentation, augment_images, augment_log_mel, generator_for

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


@pytest.fixture
def images():
    return torch.rand(8, 3, 16, 16, generator=torch.Generator().manual_seed(0))


def test_no_strength_changes_nothing(images):
    sounds = torch.randn(8, 64, 100)

    torch.testing.assert_close(augment_images(images, STILL, generator_for(0, 0, 0)), images)
    torch.testing.assert_close(augment_log_mel(sounds, STILL, generator_for(0, 0, 0)), sounds)


def test_random_numbers_belong_to_seed_epoch_and_step(images):
    def augmented(*key):
        return augment_images(images, Augmentation(), generator_for(*key))

    torch.testing.assert_close(augmented(1, 2, 3), augmented(1, 2, 3))
    for other in ((0, 2, 3), (1, 0, 3), (1, 2, 0)):
        assert (augmented(1, 2, 3) - augmented(*other)).abs().max() > 0.01


def test_pictures_stay_in_range_and_some_are_flipped(images):
    flipped = augment_images(images, replace(STILL, flip=True), generator_for(0, 0, 0))

    same = [torch.allclose(a, b, atol=1e-5) for a, b in zip(flipped, images, strict=True)]
    turned = [torch.allclose(a, b.flip(-1), atol=1e-5) for a, b in zip(flipped, images, strict=True)]
    assert any(same) and any(turned) and all(s or t for s, t in zip(same, turned, strict=True))
    strong = augment_images(images, Augmentation(brightness=0.9), generator_for(0, 0, 0))
    assert strong.min() >= 0 and strong.max() <= 1


def test_gain_is_one_constant_a_sound():
    sounds = torch.randn(16, 64, 100)

    change = augment_log_mel(sounds, replace(STILL, gain_db=6.0), generator_for(0, 0, 0)) - sounds

    torch.testing.assert_close(change, change[:, :1, :1].expand_as(change), atol=1e-5, rtol=0)
    assert 0.3 < change.abs().max() <= 0.6  # 6 dB are 0.6 in log10 of power


def test_masks_are_one_band_and_one_moment():
    sounds = torch.randn(32, 64, 100)

    masked = augment_log_mel(sounds, replace(STILL, mask_mels=8, mask_frames=10), generator_for(0, 0, 0))

    for before, after in zip(sounds, masked, strict=True):
        changed = before != after
        assert changed.all(1).sum() <= 8 and changed.all(0).sum() <= 10
        assert changed.sum() == (changed.all(1)[:, None] | changed.all(0)[None]).sum()
