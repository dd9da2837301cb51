"""Steps: inside the content, in units of time, by one law, in a seeded order."""

from dataclasses import replace

import avc_fixtures as shards
import numpy as np
import pytest
from avc_fixtures import written
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from schemas.feature import Profile
from training.reading.decoding import load_batch, window_start
from training.reading.sampling import Epoch, Sampling, View, even_plan, frame_time_ms, usable, valid_steps

VIEW = View()
STEP_MS = VIEW.sound_ms

SAMPLING = Sampling(clips_per_batch=2, steps_per_clip=4, jitter_ms=200)


@pytest.fixture(scope="module")
def clocks(tmp_path_factory):
    lengths_ms = {"full": 10_000, "short": 4_500, "tiny": 1_700, "none": 900}
    clips = [shards.coded_by_time(name, valid_ms=ms) for name, ms in lengths_ms.items()]
    return written(tmp_path_factory.mktemp("clocks"), clips)


def test_every_step_lies_inside_the_content(clocks):
    clips = usable(clocks, VIEW)

    assert "none" not in clips.video_ids
    for epoch in range(20):
        for plan in Epoch(clips, SAMPLING, 0, epoch):
            centre_ms = frame_time_ms(clips.profile, plan.frames)
            start_ms = centre_ms - STEP_MS / 2 + plan.shifts_ms
            assert (start_ms >= 0).all()
            assert (start_ms + STEP_MS <= clips.clips.valid_ms[plan.rows]).all()
            assert (centre_ms < clips.clips.valid_ms[plan.rows]).all()
            assert (np.abs(plan.shifts_ms) <= SAMPLING.jitter_ms).all()


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(rate_hz=st.sampled_from([0.5, 1.0, 2.0, 4.0, 25.0]), valid_ms=st.integers(0, 10_000))
def test_valid_steps_are_exactly_those_with_a_whole_second(rate_hz, valid_ms):
    profile = Profile(frame_rate_hz=rate_hz)

    steps = set(valid_steps(profile, valid_ms, VIEW).tolist())

    for k in range(profile.num_frames):
        time_s = (k + 0.5) / rate_hz
        assert (k in steps) == (time_s >= 0.5 and 1000 * (time_s + 0.5) <= valid_ms)


def test_frame_and_sound_carry_the_same_time_code(clocks):
    clips = usable(clocks, VIEW).take(np.array([0]))

    batch = load_batch(clips, even_plan(clips, np.array([0]), 10, VIEW), VIEW)

    second_seen = (batch.frames.float().mean((1, 2, 3)).numpy() - 20) / 20
    # Sound rises by 4 dB a second: 0.4 in log10 of power, in the mel bins of its 1 kHz tone.
    loudness = batch.sound.amax(1)[:, 10:90].mean(1).numpy()
    second_heard = (loudness - loudness[0]) / 0.4
    np.testing.assert_allclose(second_seen, np.arange(10), atol=0.2)
    np.testing.assert_allclose(second_heard, np.arange(10), atol=0.1)


def test_a_shift_moves_the_sound_and_not_the_frame(clocks):
    clips = usable(clocks, VIEW).take(np.array([0]))
    plan = even_plan(clips, np.array([0]), 10, VIEW)
    late = replace(plan, shifts_ms=np.where(plan.frames < 9, 500, 0))

    here = load_batch(clips, plan, VIEW)
    there = load_batch(clips, late, VIEW)

    np.testing.assert_array_equal(here.frames, there.frames)
    # Half a second later: the second half of a window is the first half of the next second.
    np.testing.assert_array_equal(there.sound[3][:, :50], here.sound[3][:, 50:])
    np.testing.assert_array_equal(there.sound[3][:, 50:], here.sound[4][:, :50])


def test_window_starts_in_log_mel_frames():
    assert window_start(Profile(), 3, VIEW) == 300
    assert window_start(Profile(frame_rate_hz=4.0), 2, VIEW) == 12  # 0.625 s - 0.5 s, to the nearest hop
    assert window_start(Profile(), 0, VIEW) == 0


def test_order_depends_on_seed_and_epoch_only(dataset):
    clips = dataset.split("train")

    def rows(seed, epoch):
        plans = list(Epoch(clips, Sampling(8, 2), seed, epoch))
        return np.concatenate([np.stack([p.rows, p.frames, p.shifts_ms]) for p in plans], axis=1)

    np.testing.assert_array_equal(rows(1, 2), rows(1, 2))
    assert (rows(1, 2) != rows(1, 3)).any()
    assert (rows(1, 2) != rows(2, 2)).any()


def test_an_epoch_shows_each_clip_once(dataset):
    clips = dataset.split("train")

    seen = np.concatenate([plan.rows[::2] for plan in Epoch(clips, Sampling(8, 2), 0, 0)])

    assert sorted(seen.tolist()) == list(range(len(clips)))


def test_steps_of_a_clip_differ_where_there_are_enough(clocks):
    plan = Epoch(usable(clocks, VIEW), replace(SAMPLING, clips_per_batch=3), 0, 0).plan(0)

    full = usable(clocks, VIEW).video_ids.index("full")
    assert len(set(plan.frames[plan.rows == full])) == SAMPLING.steps_per_clip
    assert len(plan.rows) == 3 * SAMPLING.steps_per_clip  # the tiny clip repeats its only step


def test_frames_of_any_size_become_squares(tmp_path):
    tall = np.broadcast_to(np.arange(300, dtype=np.uint8)[None, :, None, None] // 2, (10, 300, 144, 3))
    clip = shards.coded_by_time("tall")
    clips = written(
        tmp_path, [shards.SyntheticClip("tall", "train", [], np.ascontiguousarray(tall), clip.wave)]
    )

    view = View(frame_px=64)
    batch = load_batch(clips, even_plan(clips, np.array([0]), 2, view), view)

    assert batch.frames.shape == (2, 3, 64, 64)
    assert batch.sound.shape == (2, 64, 100)
