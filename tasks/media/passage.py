"""Passages: the packets that a decoder needs for one segment, starting at a clean picture and some earlier sound."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import av
import av.container
import av.error

from tasks.media.packets import is_hidden, joints, packets_of, pts_of
from tasks.media.pictures import WITHHELD, is_key, left_over
from tasks.media.streams import MS, UNDECODABLE, audio_stream, in_ms, media_streams, open_media, video_stream

# Before a segment: overlapping windows and bit reservoirs settle, and packets lie up to 0.5 s off.
SOUND_LEAD_MS = 600
SETTLES_MS = 100  # of it may be missing
LONGEST_MS = 10_000  # of a packet of sound: lossless codecs have packets of a second and more
# A clock that goes back by more belongs to another recording: pictures are reordered by less.
SET_BACK_MS = 1000
UNSOUGHT = "ogg"  # the first packets after a seek may have any time, until the end of a page states theirs
# How far before a segment a clean picture is searched for; as a last resort, the whole file is read.
LEADS_MS = (SOUND_LEAD_MS, 5_000, 40_000, None)


@contextmanager
def passage(
    path: Path, begins_ms: int, ends_ms: int, *, near_ms: int = 0, clock: dict[str, str] | None = None
) -> Iterator[tuple[av.container.InputContainer, list[av.Packet]]]:
    """The file, opened, and the packets of both streams in file order up to those that are due at `ends_ms`.

    For a segment that begins within `near_ms` of its file's start, the packets begin there. Raises ItemError.
    """
    for lead_ms in LEADS_MS:
        with open_media(path, clock) as container:
            packets = _taken(container, (begins_ms, ends_ms), lead_ms, near_ms)
            if packets is not None:
                yield container, packets
                return


def time_ms(packet: av.Packet) -> int | None:
    """When a packet is due on its file's clock, if it states that."""
    return None if packet.pts is None else in_ms(packet.time_base)(packet.pts)


def _taken(
    container: av.container.InputContainer, span_ms: tuple[int, int], lead_ms: int | None, near_ms: int
) -> list[av.Packet] | None:
    """The packets, or None if more of the file has to be read for them."""
    begins_ms, ends_ms = span_ms
    start_ms = round((container.start_time or 0) * MS / av.time_base)
    is_near = begins_ms - max(lead_ms or 0, near_ms) <= start_ms
    is_whole = lead_ms is None or is_near or container.format.name == UNSOUGHT
    if not is_whole:
        with suppress(av.error.FFmpegError):  # a file without seeking is read from the current position
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
    """Packets of the picture up to the segment's end, and packets of the sound around the segment.

    If the clock of a stream is set back, as in joined recordings, what follows belongs to another time.
    """
    streams = media_streams(container)
    open_streams = {stream.index for stream in streams}
    lead = {stream.index: _Lead(begins_ms) for stream in streams if stream.type == "audio"}
    latest_ms: dict[int, int] = {}
    for packet in packets_of(container):
        index = packet.stream_index
        due = packet.pts if packet.dts is None else packet.dts
        due_ms = None if due is None or is_hidden(packet) else in_ms(packet.time_base)(due)
        if due_ms is not None and due_ms < latest_ms.get(index, due_ms) - SET_BACK_MS:
            open_streams.discard(index)
        if index in open_streams:
            yield from lead[index].passed(packet) if index in lead else (packet,)
        if due_ms is not None:
            latest_ms[index] = max(due_ms, latest_ms.get(index, due_ms))
            if due_ms >= ends_ms:
                open_streams.discard(index)
        if not open_streams:
            break
    for of_sound in lead.values():
        yield from of_sound.left()


@dataclass
class _Lead:
    """Passes on the sound packets that a segment needs: those that begin at most SOUND_LEAD_MS before it.

    If the first of them comes too late for the decoder to settle, the packet before it may be a long one that lasts
    until then, and is passed on too.
    """

    begins_ms: int
    _before: av.Packet | None = None

    def passed(self, packet: av.Packet) -> list[av.Packet]:
        """The packets to pass on, now that this one has arrived."""
        at_ms = time_ms(packet)
        if at_ms is not None and at_ms < self.begins_ms - SOUND_LEAD_MS:
            self._before = packet if at_ms >= self.begins_ms - LONGEST_MS else None
            return []
        before = self.left()
        is_late = at_ms is not None and at_ms > self.begins_ms - SOUND_LEAD_MS + SETTLES_MS
        return [*before, packet] if is_late else [packet]

    def left(self) -> list[av.Packet]:
        """The packet before the first one that was passed on, if it is still held."""
        before = [] if self._before is None else [self._before]
        self._before = None
        return before


def _clean_start(stream: av.VideoStream, packets: Sequence[av.Packet], begins_ms: int) -> int | None:
    """The number of a packet from which a decoder shows a clean picture at or before the segment's start.

    The last one that the container marks as key, if it is one; else the last that turns out to be one.
    """
    to_ms = in_ms(stream.time_base)
    times = [pts_of(one) for one in packets]
    before = [n for n, pts in enumerate(times) if pts is not None and to_ms(pts) <= begins_ms]
    flagged = [n for n in before if packets[n].is_keyframe]
    if not flagged:
        return None
    frames = _frames_of(stream, packets[flagged[-1] :])
    begun = next(frames, None)
    if begun is not None and _is_clean(stream, begun):
        first = begun
        if is_hidden(packets[flagged[-1]]):
            first = next((one for one in frames if one.pts is not None), None)
        if first is not None and (first.pts is None or to_ms(first.pts) <= begins_ms):
            return flagged[-1]
    numbers = {packets[n].pts: n for n in before if not is_hidden(packets[n])}
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
    """The pictures of packets that are shown, from a decoder that has been reset."""
    has_hidden = any(map(is_hidden, packets))
    return (one for one in _frames_of(stream, packets) if one.pts is not None or not has_hidden)


def _frames_of(stream: av.VideoStream, packets: Sequence[av.Packet]) -> Iterator[av.VideoFrame]:
    """The same with those of hidden packets."""
    _forget(stream)
    at_joints = joints(packets)
    for number, packet in enumerate([*packets, None]):
        yield from left_over(stream) if number in at_joints else ()
        with suppress(*UNDECODABLE):
            yield from stream.codec_context.decode(packet)


def _forget(stream: av.VideoStream) -> None:
    """Resets the decoder, so that the next packets are decoded independently."""
    if stream.codec_context.is_open:
        stream.codec_context.flush_buffers()
