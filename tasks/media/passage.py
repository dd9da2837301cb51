"""Passages: the packets that a decoder needs for one segment, from a clean picture and some earlier sound on."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import av
import av.container
import av.error

from tasks.media.pictures import WITHHELD, is_key
from tasks.media.streams import (
    MS,
    UNDECODABLE,
    audio_stream,
    in_ms,
    media_streams,
    open_media,
    packets_of,
    video_stream,
)

# Before a segment: overlapping windows and bit reservoirs settle, and packets stand up to 0.5 s off.
SOUND_LEAD_MS = 600
SETTLES_MS = 100  # of it may be missing
UNSOUGHT = "ogg"  # the first packets after a seek bear any time, until the end of a page says theirs
# How far before a segment a clean picture is looked for; in the end the whole file is read.
LEADS_MS = (SOUND_LEAD_MS, 5_000, 40_000, None)


@contextmanager
def passage(
    path: Path, begins_ms: int, ends_ms: int, *, near_ms: int = 0, clock: dict[str, str] | None = None
) -> Iterator[tuple[av.container.InputContainer, list[av.Packet]]]:
    """The file, opened, and the packets of both streams in its order up to those that are due at `ends_ms`.

    A segment that begins within `near_ms` of its file has all of them from there on. Raises ItemError.
    """
    for lead_ms in LEADS_MS:
        with open_media(path, clock) as container:
            packets = _taken(container, (begins_ms, ends_ms), lead_ms, near_ms)
            if packets is not None:
                yield container, packets
                return


def time_ms(packet: av.Packet) -> int | None:
    """When a packet is due on its file's clock, if it says so."""
    return None if packet.pts is None else in_ms(packet.time_base)(packet.pts)


def _taken(
    container: av.container.InputContainer, span_ms: tuple[int, int], lead_ms: int | None, near_ms: int
) -> list[av.Packet] | None:
    """The packets, or None where more of the file is to be read for them."""
    begins_ms, ends_ms = span_ms
    start_ms = round((container.start_time or 0) * MS / av.time_base)
    is_near = begins_ms - max(lead_ms or 0, near_ms) <= start_ms
    is_whole = lead_ms is None or is_near or container.format.name == UNSOUGHT
    if not is_whole:
        with suppress(av.error.FFmpegError):  # a file that can't be sought in is read from where it stands
            container.seek((begins_ms - (lead_ms or 0)) * av.time_base // MS)
    packets = list(_due(container, begins_ms, ends_ms))
    if begins_ms - near_ms <= start_ms:
        return packets
    video = video_stream(container)
    audio = audio_stream(container)
    seen = [] if video is None else [one for one in packets if one.stream_index == video.index]
    heard_ms = [] if audio is None else [time_ms(one) for one in packets if one.stream_index == audio.index]
    clean = 0
    if video is not None:
        clean = _clean_start(video, seen, begins_ms)
        _forget(video)
    settles_ms = begins_ms - SOUND_LEAD_MS + SETTLES_MS
    is_settled = audio is None or any(at_ms is not None and at_ms <= settles_ms for at_ms in heard_ms)
    if not is_whole and (clean is None or not is_settled):
        return None
    unclean = {id(one) for one in seen[: clean or 0]}
    return [one for one in packets if id(one) not in unclean]


def _due(container: av.container.InputContainer, begins_ms: int, ends_ms: int) -> Iterator[av.Packet]:
    """Packets of the picture up to the segment's end, of the sound those around the segment."""
    streams = media_streams(container)
    open_streams = {stream.index for stream in streams}
    sound = {stream.index for stream in streams if stream.type == "audio"}
    for packet in packets_of(container):
        index = packet.stream_index
        due = packet.pts if packet.dts is None else packet.dts
        at_ms = time_ms(packet)
        is_early = index in sound and at_ms is not None and at_ms < begins_ms - SOUND_LEAD_MS
        if index in open_streams and not is_early:
            yield packet
        if due is not None and in_ms(packet.time_base)(due) >= ends_ms:
            open_streams.discard(index)
        if not open_streams:
            return


def _clean_start(stream: av.VideoStream, packets: Sequence[av.Packet], begins_ms: int) -> int | None:
    """The number of a packet from which a decoder shows a clean picture at or before the segment's start.

    The last that the container calls key, if it is one; else the last that turns out to be.
    """
    to_ms = in_ms(stream.time_base)
    before = [n for n, one in enumerate(packets) if one.pts is not None and to_ms(one.pts) <= begins_ms]
    flagged = [n for n in before if packets[n].is_keyframe]
    if not flagged:
        return None
    first = next(shown_of(stream, packets[flagged[-1] :]), None)
    is_early = first is not None and (first.pts is None or to_ms(first.pts) <= begins_ms)
    if first is not None and is_early and _is_clean(stream, first):
        return flagged[-1]
    numbers = {packets[n].pts: n for n in before}
    clean = None
    for frame in shown_of(stream, packets[flagged[0] : before[-1] + 1]):
        if is_key(frame):
            clean = numbers.get(frame.pts, clean)
        elif clean is None and _is_clean(stream, frame) and frame.pts in numbers:
            clean = flagged[0]
    return clean


def _is_clean(stream: av.VideoStream, frame: av.VideoFrame) -> bool:
    """Whether the first picture that a decoder shows is what it was meant to be."""
    return is_key(frame) or (stream.codec_context.name in WITHHELD and not frame.is_corrupt)


def shown_of(stream: av.VideoStream, packets: Sequence[av.Packet]) -> Iterator[av.VideoFrame]:
    """The pictures of packets, by a decoder that has forgotten all others."""
    _forget(stream)
    for packet in [*packets, None]:
        with suppress(*UNDECODABLE):
            yield from stream.codec_context.decode(packet)


def _forget(stream: av.VideoStream) -> None:
    """Resets the decoder, so that the next packets are decoded afresh."""
    if stream.codec_context.is_open:
        stream.codec_context.flush_buffers()
