"""The laws by which causes become sounds and pictures."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.sources.scenes import laws
from tasks.sources.scenes.families import FAMILIES, HELD_OUT, TRAINED
from tasks.sources.scenes.scene import causes_of, changed_cause, draw_cause

seeds = st.integers(0, 2**32 - 1)
shares = st.floats(0.0, 1.0)


def test_the_largest_sounds_three_octaves_below_the_smallest():
    assert laws.pitch_hz(1.0, 100.0) == 100.0
    assert laws.pitch_hz(0.0, 100.0) == 800.0


@settings(deadline=None)
@given(shares, shares)
def test_larger_is_lower_and_looks_larger(one, other):
    small, large = sorted((one, other))

    assert laws.pitch_hz(small, 60.0) >= laws.pitch_hz(large, 60.0)
    assert laws.extent(small) <= laws.extent(large)


@settings(deadline=None)
@given(shares, shares)
def test_a_harder_blow_is_louder_and_more_things_are_more_sounds(one, other):
    less, more = sorted((one, other))

    assert laws.gain(less) <= laws.gain(more) <= 1.0
    assert laws.FEWEST <= laws.num_things(less) <= laws.num_things(more) <= laws.MOST


def test_metal_rings_longer_than_wood_and_high_partials_die_first():
    metal = laws.MATERIALS["metal"]
    wood = laws.MATERIALS["wood"]

    assert laws.decay_s(metal, 500.0) > laws.decay_s(wood, 500.0)
    assert laws.decay_s(metal, 2000.0) < laws.decay_s(metal, 500.0)


@settings(deadline=None)
@given(seeds, st.floats(1.0, 5.0))
def test_beats_cover_the_scene_with_its_margins_at_the_rate(seed, rate_hz):
    beats = laws.draw_beats(rate_hz, np.random.default_rng(seed))

    periods = np.diff(beats.times_s) * rate_hz
    assert beats.times_s[0] <= -laws.MARGIN_S
    assert beats.times_s[-1] >= laws.LENGTH_S + laws.MARGIN_S
    assert periods.min() > laws.SHORTEST_SHARE - 1e-9
    assert periods.max() < laws.LONGEST_SHARE + 1e-9


@settings(deadline=None)
@given(seeds, st.floats(1.0, 4.5))
def test_the_frame_open_at_an_onset_shows_the_contact(seed, rate_hz):
    beats = laws.draw_beats(rate_hz, np.random.default_rng(seed))

    for onset_s in (time_s for time_s in beats.times_s if 0.0 <= time_s <= laws.LENGTH_S):
        frame = round(onset_s * laws.FRAME_RATE_HZ)
        nearest = beats.exposed(frame / laws.FRAME_RATE_HZ)
        assert nearest.phase == nearest.lift == 0.0


def test_between_two_beats_a_thing_is_in_the_air():
    beats = laws.Beats((-2.0, 1.0, 2.0, 13.0), (0.1, 0.2, 0.3, 0.4))

    now = beats.exposed(1.5)

    assert (now.index, now.phase, now.lift) == (1, 0.5, 1.0)
    assert (now.force, now.next_force, now.since_s, now.until_s) == (0.2, 0.3, 0.5, 0.5)


def test_onsets_outside_the_scene_are_not_told():
    beats = laws.Beats((-0.1, 0.0, 9.999, 10.0), (0.5,) * 4)

    assert beats.onsets_ms() == [0, 9999]
    assert beats.onsets_ms(shift_ms=101.0) == [1, 101]


@pytest.mark.parametrize("family", ["rain", "boiling", "wind_chime"])
def test_count_sets_how_many_sounds_a_beat_has(family):
    cause = draw_cause(family, np.random.default_rng(1))

    times_s = np.array([time_s for time_s, _ in laws.volley(cause)])
    first, second = cause.beats.times_s[:2]
    in_first_beat = (times_s >= first) & (times_s < second)

    assert in_first_beat.sum() == cause.num_things
    assert times_s[0] == first


def test_every_family_draws_its_causes_and_phase_by_the_same_law():
    drawn = [draw_cause(name, np.random.default_rng(5)) for name in FAMILIES]

    assert len({(cause.size, cause.count) for cause in drawn}) == 1
    phases = [(-laws.MARGIN_S - cause.beats.times_s[0]) * cause.rate_hz for cause in drawn]
    np.testing.assert_allclose(phases, phases[0])


@pytest.mark.parametrize("name", FAMILIES)
def test_a_cause_is_seen_in_one_frame_or_only_in_time(name):
    """Size in a frame, rate in time: both are drawn continuously over a wide range."""
    causes = [causes_of(draw_cause(name, np.random.default_rng(seed))) for seed in range(60)]

    sizes, rates_hz = (np.array([cause[key] for cause in causes]) for key in ("size", "rate_hz"))
    assert np.ptp(sizes) > 0.9
    assert rates_hz.max() / rates_hz.min() > 1.7
    assert len(set(sizes)) == len(set(rates_hz)) == len(causes)
    assert abs(np.corrcoef(sizes, rates_hz)[0, 1]) < 0.4


@settings(deadline=None)
@given(seeds, st.sampled_from(list(FAMILIES)))
def test_a_changed_cause_is_an_octave_away(seed, name):
    rng = np.random.default_rng(seed)
    cause = draw_cause(name, rng)

    other = changed_cause(cause, rng)

    ratio = FAMILIES[name].pitch_hz(other) / FAMILIES[name].pitch_hz(cause)
    assert abs(np.log2(ratio)) > 1.0 - 1e-6
    assert 0.0 <= other.size <= 1.0
    assert other.beats != cause.beats


def test_laws_of_held_out_families_are_met_in_training():
    trained = [FAMILIES[name] for name in TRAINED]
    for name in HELD_OUT:
        family = FAMILIES[name]
        assert set(family.materials) & {material for other in trained for material in other.materials}
        assert all(any(cause in other.further_causes for other in trained) for cause in family.further_causes)
    assert len(FAMILIES) >= 20 and len(HELD_OUT) == 4
