"""The pictures on display at given moments, decoding as little else as the codec allows.

All packets are at hand before the first is decoded, so it is known which pictures are wanted: packets after
the last one needed before a key frame are dropped, and of the others the decoder skips pictures that nothing
refers to. What is decoded is byte-identical to a full decode, to which anything unusual falls back.
"""

from bisect import bisect_right
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from math import inf
from typing import Literal

import av
import numpy as np
from av.video.reformatter import ColorRange, Colorspace, Interpolation, VideoReformatter

from tasks.media import in_seconds

EVEN = 2  # 4:2:0 wants even sizes
# What libav decodes: every picture, or those that others refer to.
Mode = Literal["DEFAULT", "NONREF"]
ALL: Mode = "DEFAULT"
REFERENCES: Mode = "NONREF"
H264_IDR = 5
# AVCOL_SPC_* of a frame -> what swscale converts from; all others are BT.601, as players have it.
COLORSPACES = {
    1: Colorspace.ITU709,
    4: Colorspace.FCC,
    7: Colorspace.SMPTE240M,
    9: Colorspace.BT2020,
    10: Colorspace.BT2020,
}
FULL_RANGE = 2  # AVCOL_RANGE_JPEG


@dataclass(frozen=True)
class Picture:
    """Upright 4:2:0 planes as JPEG has them (BT.601, full range): uint8, chroma at half size."""

    luma: np.ndarray  # (height, width)
    blue: np.ndarray
    red: np.ndarray


@dataclass(frozen=True)
class Moments:
    """A segment on its file's clock, and when in it (seconds after its start) pictures are wanted."""

    begins_s: float
    length_s: float
    wanted_s: Sequence[float]
    short_side_px: int


@dataclass
class Display:
    """The pictures that were on display, and when the first came on and the last went off."""

    pictures: list[Picture] = field(default_factory=list)
    shown_s: list[float] = field(default_factory=list)  # since when each of them stood
    first_s: float | None = None  # None: no picture inside the segment
    ends_s: float = 0.0


def on_display(stream: av.VideoStream, packets: Sequence[av.Packet], moments: Moments) -> Display:
    """What stood at each wanted moment, by `packets` of `stream` in decode order.

    A first picture that comes late is shown from the start; what lies behind the last one repeats it.
    """
    stamps = _stamps(packets)
    if stamps is not None:
        wanted = _wanted(stamps, moments)
        numbers = {stamps[place][1] for place in wanted}
        display = _decoded(stream, zip(packets, _schedule(stream, packets, numbers), strict=True), moments)
        if display.shown_s == [stamps[n][0] - moments.begins_s for n in wanted]:
            return _with_extent(display, stamps, moments)
        stream.codec_context.flush_buffers()
    display = _decoded(stream, ((packet, ALL) for packet in packets), moments)
    return _with_extent(display, stamps, moments) if stamps is not None else display


Stamp = tuple[float, int, float]  # presentation time, number in decode order, duration; seconds


def _stamps(packets: Sequence[av.Packet]) -> list[Stamp] | None:
    """All packets in presentation order; None where some have no time, or two have the same."""
    if not packets or any(packet.pts is None for packet in packets):
        return None
    seconds = in_seconds(packets[0].time_base)
    stamps = sorted((seconds(packet.pts), n, seconds(packet.duration)) for n, packet in enumerate(packets))
    return stamps if len({time_s for time_s, *_ in stamps}) == len(stamps) else None


def _wanted(stamps: Sequence[Stamp], moments: Moments) -> list[int]:
    """For each moment the place in `stamps` of the picture that stands then."""
    times_s = [time_s - moments.begins_s for time_s, *_ in stamps]
    inside = sum(time_s < moments.length_s for time_s in times_s)
    return [min(max(bisect_right(times_s, at_s) - 1, 0), max(inside - 1, 0)) for at_s in moments.wanted_s]


def _with_extent(display: Display, stamps: Sequence[Stamp], moments: Moments) -> Display:
    inside = [stamp for stamp in stamps if stamp[0] - moments.begins_s < moments.length_s]
    if inside and display.pictures:
        display.first_s = inside[0][0] - moments.begins_s
        display.ends_s = inside[-1][0] + inside[-1][2] - moments.begins_s
    return display


def _schedule(
    stream: av.VideoStream, packets: Sequence[av.Packet], wanted: Collection[int]
) -> list[Mode | None]:
    """What to decode of each packet: all, what others refer to, or (None) nothing at all.

    Read backwards: a packet is needed if a wanted picture follows it before the next clean key frame.
    """
    modes: list[Mode | None] = [None] * len(packets)
    lowest_pts: float = inf  # of the wanted pictures since the last key frame that was met
    for n in reversed(range(len(packets))):
        pts = packets[n].pts or 0
        if n in wanted:
            modes[n], lowest_pts = ALL, min(pts, lowest_pts)
        elif lowest_pts < inf:
            modes[n] = REFERENCES
        # Pictures that come before a key frame but are stored behind it may refer to what precedes it.
        if packets[n].is_keyframe and lowest_pts >= pts and _refreshes(stream, packets[n]):
            lowest_pts = inf
    return modes


