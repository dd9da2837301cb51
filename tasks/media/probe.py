"""What a media file states about itself, and its packets if its header can't be trusted."""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import av
import av.container
import av.error
import av.stream

from tasks.media.packets import packets_of
from tasks.media.streams import MS, audio_stream, media_streams, open_media, video_stream

# Some headers count their duration from the clock's zero: for a clock that starts later, the duration is unknown.
LATE_S = 1.0
TAIL_S = 10.0  # before the end that a header states: key frames lie up to about this far apart


@dataclass(frozen=True)
class Probe:
    """What a media file states about itself; unknown times are None."""

    container: str
    start_s: float
    duration_s: float | None
    video_codec: str | None = None
    width_px: int | None = None
    height_px: int | None = None
    frame_rate_hz: float | None = None
    audio_codec: str | None = None
    sample_rate_hz: int | None = None
    channels: int | None = None
    start_gap_ms: float | None = None  # sound minus picture
    span_gap_ms: float | None = None

    @property
    def has_video(self) -> bool:
        """Whether there is a moving picture, not only cover art."""
        return self.video_codec is not None

    @property
    def has_audio(self) -> bool:
        """Whether there is a sound track."""
        return self.audio_codec is not None


def probe(path: Path) -> Probe:
    """What the header of `path` states, and its packets if the header can't be trusted.

    Raises ItemError (quarantined, `decodable`).
    """
    with open_media(path) as container:
        video = video_stream(container)
        audio = audio_stream(container)
        facts: dict = {}
        if video is not None:
            rate = video.average_rate or video.guessed_rate
            facts |= {"video_codec": video.codec_context.name, "frame_rate_hz": float(rate) if rate else None}
            facts |= {"width_px": video.codec_context.width, "height_px": video.codec_context.height}
        if audio is not None:
            context = audio.codec_context
            facts |= {"audio_codec": context.name, "sample_rate_hz": context.sample_rate}
            facts |= {"channels": context.layout.nb_channels}
        if video is not None and audio is not None:
            facts |= _gaps_ms(path, container)
        return Probe(container.format.name, *_span_s(path, container), **facts)


def _span_s(path: Path, container: av.container.InputContainer) -> tuple[float, float | None]:
    """When a file starts on its clock, and how long it is."""
    start_s = (container.start_time or 0) / av.time_base
    stated_s = container.duration / av.time_base if container.duration else None
    if stated_s is not None and start_s <= LATE_S:
        return start_s, stated_s
    ends_s = _ends_s(path, None if stated_s is None else start_s + stated_s - TAIL_S) or _ends_s(path, None)
    end_s = max(ends_s.values(), default=start_s)
    return start_s, end_s - start_s if end_s > start_s else stated_s


def _gaps_ms(path: Path, container: av.container.InputContainer) -> dict[str, float]:
    """How much later the sound starts than the picture, and how much longer it is; empty if unknown."""
    streams = media_streams(container)
    starts_s = {one.index: _at(one, one.start_time) for one in streams}
    ends_s = {one.index: _stated_end_s(one) for one in streams}
    if None in ends_s.values():
        ends_s = _ends_s(path, container.duration / av.time_base - TAIL_S if container.duration else None)
    picture, sound = (one.index for one in streams)
    gaps = {}
    if (begun := _difference(starts_s, sound, picture)) is not None:
        gaps["start_gap_ms"] = begun * MS
        if (ended := _difference(ends_s, sound, picture)) is not None:
            gaps["span_gap_ms"] = (ended - begun) * MS
    return gaps


def _difference(times_s: Mapping[int, float | None], one: int, other: int) -> float | None:
    """The time of one stream minus that of another, if both are known."""
    first = times_s.get(one)
    second = times_s.get(other)
    return None if first is None or second is None else first - second


def _at(stream: av.stream.Stream, ticks: int | None) -> float | None:
    return None if ticks is None or stream.time_base is None else float(ticks * stream.time_base)


def _stated_end_s(stream: av.stream.Stream) -> float | None:
    if stream.duration is None or stream.start_time is None:
        return None
    return _at(stream, stream.start_time + stream.duration)


def _ends_s(path: Path, from_s: float | None) -> dict[int, float]:
    """When the last packet of each stream ends, by its index, read from before `from_s` or the whole file."""
    ends_s: dict[int, float] = {}
    with open_media(path) as container:
        if from_s is not None:
            with suppress(av.error.FFmpegError):  # without seeking, it is read from the current position
                container.seek(max(0, int(from_s * av.time_base)))
        for packet in packets_of(container):
            if packet.pts is not None:
                end_s = float((packet.pts + (packet.duration or 0)) * packet.time_base)
                ends_s[packet.stream_index] = max(end_s, ends_s.get(packet.stream_index, end_s))
    return ends_s


def answer_probe(path: str) -> tuple[dict[str, Any], dict[str, bytes]]:
    """`probe`, as `tasks.media.sandbox` calls it."""
    return asdict(probe(Path(path))), {}
