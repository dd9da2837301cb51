"""What is loud in a file is heard in its one or two channels, wherever it stands."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.media.downmix import as_floats, mixed, names_of, products_of, weights

LAYOUTS = [
    "mono",
    "stereo",
    "2.1",
    "3.0",
    "quad",
    "5.0",
    "5.1",
    "5.1(side)",
    "7.1",
    "22.2",
    "6 channels",
    "downmix",
]
NAMES = {name: names_of(name) for name in LAYOUTS}


def heard(names, samples, num_outputs=1):
    samples = np.asarray(samples, np.float32)
    return mixed(samples, weights(names, products_of(samples), num_outputs))


def noise(num_channels, levels, seed=0):
    levels = np.asarray(levels, np.float32)[:, None]
    return np.random.default_rng(seed).uniform(-1, 1, (num_channels, 4000)).astype(np.float32) * levels


def decibels(samples):
    return 10 * np.log10(np.mean(np.square(samples, dtype=np.float64), axis=0).max() + 1e-20)


LEVELS = st.sampled_from([0.0, 1e-4, 1e-3, 1e-2, 0.1, 0.5, 1.0])


@given(st.sampled_from(LAYOUTS), st.data(), st.integers(1, 2))
def test_nothing_loud_is_lost_and_nothing_clips(layout, data, num_outputs):
    names = NAMES[layout]
    levels = data.draw(st.lists(LEVELS, min_size=len(names), max_size=len(names)))
    samples = noise(len(names), levels)

    out = heard(names, samples, num_outputs)

    spoken = [n for n, name in enumerate(names) if not name.startswith("LFE")]
    loudest = (
        decibels(samples[spoken].T)
        if decibels(samples[spoken].T) > decibels(samples.T) - 40
        else decibels(samples.T)
    )
    assert out.shape == (4000, num_outputs)
    assert np.abs(out).max(initial=0) <= 1 + 1e-6
    floor = -10 if num_outputs == 1 else -20  # of two outputs none is ever one channel alone
    assert decibels(out) >= loudest + floor - 0.1 or loudest < -190


@pytest.mark.parametrize("layout", LAYOUTS)
def test_one_channel_alone_is_heard_at_its_own_level(layout):
    names = NAMES[layout]
    for n in range(len(names)):
        samples = noise(len(names), np.eye(len(names))[n])

        np.testing.assert_allclose(heard(names, samples)[:, 0], samples[n], atol=1e-6)


def test_stereo_that_agrees_is_its_mean_to_the_last_bit():
    samples = noise(2, [0.5, 0.4])

    mean = samples.mean(axis=0, dtype=np.float64).astype(np.float32)

    np.testing.assert_array_equal(heard(["FL", "FR"], samples)[:, 0], mean)
    np.testing.assert_array_equal(heard(["FL", "FR"], samples, 2), samples.T)


def test_opposite_channels_do_not_cancel():
    left = noise(1, [0.5])[0]

    np.testing.assert_array_equal(heard(["FL", "FR"], [left, -left])[:, 0], left)


def test_surround_is_weighed_by_the_recommendation():
    shares = weights(NAMES["5.1"], np.eye(6), 1)[0]

    np.testing.assert_allclose(shares * (1 / shares[2]), [0.5**0.5, 0.5**0.5, 1, 0, 0.5, 0.5])


def test_what_is_far_below_the_loudest_does_not_halve_it():
    loud = 1.0
    hiss = 1e-3
    samples = noise(2, [loud, hiss])

    np.testing.assert_array_equal(heard(["FL", "FR"], samples)[:, 0], samples[0])


def test_silence_stays_silence():
    for layout, names in NAMES.items():
        assert not heard(names, np.zeros((len(names), 100))).any(), layout


@pytest.mark.parametrize("kind", [np.uint8, np.int16, np.int32, np.float32, np.float64])
def test_samples_of_every_type_are_between_minus_one_and_one(kind):
    whole = np.dtype(kind).kind in "iu"
    low, high = (np.iinfo(kind).min, np.iinfo(kind).max) if whole else (-1, 1)

    made = as_floats(np.array([[low, high]], kind))

    assert made.dtype == np.float32
    np.testing.assert_allclose(made, [[-1, 1]], atol=0.01)
