"""Decode a clip once: its pictures and its sound on the segment's own clock.

Everything goes by presentation time, so nothing outside the segment enters a feature: frame k is the picture
on display (k + 0.5) / rate seconds after the segment's start, and the sound is cut at the sample.
"""

from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import av
import av.container
import av.stream
import ffmpeg
import numpy as np

from schemas.feature import Profile
from schemas.outcome import ItemError, Outcome
from tasks.media import in_seconds, media_streams, open_media, run_ffmpeg
from tasks.pictures import Display, Moments, Picture, on_display
from tasks.sound import Sound, heard, resampled


@dataclass
class Decoded:
    """A segment as arrays: exactly `profile.num_frames` pictures and `profile.num_samples` samples."""

    pictures: list[Picture]
    wave: np.ndarray  # int16 (samples, channels)
    valid_ms: int
    start_skew_ms: float
    audio_short_ms: float
    decoder: str = "pyav"


def decode(path: Path, begins_s: float, length_s: float, profile: Profile) -> Decoded:
    """Decodes the segment that begins at `begins_s` in `path` by PyAV, or by ffmpeg where PyAV can't.

    Raises ItemError (quarantined, `decodable`) where neither can.
    """
    try:
        return _decode(path, begins_s, length_s, profile)
    except ItemError:
        with TemporaryDirectory(prefix="mcgurk-") as folder:
            mended = Path(folder) / "mended.mkv"
            _mend(path, mended)
            decoded = _decode(mended, begins_s, length_s, profile)
        decoded.decoder = "ffmpeg"
        return decoded


def _mend(path: Path, target: Path) -> None:
    """ffmpeg reads on where PyAV stops at a damaged packet; its times stay the file's."""
    stream = ffmpeg.input(f"file:{path}", protocol_whitelist="file", copyts=None)
    options = {"c:v": "mjpeg", "q:v": 2, "pix_fmt": "yuvj420p", "c:a": "pcm_s16le", "fps_mode": "passthrough"}
    run_ffmpeg(ffmpeg.output(stream["V:0"], stream["a:0?"], f"file:{target}", **options))


def _decode(path: Path, begins_s: float, length_s: float, profile: Profile) -> Decoded:
    wanted_s = [(k + 0.5) / profile.frame_rate_hz for k in range(profile.num_frames)]
    moments = Moments(begins_s, length_s, wanted_s, profile.frame_short_side_px)
    display, sound = Display(), Sound(profile.sample_rate_hz, profile.channels)
    with open_media(path) as container:
        for stream, packets in _packets(container, begins_s + length_s):
            if isinstance(stream, av.VideoStream):
                display = on_display(stream, packets, moments)
            else:
                sound = heard(packets, begins_s, length_s, profile)
    if not display.pictures or display.first_s is None:
        raise ItemError(Outcome.QUARANTINED, "decodable", "no picture inside the segment")
    return _decoded(display, sound, length_s, profile)


def _decoded(display: Display, sound: Sound, length_s: float, profile: Profile) -> Decoded:
    wave = sound.wave(length_s)
    sound_s = len(wave) / sound.rate_hz
    ends_s = min(length_s, display.ends_s, sound_s, profile.length_ms / 1000)
    skew_s = sound.first_s() - max(display.first_s or 0.0, 0.0)
    return Decoded(
        display.pictures,
        resampled(wave, sound.rate_hz, profile),
        valid_ms=int(ends_s * 1000),
        start_skew_ms=skew_s * 1000,
        audio_short_ms=max(0.0, length_s - sound_s) * 1000,
    )


def _packets(
    container: av.container.InputContainer, ends_s: float
) -> list[tuple[av.stream.Stream, list[av.Packet]]]:
    """Each of the two streams with its packets in decode order, up to those that are due at `ends_s`."""
    streams = media_streams(container)
    packets: dict[int, list[av.Packet]] = {stream.index: [] for stream in streams}
    open_streams, seconds = set(packets), {one.index: in_seconds(one.time_base) for one in streams}
    for stream in streams:
        stream.codec_context.thread_count = 1  # workers x threads = cores
    for packet in container.demux(streams):
        if packet.stream_index in open_streams and packet.size:
            packets[packet.stream_index].append(packet)
            due = packet.pts if packet.dts is None else packet.dts
            if due is not None and seconds[packet.stream_index](due) >= ends_s:
                open_streams.discard(packet.stream_index)
        if not open_streams:
            break
    return [(stream, packets[stream.index]) for stream in streams]
