"""Cutting and decoding go by presentation time, and what they read is never trusted."""

import numpy as np
import pytest
import timecode
from ffmpeg_runs import run_ffmpeg
from timecode import Recipe, read_number, read_time

from schemas.feature import Profile
from schemas.outcome import ItemError
from tasks.media import streams
from tasks.media.cut import cut
from tasks.media.decode import decode
from tasks.media.measure import measure_clip
from tasks.media.passage import SOUND_LEAD_MS
from tasks.media.probe import probe

RATE = 16_000
# Matroska stores milliseconds: a cut may move by half of one, the sound by as many samples.
TOLERANCE_S = 0.002

CONTAINERS = {
    "mp4": Recipe(),
    "mkv": Recipe(audio_codec="libmp3lame"),
    "webm": Recipe(video_codec="libvpx", audio_codec="libopus", frame_rate=10, sample_rate=48_000),
    "mpg": Recipe(video_codec="mpeg1video", audio_codec="mp2"),
    "ts": Recipe(frame_rate=30),
    "avi": Recipe(video_codec="mpeg4", audio_codec="libmp3lame"),
}


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    folder = tmp_path_factory.mktemp("timecode")
    return {
        suffix: timecode.write(folder / f"long.{suffix}", recipe) for suffix, recipe in CONTAINERS.items()
    }


def first_picture(path):
    """When the first picture is on display, from the file's presentation start."""
    with streams.open_media(path) as container:
        frame = next(container.decode(streams.video_stream(container)))
        return frame.time - (container.start_time or 0) / 1e6


def cut_of(path, start_s, end_s, folder):
    return cut(path, probe(path), (start_s, end_s), folder / ".cut")


@pytest.mark.parametrize("suffix", CONTAINERS)
@pytest.mark.parametrize("start_s", [0.0, 4.2, 9.0])
def test_a_cut_shows_and_sounds_the_segments_own_time(clips, suffix, start_s, tmp_path):
    made = cut_of(clips[suffix], start_s, start_s + 10, tmp_path)

    decoded = decode(made.path, made.begins_s, 10.0, Profile())

    rate = CONTAINERS[suffix].frame_rate
    shown = np.array([read_number(picture.luma) for picture in decoded.pictures])
    at_s = start_s + np.arange(10) + 0.5 - first_picture(clips[suffix])
    # AVI stores no presentation times: libav's guess may be a frame late.
    early_s = TOLERANCE_S + (1 / rate if suffix == "avi" else 0.0)
    earliest, latest = (np.floor((at_s + edge) * rate) for edge in (-early_s, TOLERANCE_S))
    assert np.all((earliest <= shown) & (shown <= latest)), (shown / rate, at_s)
    for second in range(10):
        piece = decoded.wave[second * RATE : (second + 1) * RATE, 0]
        assert read_time(piece, RATE) == pytest.approx(start_s + second + 0.5, abs=0.03)


@pytest.mark.parametrize("suffix", CONTAINERS)
def test_features_of_the_cut_and_of_the_uncut_file_agree(clips, suffix, tmp_path):
    start_s = 7.0
    source = clips[suffix]
    made = cut_of(source, start_s, start_s + 10, tmp_path)

    of_cut = decode(made.path, made.begins_s, 10.0, Profile())
    uncut = decode(source, probe(source).start_s + start_s, 10.0, Profile())

    for one, other in zip(of_cut.pictures, uncut.pictures, strict=True):
        assert np.array_equal(one.luma, other.luma) and np.array_equal(one.red, other.red)
    assert np.array_equal(of_cut.wave, uncut.wave)
    assert (of_cut.valid_ms, of_cut.start_skew_ms) == (uncut.valid_ms, uncut.start_skew_ms)


def test_nothing_outside_the_segment_enters_a_feature(tmp_path):
    source = timecode.write(tmp_path / "long.mp4", Recipe(seconds=12))

    decoded = decode(source, 4.0, 3.0, Profile())

    assert decoded.valid_ms == 3000
    assert not decoded.wave[3 * RATE :].any()
    assert {read_number(picture.luma) for picture in decoded.pictures[3:]} == {
        6 * 25 + 24
    }  # the last one repeats


def test_a_cut_keeps_sound_before_the_segment(clips, tmp_path):
    made = cut_of(clips["mp4"], 9.0, 12.0, tmp_path)

    with streams.open_media(made.path) as container:
        first = next(
            float(p.pts * p.time_base) for p in container.demux(streams.audio_stream(container)) if p.size
        )
    assert first == pytest.approx(made.begins_s - SOUND_LEAD_MS / 1000, abs=0.03)


def test_a_picture_that_stands_on_its_side_is_turned_upright(tmp_path):
    decoded = decode(timecode.write(tmp_path / "clip.mp4", Recipe(seconds=2)), 0.0, 2.0, Profile())

    assert decoded.pictures[0].luma.shape == (128, 192)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("empty.mp4", b""),
        ("page.mp4", b"<!doctype html><html><body>not found</body></html>"),
        ("list.mp4", b"#EXTM3U\n#EXTINF:10,\nfile:///etc/passwd\n"),
        ("concat.mp4", b"ffconcat version 1.0\nfile /etc/passwd\n"),
        ("noise.mp4", bytes(range(256)) * 64),
    ],
)
def test_what_is_no_media_file_is_an_item_error(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)

    with pytest.raises(ItemError) as raised:
        probe(tmp_path / name)

    assert raised.value.reason == "decodable"


@pytest.fixture
def damaged(tmp_path):
    """Four seconds whose sound is damaged from the third on."""
    path = timecode.write(tmp_path / "damaged.mkv", Recipe(seconds=4, audio_codec="flac"))
    with streams.open_media(path) as container:
        sound = [packet for packet in container.demux(container.streams.audio[0]) if packet.size]
        places = [(packet.pos, packet.size) for packet in sound if packet.pts > 2300]
    content = bytearray(path.read_bytes())
    for start, size in places:
        content[start + size // 2] ^= 0xFF
    path.write_bytes(content)
    return path


def test_damage_that_touches_the_sound_is_told(damaged):
    with pytest.raises(ItemError, match=r"decodable.*its sound at 2\.\d+ s does not decode"):
        decode(damaged, 0.0, 4.0, Profile())


def test_damage_elsewhere_is_none_of_a_segments_business(damaged):
    decoded = decode(damaged, 0.0, 2.0, Profile())

    assert read_time(decoded.wave[:RATE, 0], RATE) == pytest.approx(0.5, abs=0.03)


def test_a_full_disk_is_no_fault_of_a_clip(clips, tmp_path):
    (tmp_path / "cut.mkv").symlink_to("/dev/full")

    with pytest.raises(OSError, match="No space left on device"):
        cut(clips["mp4"], probe(clips["mp4"]), (1.0, 2.0), tmp_path / "cut")


def test_one_picture_stands_as_long_as_its_sound(tmp_path):
    path = tmp_path / "still.mp4"
    sound = timecode.write(tmp_path / "film.mp4", Recipe(seconds=4))
    run_ffmpeg("-i", sound, "-frames:v", 1, tmp_path / "one.png")
    run_ffmpeg("-i", tmp_path / "one.png", "-i", sound, "-map", "0:v", "-map", "1:a", path)

    decoded = decode(path, 0.0, 4.0, Profile())

    assert decoded.valid_ms == 4000
    assert measure_clip(decoded, Profile())["frozen_share"] == 1.0
