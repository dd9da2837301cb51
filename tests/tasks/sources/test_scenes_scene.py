"""Rendered scenes: what is seen causes what is heard, and nuisance is another matter."""

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.waveforms import log_mel
from tasks.sources.scenes import nuisance
from tasks.sources.scenes.families import FAMILIES
from tasks.sources.scenes.laws import FRAME_RATE_HZ, LENGTH_S, MARGIN_S
from tasks.sources.scenes.paint import FLOOR, HEIGHT_PX, WIDTH_PX
from tasks.sources.scenes.scene import NUM_FRAMES, draw_scene, render, render_frames, render_wave
from tasks.sources.scenes.synth import SAMPLE_RATE_HZ

STRUCK = [name for name, family in FAMILIES.items() if family.is_struck]
EDGE_PX = 2  # soft edges and rounding


@cache
def plain_scene(family):
    """A scene without distractor, so that all that moves is the thing that sounds."""
    for seed in range(50):
        scene = draw_scene(seed, 0, family)
        if setting_of(scene).distractor_place is None:
            return scene
    raise AssertionError("half of the scenes have no distractor")


@cache
def plain_frames(family):
    return render_frames(plain_scene(family))


def setting_of(scene):
    return nuisance.draw_setting(np.random.default_rng(scene.picture_seed))


def dry_wave(cause):
    """The sound of a cause alone, from the scene's start to its end."""
    start = round(MARGIN_S * SAMPLE_RATE_HZ)
    return FAMILIES[cause.family].wave(cause)[start : start + round(LENGTH_S * SAMPLE_RATE_HZ)]


def inside(box):
    """The pixels of a frame that lie within `box` and its soft edge."""
    x0, y0, x1, y1 = np.array(box) * (WIDTH_PX, HEIGHT_PX, WIDTH_PX, HEIGHT_PX)
    mask = np.zeros((HEIGHT_PX, WIDTH_PX), bool)
    rows = slice(max(int(y0) - EDGE_PX, 0), int(y1) + EDGE_PX + 1)
    mask[rows, max(int(x0) - EDGE_PX, 0) : int(x1) + EDGE_PX + 1] = True
    return mask


@pytest.mark.parametrize("family", FAMILIES)
def test_the_box_holds_all_that_tells_the_family(family):
    frames, boxes = plain_frames(family)
    room = nuisance.draw_room(setting_of(plain_scene(family))).astype(np.uint8)

    for frame, box in list(zip(frames, boxes, strict=True))[::8]:
        differs = np.abs(frame.astype(int) - room).max(axis=-1)
        assert differs[~inside(box)].max() == 0
        # A burst fades for up to a second, until the next: its last sparks are few.
        assert np.mean(differs[inside(box)] > 40) > (0.03 if family == "fireworks" else 0.05)
        assert 0.0 <= box[0] < box[2] <= 1.0 and 0.0 <= box[1] < box[3] <= 1.0


@pytest.mark.parametrize("family", FAMILIES)
def test_a_frame_shows_the_size(family):
    """The visible cause: a large one covers several times the pixels of a small one in the same frame."""
    scene = plain_scene(family)
    covered = []
    for size in (0.0, 1.0):
        cause = replace(scene.seen, size=size)
        frames, boxes = render_frames(replace(scene, seen=cause), range(6, NUM_FRAMES, 12))
        room = nuisance.draw_room(setting_of(scene)).astype(int)
        covered.append(np.mean(np.abs(frames - room).max(axis=-1) > 40))
        assert max(box[3] - box[1] for box in boxes) > 0.18

    assert covered[1] > 1.5 * covered[0]


@pytest.mark.parametrize("family", FAMILIES)
def test_the_thing_that_sounds_moves(family):
    frames, _ = plain_frames(family)

    changed = np.abs(np.diff(frames.astype(np.int16), axis=0)).max(axis=(1, 2, 3)) > 40
    assert changed.mean() > 0.4


