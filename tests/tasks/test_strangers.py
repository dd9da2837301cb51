"""What strangers' files do: parameters that change, headers that lie, pictures that nobody could verify."""

import struct
from dataclasses import replace

import numpy as np
import pytest
from ffmpeg_runs import run_ffmpeg
from generated_films import RATE, Film, Played, lag_s, shown_ms

from schemas.feature import Profile
from schemas.outcome import ItemError
from tasks.media import streams
from tasks.media.cut import cut
from tasks.media.decode import decode
from tasks.media.probe import probe

FILM = Film("ts", "libx264", "aac", "25", 48_000, 25, 0, False, 0.0, 0.0, 0.0, 0.0, False)
PROFILE = Profile("strange", length_ms=6000, frame_rate_hz=2.0, frame_short_side_px=96)
CHANGES_S = 3.0
# Sounds of which a packet lasts from 0.12 to 1 s.
LONG_PACKETS = {
    "libopus -frame_duration 120": "mkv",
    "adpcm_ms -ar 8000": "avi",
    "wavpack": "mkv",
    "flac -frame_size 32768": "mkv",
    "tta": "mkv",
}
# Rates and sample formats: suffix -> sound codecs with their options.
FORMS = {
    "mov": ("pcm_mulaw -ar 8000", "pcm_alaw -ar 11025", "pcm_s24le", "pcm_s16be -ar 44100", "adpcm_ima_qt -ar 22050"),
    "avi": ("pcm_u8 -ar 22050", "adpcm_ms -ar 11025", "libmp3lame -ar 44100", "pcm_f32le -ar 12000"),
    "mkv": (
        "flac -ar 96000", "pcm_f32le -ar 192000", "pcm_s32le", "pcm_f64le", "tta -ar 88200", "wavpack -ar 32000",
        "libvorbis -ar 24000", "eac3 -ar 32000", "libopus", "aac -ar 7350",
    ),
    "mp4": ("alac", "libmp3lame -ar 24000", "ac3 -ar 44100"),
}  # fmt: skip


def spliced(folder, *second):
    """A film whose second half was encoded otherwise, with its own clock going on."""
    whole = FILM.write(folder)
    options = ("-c:v", "libx264", "-preset", "veryfast", "-crf", 16, "-c:a", "aac", "-muxdelay", 0)
    run_ffmpeg("-i", whole, "-t", CHANGES_S, *options, folder / "first.ts")
    run_ffmpeg(
        "-ss", CHANGES_S, "-i", whole, *options, *second, "-output_ts_offset", CHANGES_S, folder / "second.ts"
    )
    both = folder / "both.ts"
    both.write_bytes((folder / "first.ts").read_bytes() + (folder / "second.ts").read_bytes())
    return both, Played.of(whole)


def test_sound_whose_rate_and_channels_change_keeps_its_pitch_and_place(tmp_path):
    both, played = spliced(tmp_path, "-ar", 22_050, "-ac", 2)
    facts = probe(both)

    made = cut(both, facts, (0.0, 6.0), tmp_path / "cut")
    wave = decode(made.path, made.begins_s, 6.0, PROFILE).wave[:, 0] / 32768

    for start_s in (1.0, 4.0):  # on either side
        piece = wave[round(start_s * RATE) : round((start_s + 1) * RATE)]
        lag = lag_s(piece, played.wave, start_s)
        assert lag is not None and abs(lag) < 0.045  # of two encoders, each with its delay
        around = played.wave[round((start_s - lag) * RATE) :][: len(piece)]
        assert np.corrcoef(piece, around)[0, 1] > 0.95


def test_pictures_whose_size_changes_come_in_one_size(tmp_path):
    both, _ = spliced(tmp_path, "-vf", "scale=192:144")
    facts = probe(both)

    made = cut(both, facts, (0.0, 6.0), tmp_path / "cut")
    pictures = decode(made.path, made.begins_s, 6.0, PROFILE).pictures

    assert {picture.luma.shape for picture in pictures} == {(96, 128)}
    shown = np.array([shown_ms(picture.luma) for picture in pictures])
    assert np.abs(np.diff(shown) - 500).max() <= 80


@pytest.mark.parametrize(
    "film",
    [
        replace(FILM, container="webm", video="libvpx", audio="libopus", is_streamed=True),
        replace(FILM, container="mp4", is_streamed=True),
        replace(FILM, container="flv", sample_rate=44_100),
        replace(FILM, container="mkv", clock_s=120.0),
        replace(FILM, clock_s=95_440.0),
    ],
    ids=["live webm", "fragments", "flv", "late mkv", "wrapping ts"],
)
def test_a_film_is_as_long_as_its_packets_whatever_its_header_states(film, tmp_path):
    assert probe(film.write(tmp_path)).duration_s == pytest.approx(7.0, abs=0.15)


def test_a_stream_whose_header_states_no_duration_is_as_long_as_its_packets(tmp_path):
    whole = replace(FILM, container="mkv").write(tmp_path)
    run_ffmpeg("-i", whole, "-c", "copy", "-f", "matroska", "-live", 1, tmp_path / "live.mkv")

    assert probe(tmp_path / "live.mkv").duration_s == pytest.approx(7.0, abs=0.1)


