"""The sound that players play is taken, what is loud in a file is heard, and how far both drift is known."""

import numpy as np
import pytest
from ffmpeg_runs import run_ffmpeg
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from schemas.feature import Profile
from tasks.media.cut import cut
from tasks.media.decode import decode
from tasks.media.probe import probe

LFE = 3  # its place in 5.1 and 7.1
PICTURE = ["-f", "lavfi", "-i", "testsrc2=s=64x48:r=10"]
PROFILE = Profile(frame_short_side_px=48, length_ms=2000)
# Flags and title of a second track -> whether it is heard instead of a first one that has none.
TRACKS = {
    ("default", "The film"): True,
    ("0", ""): False,
    ("default+comment", ""): False,
    ("default", "Director's Commentary"): False,
    ("default+visual_impaired", ""): False,
    ("default", "Audio Description"): False,
}


def tone(hz: int) -> list[str]:
    return ["-f", "lavfi", "-i", f"sine=f={hz}:r=16000,volume=4"]


def pitch_of(path, start_s=0.5) -> float:
    """The pitch of what extraction hears of a second, through a cut as builds make it."""
    made = cut(path, probe(path), (start_s, start_s + 1.0), path.with_name(".cut"))
    wave = decode(made.path, made.begins_s, 1.0, PROFILE).wave[:8192, 0].astype(float)
    return float(np.argmax(np.abs(np.fft.rfft(wave * np.hanning(len(wave)))))) * 16_000 / len(wave)


@pytest.mark.parametrize(
    ("suffix", "flags", "title"),
    [("mkv", *track) for track in TRACKS] + [("mp4", flags, "") for flags, title in TRACKS if not title],
)
def test_of_several_tracks_the_film_s_own_is_heard(tmp_path, suffix, flags, title):
    path = tmp_path / f"film.{suffix}"
    told = ["-disposition:a:0", "0", "-disposition:a:1", flags, "-metadata:s:a:1", f"title={title}"]
    maps = ["-map", "0:v", "-map", "1:a", "-map", "2:a", "-t", "2"]
    run_ffmpeg(*PICTURE, *tone(500), *tone(2000), *maps, "-c:v", "libx264", "-c:a", "aac", *told, path)

    assert pitch_of(path) == pytest.approx(2000 if TRACKS[flags, title] else 500, abs=10)


def test_of_several_pictures_the_default_one_is_seen(tmp_path):
    path = tmp_path / "film.mkv"
    still = ["-f", "lavfi", "-i", "color=white:s=64x48:r=10"]
    told = ["-disposition:v:0", "0", "-disposition:v:1", "default"]
    maps = ["-map", "0:v", "-map", "1:v", "-map", "2:a", "-t", "2"]
    run_ffmpeg(*still, *PICTURE, *tone(500), *maps, "-c:v", "libx264", "-c:a", "aac", *told, path)
    made = cut(path, probe(path), (0.5, 1.5), path.with_name(".cut"))

    assert decode(made.path, made.begins_s, 1.0, PROFILE).pictures[0].luma.std() > 20


@pytest.mark.parametrize("second", ["-c:a:0 libopus", "-c:a:0 aac"])
def test_each_codec_of_a_track_is_heard(tmp_path, second):
    path = tmp_path / "film.mkv"
    run_ffmpeg(*PICTURE, *tone(700), "-t", "2", "-c:v", "libx264", *second.split(), path)

    assert pitch_of(path) == pytest.approx(700, abs=10)


@settings(max_examples=12, deadline=None, derandomize=True)
@given(
    st.sampled_from(["stereo", "5.1", "7.1", "quad", "3.0"]),
    st.integers(0, 7),
    st.sampled_from(["flac", "aac"]),
    st.integers(1, 2),
)
def test_a_file_that_is_loud_in_any_channel_is_heard(tmp_path_factory, layout, channel, codec, channels):
    folder = tmp_path_factory.mktemp("loud")
    names = {"stereo": 2, "5.1": 6, "7.1": 8, "quad": 4, "3.0": 3}
    channel %= names[layout]
    # ffmpeg's AAC encoder leaves a fortieth of a tone in a channel for low frequencies: such a file is not loud.
    assume(not (codec == "aac" and layout in ("5.1", "7.1") and channel == LFE))
    pan = f"pan={layout}|c{channel}=c0"
    path = folder / "film.mkv"
    run_ffmpeg(*PICTURE, *tone(100), "-t", "2", "-af", pan, "-c:v", "libx264", "-c:a", codec, path)
    profile = Profile(frame_short_side_px=48, length_ms=2000, channels=channels)

    made = cut(path, probe(path), (0.0, 2.0), folder / ".cut")
    wave = decode(made.path, made.begins_s, 2.0, profile).wave / 32768

    whole = 0.5 * 0.5**0.5  # RMS of the tone: sine has an eighth of full scale, times 4
    assert np.sqrt(np.mean(np.square(wave[3200:-3200]), axis=0)).max() >= 0.33 * whole


@pytest.mark.parametrize("suffix", ["mkv", "mp4", "ts"])
@pytest.mark.parametrize(("late_s", "longer_s"), [(0.0, 0.0), (0.7, 0.0), (0.0, 1.5)])
def test_gaps_of_starts_and_spans_are_measured(tmp_path, suffix, late_s, longer_s):
    path = tmp_path / f"film.{suffix}"
    sound = ["-itsoffset", str(late_s), *tone(500)]
    lengths = ["-map", "0:v", "-map", "1:a", "-c:v", "libx264", "-bf", "0", "-c:a", "aac"]
    picture = ["-f", "lavfi", "-t", "4", "-i", "testsrc2=s=64x48:r=10"]
    run_ffmpeg(*picture, "-t", str(4 + longer_s), *sound, *lengths, path)

    facts = probe(path)

    assert facts.start_gap_ms == pytest.approx(1000 * late_s, abs=120)  # a packet of sound, and a frame
    assert facts.span_gap_ms == pytest.approx(1000 * longer_s, abs=250)


def test_without_sound_there_is_no_gap(tmp_path):
    run_ffmpeg(*PICTURE, "-t", "1", "-c:v", "libx264", tmp_path / "film.mp4")

    facts = probe(tmp_path / "film.mp4")

    assert (facts.start_gap_ms, facts.span_gap_ms) == (None, None)
