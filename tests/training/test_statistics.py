"""Estimates, calibration and probes."""

import numpy as np
import pytest

from training.estimates import auc, balanced_accuracy, bootstrap, fit_logistic, platt, probe


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def test_the_interval_of_a_mean_is_that_of_the_theory(rng):
    values = rng.normal(2.0, 1.0, 400)

    estimate = bootstrap(lambda at: values[at].mean(), np.arange(400), chance=0.0)

    assert estimate.value == pytest.approx(values.mean())
    width = estimate.high - estimate.low
    assert width == pytest.approx(2 * 1.96 * values.std() / np.sqrt(400), rel=0.1)
    assert estimate.low < estimate.value < estimate.high


def test_intervals_are_over_clips_and_not_over_pairs(rng):
    values = np.repeat(rng.normal(size=40), 25)
    clusters = np.repeat(rng.permutation(40), 25)

    over_clips = bootstrap(lambda at: values[at].mean(), clusters, chance=0.0)
    over_pairs = bootstrap(lambda at: values[at].mean(), np.arange(1000), chance=0.0)

    assert over_clips.high - over_clips.low > 3 * (over_pairs.high - over_pairs.low)


def test_resamples_draw_whole_clusters_of_any_size():
    clusters = np.array([5, 2, 5, 5, 9])
    seen = []

    bootstrap(lambda at: float(seen.append(np.bincount(clusters[at], minlength=10)) or 0), clusters, 0.0)

    for counts in seen[:-1]:
        assert counts[5] % 3 == 0
        assert counts[2] + counts[9] + counts[5] // 3 == 3


def test_auc_counts_pairs_and_halves_ties(rng):
    scores = rng.integers(0, 6, 60).astype(float)
    labels = rng.random(60) < 0.4
    pairs = scores[labels][:, None] - scores[~labels][None]

    assert auc(scores, labels) == pytest.approx(((pairs > 0) + 0.5 * (pairs == 0)).mean())
    assert auc(np.zeros(60), labels) == 0.5
    assert np.isnan(auc(scores, np.ones(60, bool)))
    with pytest.raises(ValueError, match="1 of 60 scores are not numbers: the model's weights have diverged"):
        auc(np.append(scores[1:], np.nan), labels)


def test_balanced_accuracy_does_not_reward_always_no():
    labels = np.arange(10) == 0

    assert balanced_accuracy(-np.ones(10), labels) == 0.5
    assert balanced_accuracy(np.where(labels, 1.0, -1.0), labels) == 1.0


def test_platt_recovers_the_law_that_made_the_labels(rng):
    scores = rng.normal(0.2, 0.3, 40_000)
    labels = rng.random(len(scores)) < 1 / (1 + np.exp(-(8 * scores - 1.6)))  # classes of like size

    scale, bias = platt(scores, labels)

    assert scale == pytest.approx(8, rel=0.05)
    assert -bias / scale == pytest.approx(0.2, abs=0.02)


def test_platt_weighs_the_classes_alike_and_never_turns_a_score_round(rng):
    labels = np.arange(3000) < 30
    scores = np.where(labels, 1.0, 0.0) + rng.normal(0, 0.3, 3000)

    scale, bias = platt(scores, labels)

    assert -bias / scale == pytest.approx(0.5, abs=0.1)
    assert platt(-scores, labels) == (0.0, 0.0)


def test_logistic_regression_stays_finite_on_separable_classes():
    beta = fit_logistic(np.array([[-1.0], [-2.0], [1.0], [2.0]]), np.array([0, 0, 1, 1]) > 0, ridge=1e-3)

    assert np.isfinite(beta).all() and beta[0] > 1


def test_a_probe_finds_a_leak_and_nothing_where_there_is_none(rng):
    clusters = np.repeat(np.arange(100), 4)
    labels = np.tile([True, True, False, False], 100)
    inputs = rng.normal(size=(400, 10))

    def score(x):
        return balanced_accuracy(probe(x, labels, clusters), labels)

    assert score(inputs) == pytest.approx(0.5, abs=0.08)
    leaking = inputs + 0.7 * labels[:, None] * (np.arange(10) < 3)
    assert score(leaking) > 0.65


def test_a_probe_is_never_tested_on_a_clip_it_has_seen(rng):
    clusters = np.repeat(np.arange(60), 4)
    labels = np.repeat(rng.random(60) < 0.5, 4)  # a clip's own label, which only memory could tell
    inputs = np.repeat(rng.normal(size=(60, 40)), 4, axis=0)

    assert balanced_accuracy(probe(inputs, labels, clusters), labels) < 0.65