def damaged(path, from_s, to_s):
    """The pictures of a time are overwritten, all but their heads."""
    with streams.open_media(path) as container:
        video = streams.video_stream(container)
        places = [
            (p.pos, p.size) for p in container.demux(video) if p.size and from_s <= p.pts * p.time_base < to_s
        ]
    content = bytearray(path.read_bytes())
    for start, size in places:
        content[start + size // 3 : start + size] = bytes(size - size // 3)
    path.write_bytes(content)


def test_a_picture_that_is_damaged_is_no_sample(tmp_path):
    path = replace(FILM, container="mp4", key_every=100).write(tmp_path)
    damaged(path, 2.0, 3.0)

    with pytest.raises(ItemError, match="decodable.*picture"):
        decode(path, 0.0, 6.0, PROFILE)


def test_pictures_that_lean_on_a_damaged_one_are_no_sample(tmp_path):
    path = replace(FILM, container="mp4", key_every=100).write(tmp_path)
    damaged(path, 2.1, 2.2)

    with pytest.raises(ItemError, match="decodable.*picture"):
        decode(path, 2.3, 1.0, replace(PROFILE, length_ms=1000))


def test_what_stands_before_the_last_key_picture_is_of_no_interest(tmp_path):
    path = replace(FILM, container="mp4", key_every=25).write(tmp_path)
    damaged(path, 0.5, 0.9)

    decoded = decode(path, 2.0, 2.0, replace(PROFILE, length_ms=2000))

    assert decoded.valid_ms == 2000


@pytest.mark.parametrize(("codec", "suffix"), LONG_PACKETS.items())
def test_sound_in_long_packets_is_heard_from_the_beginning_of_a_segment(tmp_path, codec, suffix):
    path = tmp_path / f"long.{suffix}"
    run_ffmpeg("-i", FILM.write(tmp_path), "-c:v", "mpeg4", "-c:a", *codec.split(), path)
    played = Played.of(path)
    facts = probe(path)

    for start_s in (1.3, 2.17, 3.7):
        made = cut(path, facts, (start_s, start_s + 1), tmp_path / "cut")
        wave = decode(made.path, made.begins_s, 1.0, PROFILE).wave[: RATE // 10, 0] / 32768
        lag = lag_s(wave, played.wave, start_s)
        assert lag is not None and abs(lag) <= 0.001
        there = played.wave[round((start_s - lag) * RATE) :][: len(wave)]
        assert wave.std() == pytest.approx(there.std(), rel=0.05)  # nothing of it is silent


@pytest.mark.parametrize(
    ("suffix", "codec"), [(one, codec) for one, codecs in FORMS.items() for codec in codecs]
)
def test_sounds_of_every_rate_and_format_keep_their_place_and_level(tmp_path, suffix, codec):
    path = tmp_path / f"form.{suffix}"
    run_ffmpeg("-i", FILM.write(tmp_path), "-c:v", "mpeg4", "-c:a", *codec.split(), path)
    played = Played.of(path)

    made = cut(path, probe(path), (2.17, 3.17), tmp_path / "cut")
    wave = decode(made.path, made.begins_s, 1.0, PROFILE).wave[:RATE, 0] / 32768

    lag = lag_s(wave, played.wave, 2.17)
    assert lag is not None and abs(lag) <= 0.001
    assert wave.std() == pytest.approx(played.wave[round(2.17 * RATE) :][:RATE].std(), rel=0.05)


@pytest.mark.parametrize("suffix", ["ts", "mpg"])
def test_recordings_that_were_joined_are_not_mixed(tmp_path, suffix):
    whole = FILM.write(tmp_path)
    codecs = ("-c:v", "mpeg2video", "-q:v", 2, "-c:a", "mp2")
    for name, start_s, length_s in (("first", 4, 2), ("second", 0, 4)):  # each with a clock from zero
        span = ("-ss", start_s, "-t", length_s)
        run_ffmpeg(*span, "-i", whole, *codecs, tmp_path / f"{name}.{suffix}")
    both = tmp_path / f"both.{suffix}"
    both.write_bytes(b"".join((tmp_path / f"{name}.{suffix}").read_bytes() for name in ("first", "second")))
    facts = probe(both)

    made = cut(both, facts, (0.0, 4.0), tmp_path / "cut")
    decoded = decode(made.path, made.begins_s, 4.0, PROFILE)

    assert decoded.valid_ms == pytest.approx(2000, abs=80)
    for k, picture in enumerate(decoded.pictures[:3]):
        assert shown_ms(picture.luma) == pytest.approx(4000 + 500 * k + 250, abs=80)
    lag = lag_s(decoded.wave[RATE // 2 : RATE * 3 // 2, 0] / 32768, Played.of(whole).wave, 4.5)
    assert lag is not None and abs(lag) < 0.045  # of two encoders, each with its delay


def test_what_an_edit_list_hides_at_the_end_is_not_missed(tmp_path):
    path = replace(FILM, container="mp4", b_pictures=2).write(tmp_path)
    data = bytearray(path.read_bytes())
    at = data.find(b"elst")
    while at >= 0:
        (length,) = struct.unpack_from(">I", data, at + 12)
        struct.pack_into(">I", data, at + 12, length * 4 // 7)  # of its seconds are shown
        at = data.find(b"elst", at + 1)
    path.write_bytes(data)
    facts = probe(path)

    made = cut(path, facts, (2.5, 6.0), tmp_path / "cut")
    decoded = decode(made.path, made.begins_s, 3.5, PROFILE)

    assert decoded.valid_ms == pytest.approx(1500, abs=40)
    assert [shown_ms(one.luma) for one in decoded.pictures[:3]] == pytest.approx([2720, 3240, 3720], abs=40)
