"""Cutting and decoding go by presentation time, and what they read is never trusted."""

import numpy as np
import pytest
import timecode
from timecode import Recipe, read_number, read_time

from schemas.feature import Profile
from schemas.outcome import ItemError
from tasks import media
from tasks.decode import decode

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
    with media.open_media(path) as container:
        frame = next(container.decode(media.video_stream(container)))
        return frame.time - (container.start_time or 0) / 1e6


def cut_of(path, start_s, end_s, folder):
    return media.cut(path, media.probe(path), (start_s, end_s), folder / ".cut")


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
    start_s, source = 7.0, clips[suffix]
    made = cut_of(source, start_s, start_s + 10, tmp_path)

    cut = decode(made.path, made.begins_s, 10.0, Profile())
    uncut = decode(source, media.probe(source).start_s + start_s, 10.0, Profile())

    # Matroska notes how colours are coded where MPEG-1 left it open: two grey levels.
    differences = [
        np.abs(a.luma.astype(int) - b.luma).max() for a, b in zip(cut.pictures, uncut.pictures, strict=True)
    ]
    assert max(differences) <= (2 if suffix == "mpg" else 0)
    delays = [read_time(c, RATE) - read_time(u, RATE) for c, u in zip(*_seconds(cut, uncut), strict=True)]
    assert np.abs(delays).max() < TOLERANCE_S
    assert abs(cut.valid_ms - uncut.valid_ms) <= 2


def _seconds(*decoded):
    return [np.split(one.wave[:, 0], 10) for one in decoded]


def test_nothing_outside_the_segment_enters_a_feature(tmp_path):
    source = timecode.write(tmp_path / "long.mp4", Recipe(seconds=12))

    decoded = decode(source, 4.0, 3.0, Profile())

    assert decoded.valid_ms == 3000
    assert not decoded.wave[3 * RATE :].any()
    assert {read_number(picture.luma) for picture in decoded.pictures[3:]} == {
        6 * 25 + 24
    }  # the last one repeats


def test_a_cut_keeps_a_tenth_of_a_second_of_sound_before_the_segment(clips, tmp_path):
    made = cut_of(clips["mp4"], 9.0, 12.0, tmp_path)

    with media.open_media(made.path) as container:
        first = next(
            float(p.pts * p.time_base) for p in container.demux(media.audio_stream(container)) if p.size
        )
    assert first <= made.begins_s - media.AUDIO_LEAD_S


def test_mp4_is_used_where_the_codecs_allow_it_and_matroska_elsewhere(clips, tmp_path):
    suffixes = {name: cut_of(path, 1.0, 2.0, tmp_path).path.suffix for name, path in clips.items()}

    assert suffixes == {
        "mp4": ".mp4",
        "ts": ".mp4",
        "avi": ".mkv",
        "mkv": ".mkv",
        "webm": ".mkv",
        "mpg": ".mkv",
    }


def test_the_system_ffmpeg_cuts_the_same(clips, system_ffmpeg, tmp_path, monkeypatch):
    monkeypatch.setattr(media, "ffmpeg_path", lambda: system_ffmpeg)

    made = cut_of(clips["mp4"], 4.2, 8.2, tmp_path)

    decoded = decode(made.path, made.begins_s, 4.0, Profile())
    assert read_number(decoded.pictures[0].luma) == round(4.7 * 25 - 0.5)


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
        media.probe(tmp_path / name)

    assert raised.value.reason == "decodable"


def test_damaged_sound_is_read_by_ffmpeg_where_pyav_stops(tmp_path):
    path = timecode.write(tmp_path / "damaged.mkv", Recipe(seconds=4, audio_codec="flac"))
    content = bytearray(path.read_bytes())
    rng = np.random.default_rng(0)
    for at in rng.integers(len(content) // 2, len(content) * 9 // 10, 300):
        content[at] ^= 0xFF
    path.write_bytes(content)

    decoded = decode(path, 0.0, 4.0, Profile())

    assert decoded.decoder == "ffmpeg"
    assert read_time(decoded.wave[:RATE, 0], RATE) == pytest.approx(0.5, abs=0.03)


def test_ffmpeg_gets_no_credentials(monkeypatch, tmp_path):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    script = tmp_path / "ffmpeg"
    script.write_text(f"#!/bin/sh\nenv > {tmp_path}/environment\n")
    script.chmod(0o755)
    monkeypatch.setattr(media, "ffmpeg_path", lambda: str(script))

    media.run_ffmpeg(media.ffmpeg.input("file:a").output("file:b"))

    assert "secret" not in (tmp_path / "environment").read_text()


def test_a_full_disk_is_no_fault_of_a_clip(monkeypatch, tmp_path):
    script = tmp_path / "ffmpeg"
    script.write_text("#!/bin/sh\necho 'Error writing trailer: No space left on device' >&2\nexit 228\n")
    script.chmod(0o755)
    monkeypatch.setattr(media, "ffmpeg_path", lambda: str(script))

    with pytest.raises(OSError, match="No space left on device"):
        media.run_ffmpeg(media.ffmpeg.input("file:a").output("file:b"))