def test_the_ball_is_on_the_floor_on_the_frame_of_each_impact():
    scene = plain_scene("ball")
    _, boxes = plain_frames("ball")
    floor = setting_of(scene).place.y_px / HEIGHT_PX + FLOOR
    bottoms = np.array([box[3] for box in boxes])

    impacts = [round(onset / 1000 * FRAME_RATE_HZ) for onset in scene.seen.beats.onsets_ms()]
    impacts = [frame for frame in impacts if frame < NUM_FRAMES]

    np.testing.assert_allclose(bottoms[impacts], floor, atol=0.01)
    assert np.mean(bottoms < floor - 0.05) > 0.4


@pytest.mark.parametrize("family", STRUCK)
def test_sound_sets_in_on_the_onsets_and_nowhere_else(family):
    scene = plain_scene(family)
    delay_ms = scene.heard.delay_s * 1000.0
    onsets_ms = np.array(scene.heard.beats.onsets_ms(delay_ms))

    flux = onset_strength(dry_wave(scene.heard))
    at_onset = [flux[max(ms // 10 - 2, 0) : ms // 10 + 3].max() for ms in onsets_ms if ms > 50]
    times_ms = np.arange(len(flux)) * 10.0
    before = np.min(np.abs(times_ms[:, None] - (onsets_ms - 70.0)), axis=1) < 25.0

    assert np.median(at_onset) > 4.0 * max(np.quantile(flux[before], 0.8), 1e-3)
    assert np.mean(np.array(at_onset) > np.median(flux[before])) > 0.95


def onset_strength(wave):
    """How much louder each band becomes from one 10 ms to the next, summed: (1000,)."""
    blocks = wave.reshape(-1, SAMPLE_RATE_HZ // 100)
    windowed = blocks * np.hanning(blocks.shape[1])
    bands = np.sqrt(np.abs(np.fft.rfft(windowed, axis=1)))
    rises = np.maximum(np.diff(bands, axis=0, prepend=bands[:1]), 0.0).sum(axis=1)
    return rises / rises.max()


@pytest.mark.parametrize("family", FAMILIES)
def test_larger_sounds_lower_in_every_family(family):
    cause = plain_scene(family).heard

    centres = [spectral_centre_hz(dry_wave(replace(cause, size=size))) for size in (0.0, 0.33, 0.67, 1.0)]

    assert np.all(np.diff(np.log2(centres)) < -0.35)


def spectral_centre_hz(wave):
    """The frequency that halves the energy."""
    power = np.cumsum(np.abs(np.fft.rfft(wave)) ** 2)
    return float(np.searchsorted(power, power[-1] / 2)) * SAMPLE_RATE_HZ / len(wave)


@pytest.mark.parametrize("family", ["ball", "glockenspiel", "guitar", "marimba", "hammer"])
@pytest.mark.parametrize("size", [0.1, 0.5, 0.9])
def test_the_strongest_partial_is_the_pitch_that_the_law_gives(family, size):
    cause = replace(plain_scene(family).heard, size=size)

    spectrum = np.abs(np.fft.rfft(dry_wave(cause)))
    strongest_hz = float(np.argmax(spectrum)) / LENGTH_S

    assert strongest_hz == pytest.approx(FAMILIES[family].pitch_hz(cause), rel=0.02)


def test_the_train_is_higher_coming_than_going():
    cause = replace(plain_scene("train").heard, size=0.5)
    wave = dry_wave(cause)
    turns = cause.beats.turns(np.arange(0.0, LENGTH_S, 0.1))
    coming = np.sin(4.0 * np.pi * turns / 10.0) < -0.5  # from a turning point to the middle
    going = np.sin(4.0 * np.pi * turns / 10.0) > 0.5
    pitch_hz = FAMILIES["train"].pitch_hz(cause)

    spectra = np.abs(np.fft.rfft(wave.reshape(100, -1) * np.hanning(3200), 32_000, axis=1))
    near = slice(int(pitch_hz * 0.8), int(pitch_hz * 1.25))
    whistle_hz = near.start + np.argmax(spectra[:, near], axis=1)

    assert np.median(whistle_hz[coming]) > 1.02 * pitch_hz > 0.98 * pitch_hz > np.median(whistle_hz[going])


def test_fireworks_are_heard_later_than_seen():
    scene = plain_scene("fireworks")

    _, _, truth = render(scene)

    lag_ms = np.array(truth.onset_ms[1:4]) - np.array(scene.seen.beats.onsets_ms())[:, None]
    assert 0.1 <= truth.causes["delay_s"] <= 0.5
    assert np.min(np.abs(lag_ms - 1000.0 * truth.causes["delay_s"])) <= 1.0


@pytest.mark.parametrize("family", FAMILIES)
def test_loudness_follows_one_law(family):
    scene = plain_scene(family)
    wave = render_wave(scene)

    drawn = nuisance.draw_acoustics(np.random.default_rng(scene.sound_seed)).loudness_db
    assert 20.0 * np.log10(nuisance.rms(wave)) == pytest.approx(drawn, abs=0.01)
    assert abs(drawn - nuisance.LOUDNESS_DB) <= nuisance.LOUDNESS_JITTER_DB
    assert wave.dtype == np.float32 and np.abs(wave).max() < 0.95


def test_nuisance_does_not_know_the_family():
    scenes = [draw_scene(3, 7, family) for family in FAMILIES]

    settings_drawn = [setting_of(scene) for scene in scenes]
    sounds = {nuisance.draw_acoustics(np.random.default_rng(scene.sound_seed)) for scene in scenes}

    assert len({(drawn.palette, drawn.place, drawn.distractor_place) for drawn in settings_drawn}) == 1
    assert all(np.array_equal(drawn.background, settings_drawn[0].background) for drawn in settings_drawn)
    assert len(sounds) == 1


def test_new_nuisance_keeps_the_cause_and_changes_picture_and_sound():
    scene = draw_scene(0, 0, "ball")
    other = scene.with_new_nuisance(99)

    frames, wave, truth = render(scene)
    new_frames, new_wave, new_truth = render(other)

    assert (other.seen, other.heard) == (scene.seen, scene.heard)
    assert (truth.onset_ms, truth.causes) == (new_truth.onset_ms, new_truth.causes)
    assert np.mean(np.abs(frames - new_frames.astype(int)) > 10) > 0.5
    assert np.abs(np.corrcoef(wave, new_wave)[0, 1]) < 0.999


def test_the_three_streams_are_independent():
    scene = draw_scene(0, 0, "bell")

    other_sound = replace(scene, sound_seed=(1, 2))
    other_picture = replace(scene, picture_seed=(1, 2))

    assert np.array_equal(render_frames(scene)[0], render_frames(other_sound)[0])
    assert np.array_equal(render_wave(scene), render_wave(other_picture))
    assert draw_scene(0, 1, "bell").seen != scene.seen


def test_a_changed_cause_leaves_the_picture_and_changes_the_sound():
    scene = draw_scene(0, 0, "guitar")
    changed = scene.with_changed_cause(5)

    assert changed.seen == scene.seen and changed.heard.family == scene.heard.family
    assert not np.array_equal(render_wave(scene), render_wave(changed))
    assert changed.heard.beats.onsets_ms() != scene.heard.beats.onsets_ms()


def test_without_a_cause_picture_and_sound_share_nothing():
    scenes = [draw_scene(0, index, "ball").without_cause() for index in range(300)]

    assert len({scene.seen.family for scene in scenes}) == 20
    assert all(scene.heard == draw_scene(0, n, "ball").heard for n, scene in enumerate(scenes[:20]))
    sizes = np.array([(scene.seen.size, scene.heard.size) for scene in scenes])
    rates = np.array([(scene.seen.beats.times_s[0], scene.heard.beats.times_s[0]) for scene in scenes])
    assert abs(np.corrcoef(sizes.T)[0, 1]) < 0.15 and abs(np.corrcoef(rates.T)[0, 1]) < 0.15


@settings(max_examples=8, deadline=None)
@given(st.integers(-2000, 2000))
def test_a_shifted_sound_is_the_same_sound_later(shift_ms):
    scene = draw_scene(0, 1, "hammer")
    shifted = scene.with_sound_shifted(shift_ms)

    wave = render_wave(scene)
    late = render_wave(shifted)
    spectrum = np.fft.rfft(late, 2 * len(late)) * np.conj(np.fft.rfft(wave, 2 * len(wave)))
    lag = int(np.argmax(np.fft.irfft(spectrum)))
    lag = lag - 2 * len(wave) if lag > len(wave) else lag

    assert lag * 1000.0 / SAMPLE_RATE_HZ == pytest.approx(shift_ms, abs=1.0)
    moved = {onset + shift_ms for onset in scene.heard.beats.onsets_ms()}
    assert {onset for onset in moved if 0 <= onset < 10_000} <= set(
        onset + slack for onset in shifted.heard.beats.onsets_ms(shift_ms) for slack in (-1, 0, 1)
    )


def test_a_shift_beyond_the_margin_is_refused():
    with pytest.raises(ValueError, match="2500 ms"):
        draw_scene(0, 0, "ball").with_sound_shifted(2500)


def test_about_half_of_the_scenes_have_a_silent_distractor_and_half_a_sound_off_screen():
    scenes = [draw_scene(0, index, "ball") for index in range(200)]

    distracted = [setting_of(scene).distractor_place is not None for scene in scenes]
    sounds = [nuisance.draw_acoustics(np.random.default_rng(scene.sound_seed)) for scene in scenes]

    assert 0.4 < np.mean(distracted) < 0.6
    assert 0.4 < np.mean([acoustics.has_off_screen for acoustics in sounds]) < 0.6
    assert all(acoustics.off_screen_db <= -12.0 for acoustics in sounds)


def test_a_distractor_moves_beside_the_stage_and_is_smaller_than_what_sounds():
    scene = next(
        scene
        for scene in (draw_scene(0, index, "metronome") for index in range(50))
        if setting_of(scene).distractor_place is not None
    )
    frames, boxes = render_frames(scene)

    outside = ~np.any([inside(box) for box in boxes], axis=0)
    assert np.ptp(frames[:, outside].astype(int), axis=0).max() > 40
    assert nuisance.DISTRACTOR_UNIT_PX * 0.66 < 0.23 * HEIGHT_PX


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_one_second_of_sound_tells_two_scenes_of_a_family_apart(family):
    """The size read from a log-mel is nearer to its own picture's than to another's of the family.

    A stand-in for a model, trained on 32 scenes of one family; chance is a half.
    """
    scenes = [draw_scene(77, index, family) for index in range(48)]
    features = np.array([loudness_by_band(render_wave(scene)) for scene in scenes])
    sizes = np.repeat([scene.heard.size for scene in scenes], features.shape[1])
    trained = np.arange(len(sizes)) < len(sizes) * 2 // 3

    read = ridge(features.reshape(len(sizes), -1), sizes, trained)
    own = np.abs(read - sizes[~trained])
    other = np.abs(read[:, None] - sizes[~trained])
    is_another = sizes[~trained][:, None] != sizes[~trained]

    assert np.mean((own[:, None] < other)[is_another]) > 0.66


def loudness_by_band(wave):
    """Mean and maximum of the log-mel in four separate seconds: (4, 2 * bands)."""
    mono = (wave[::2] * 32767).astype(np.int16)
    mel = log_mel(mono).astype(float).reshape(64, 10, 100)[:, 1:9:2]
    return np.concatenate([mel.mean(axis=2), mel.max(axis=2)]).T


def ridge(features, targets, trained):
    """Kernel ridge regression: what it reads for those that it was not trained on."""
    scaled = (features - features[trained].mean(axis=0)) / (features[trained].std(axis=0) + 1e-3)
    kernel = np.exp(-0.5 * ((scaled[:, None] - scaled) ** 2).mean(axis=2))
    among = kernel[np.ix_(trained, trained)] + 0.1 * np.eye(trained.sum())
    return kernel[np.ix_(~trained, trained)] @ np.linalg.solve(among, targets[trained] - 0.5) + 0.5