def _refreshes(stream: av.VideoStream, packet: av.Packet) -> bool:
    """Whether nothing after this key frame refers to what stands before it (H.264 has others)."""
    if stream.codec_context.name != "h264":
        return True
    head = stream.codec_context.extradata or b""
    size = (head[4] & 3) + 1 if len(head) > 4 and head[0] == 1 else 0
    return H264_IDR in _unit_types(bytes(packet), size)


def _unit_types(data: bytes, size: int) -> Iterator[int]:
    """The types of the NAL units in a packet, each behind its length in `size` bytes, or a start code if 0."""
    if size == 0:
        yield from (piece[0] & 31 for piece in data.split(b"\x00\x00\x01")[1:] if piece)
        return
    at = 0
    while at + size < len(data):
        yield data[at + size] & 31
        at += size + int.from_bytes(data[at : at + size], "big")


def _decoded(
    stream: av.VideoStream, scheduled: Iterator[tuple[av.Packet, Mode | None]], moments: Moments
) -> Display:
    taker = _Taker(moments, float(stream.sample_aspect_ratio or 1), in_seconds(stream.time_base))
    for frame in _frames(stream, scheduled):
        if frame.pts is not None:
            taker.see(frame)
    return taker.all()


def _frames(
    stream: av.VideoStream, scheduled: Iterator[tuple[av.Packet, Mode | None]]
) -> Iterator[av.VideoFrame]:
    context = stream.codec_context
    for packet, mode in scheduled:
        if mode is not None:
            context.skip_frame = mode
            yield from context.decode(packet)
    yield from context.decode(None)


@dataclass
class _Taker:
    """Takes what stands at the wanted moments from frames in presentation order."""

    moments: Moments
    aspect: float  # of a pixel
    seconds: Callable[
        [int | None], float
    ]  # by the stream's clock: the last frames come without one of their own
    display: Display = field(default_factory=Display)
    _shown: av.VideoFrame | None = None
    _scaled: tuple[av.VideoFrame, Picture] | None = None
    _reformatter: VideoReformatter = field(default_factory=VideoReformatter)

    def see(self, frame: av.VideoFrame) -> None:
        """One frame on."""
        time_s = self._time_s(frame)
        is_inside = time_s < self.moments.length_s
        if is_inside:
            self.display.first_s = time_s if self.display.first_s is None else self.display.first_s
            self.display.ends_s = time_s + self.seconds(frame.duration)
        self._take(time_s)
        if self._shown is None or is_inside:
            self._shown = frame

    def all(self) -> Display:
        """Every wanted picture; what lies behind the last frame repeats it."""
        self._take(inf)
        return self.display

    def _time_s(self, frame: av.VideoFrame) -> float:
        return self.seconds(frame.pts) - self.moments.begins_s

    def _take(self, before_s: float) -> None:
        wanted_s, display = self.moments.wanted_s, self.display
        while self._shown is not None and len(display.pictures) < len(wanted_s):
            if wanted_s[len(display.pictures)] >= before_s:
                return
            display.shown_s.append(self._time_s(self._shown))
            display.pictures.append(self._picture(self._shown))

    def _picture(self, frame: av.VideoFrame) -> Picture:
        if self._scaled is None or self._scaled[0] is not frame:
            size = _size(frame, self.moments.short_side_px, self.aspect)
            self._scaled = (frame, scaled(frame, size, self._reformatter))
        return self._scaled[1]


def _size(frame: av.VideoFrame, short_side_px: int, aspect: float) -> tuple[int, int]:
    """(width, height) with square pixels, the short side as asked."""
    width = frame.width * aspect
    scale = short_side_px / min(width, frame.height)
    across, down = (max(EVEN, round(side * scale / EVEN) * EVEN) for side in (width, frame.height))
    return across, down


def scaled(frame: av.VideoFrame, size: tuple[int, int], reformatter: VideoReformatter) -> Picture:
    """`frame` at (width, height), turned upright."""
    width, height = size
    is_full = frame.color_range == FULL_RANGE or frame.format.name.startswith("yuvj")
    planes = reformatter.reformat(
        frame,
        width,
        height,
        "yuv420p",
        src_colorspace=COLORSPACES.get(int(frame.colorspace), Colorspace.ITU601),
        dst_colorspace=Colorspace.ITU601,
        src_color_range=ColorRange.JPEG if is_full else ColorRange.MPEG,
        dst_color_range=ColorRange.JPEG,
        interpolation=Interpolation.AREA,
        threads=1,
    ).to_ndarray()
    luma, chroma = planes[:height], planes[height:].reshape(2, height // 2, width // 2)
    turns = round(frame.rotation / 90) % 4
    return Picture(*(np.ascontiguousarray(np.rot90(plane, turns)) for plane in (luma, *chroma)))
