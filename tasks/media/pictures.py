"""The pictures on display at given moments, decoding as little else as the codec allows.

All packets are known before the first is decoded, and so are the required pictures: packets between the last required
one and the next key frame are dropped, and the decoder skips pictures that no other picture refers to. The result is
byte-identical to a full decode: the pictures shown are compared with the expected ones, and any doubt leads to a full
decode.
"""

from bisect import bisect_right
from collections.abc import Collection, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import pairwise
from math import inf
from typing import Literal

import av
from av.video.frame import PictureType
from av.video.reformatter import VideoReformatter

from tasks.media.colour import Picture, is_hdr, upright
from tasks.media.packets import is_hidden, joints
from tasks.media.streams import MS, UNDECODABLE, Clock, in_ms

EVEN = 2  # 4:2:0 requires even sizes
# What libav decodes: every picture, or those that others refer to.
Mode = Literal["DEFAULT", "NONREF"]
ALL: Mode = "DEFAULT"
REFERENCES: Mode = "NONREF"
# Codecs whose packets may be left out: their decoders obey `skip_frame` from packet to packet, and their pictures are
# never wrongly flagged as key. libdav1d reads the option only once; H.263 and MPEG-4 are flagged arbitrarily.
SPARED = {"h264", "hevc", "mpeg1video", "mpeg2video", "vp8", "vp9", "mjpeg", "prores", "dnxhd"}
# Codecs whose decoders withhold pictures whose references are missing; each of their packets holds a picture.
WITHHELD = {"h264", "hevc"}
# A frame that appears so shortly after a moment counts as displayed then, whatever its container rounded.
TIE_SHARE = 0.25
TIE_S = 0.0012  # what containers and we round; a picture comes on no earlier than by this
H264_IDR = 5


@dataclass(frozen=True)
class Moments:
    """A segment on its file's clock, and when in it (seconds after its start) pictures are needed."""

    clock: Clock
    length_s: float
    wanted_s: Sequence[float]
    short_side_px: int


@dataclass
class Display:
    """The pictures that were on display, and when the first appeared and the last disappeared."""

    pictures: list[Picture] = field(default_factory=list)
    shown_s: list[float] = field(default_factory=list)  # when each of them appeared
    first_s: float | None = None  # None: no picture inside the segment
    ends_s: float = 0.0
    fault: str = ""  # what is wrong with one of the pictures
    is_tone_mapped: bool = False  # from a higher dynamic range than our pictures have


Stamp = tuple[float, int]  # presentation time in seconds, number in decode order


def on_display(
    stream: av.VideoStream, packets: Sequence[av.Packet], moments: Moments, *, sparing: bool
) -> Display:
    """The picture on display at each wanted moment, from `packets` of `stream` in decode order.

    A first picture that comes late is shown from the start; the last one is repeated after its end. `sparing` leaves
    out what the codec allows: if that display has a fault, a fresh decoder with all packets may do better.
    """
    stamps = _stamps(packets, moments)
    if stamps is None or not sparing or stream.codec_context.name not in SPARED:
        everything: list[Mode | None] = [ALL] * len(packets)
        decoded = _decoded(stream, packets, everything, _Taker(stream, moments))
        # Frames arrive in display order, whatever their packets state.
        if decoded.came != sorted(decoded.came):
            stream.codec_context.flush_buffers()
            again = _Taker(stream, moments, times=sorted(decoded.came))
            decoded = _decoded(stream, packets, everything, again)
        decoded.display.fault = decoded.display.fault or _fault(packets, stamps or (), decoded)
    else:
        wanted = _wanted([time_s for time_s, _ in stamps], moments)
        modes = _schedule(stream, packets, {stamps[place][1] for place in wanted})
        decoded = _decoded(stream, packets, modes, _Taker(stream, moments))
        due_s = [stamps[place][0] for place in wanted]
        if decoded.display.shown_s != due_s or _is_doubtful(packets, modes, decoded):
            decoded.display.fault = "what was left out is missing"
    return decoded.display if stamps is None else _with_extent(decoded.display, stamps, moments)


def _stamps(packets: Sequence[av.Packet], moments: Moments) -> list[Stamp] | None:
    """All packets in presentation order; None if some have no time, or two have the same.

    Packets that an edit list hides are left out: they are decoded, but never shown.
    """
    if not packets:
        return None
    time_s = moments.clock.of(packets[0].time_base)
    shown = [(packet.pts, n) for n, packet in enumerate(packets) if not is_hidden(packet)]
    stamps = [(time_s(pts), n) for pts, n in shown if pts is not None]
    return sorted(stamps) if len({at_s for at_s, _ in stamps}) == len(stamps) == len(shown) else None


def _wanted(times_s: Sequence[float], moments: Moments) -> list[int]:
    """For each moment, the index among ascending times of the picture that is on display."""
    inside = max(sum(time_s < moments.length_s for time_s in times_s), 1)
    return [min(_standing(times_s, at_s), inside - 1) for at_s in moments.wanted_s]


def _standing(times_s: Sequence[float], at_s: float) -> int:
    place = max(bisect_right(times_s, at_s) - 1, 0)
    following = times_s[place : place + 2]
    return place + (len(following) == 2 and at_s >= _comes_on_s(*following))


def _comes_on_s(shown_s: float, next_s: float) -> float:
    """The time from which the next picture counts as being on display."""
    return next_s - min(TIE_SHARE * (next_s - shown_s), TIE_S)


def _with_extent(display: Display, stamps: Sequence[Stamp], moments: Moments) -> Display:
    inside = [stamp for stamp in stamps if stamp[0] < moments.length_s]
    if inside and display.pictures:
        display.first_s = inside[0][0]
        display.ends_s = _off_s(stamps, len(inside))
    return display


def _off_s(stamps: Sequence[Stamp], place: int) -> float:
    """When the picture before `place` disappears: when the next one appears.

    The last one lasts as long as the one before it: what a container states about it is not in a cut.
    """
    if place < len(stamps):
        return stamps[place][0]
    if len(stamps) == 1:  # a sound with a picture: it is shown as long as there is something to hear
        return inf
    return 2 * stamps[-1][0] - stamps[-2][0]


def _schedule(
    stream: av.VideoStream, packets: Sequence[av.Packet], wanted: Collection[int]
) -> list[Mode | None]:
    """How to decode each packet: completely, only for others that refer to it, or (None) not at all.

    Works backwards: a packet is needed if a wanted picture follows it before the next clean key frame.
    """
    modes: list[Mode | None] = [None] * len(packets)
    lowest_pts: float = inf  # of the wanted pictures since the last key frame encountered
    for n in reversed(range(len(packets))):
        pts = packets[n].pts or 0
        if n in wanted:
            modes[n] = ALL
            lowest_pts = min(pts, lowest_pts)
        elif lowest_pts < inf:
            modes[n] = REFERENCES
        # Pictures that come before a key frame but are stored behind it may refer to what precedes it.
        if packets[n].is_keyframe and lowest_pts >= pts and _refreshes(stream, packets[n]):
            lowest_pts = inf
    return modes


def _refreshes(stream: av.VideoStream, packet: av.Packet) -> bool:
    """Whether nothing after this key frame refers to anything before it (H.264 has other key frames, too)."""
    if stream.codec_context.name != "h264":
        return True
    head = stream.codec_context.extradata or b""
    size = (head[4] & 3) + 1 if len(head) > 4 and head[0] == 1 else 0
    return H264_IDR in _unit_types(bytes(packet), size)


def _unit_types(data: bytes, size: int) -> Iterator[int]:
    """The types of the NAL units in a packet, each preceded by its length in `size` bytes, or a start code if 0."""
    if size == 0:
        yield from (piece[0] & 31 for piece in data.split(b"\x00\x00\x01")[1:] if piece)
        return
    at = 0
    while at + size < len(data):
        yield data[at + size] & 31
        at += size + int.from_bytes(data[at : at + size], "big")


def _decoded(
    stream: av.VideoStream, packets: Sequence[av.Packet], modes: Sequence[Mode | None], taker: "_Taker"
) -> "_Taker":
    at_joints = joints(packets)
    for n, packet in enumerate([*packets, None]):
        for frame in left_over(stream) if n in at_joints else ():
            taker.see(frame)
        mode = modes[n] if packet else ALL
        if mode is None:
            continue
        stream.codec_context.skip_frame = mode
        try:
            for frame in stream.codec_context.decode(packet):
                taker.see(frame)
        except UNDECODABLE:
            taker.broken.append(n)
    return taker.ended()


def left_over(stream: av.VideoStream) -> list[av.VideoFrame]:
    """The pictures that the decoder still holds; it is reset."""
    left: list[av.VideoFrame] = []
    with suppress(*UNDECODABLE):
        left += stream.codec_context.decode(None)
    stream.codec_context.flush_buffers()
    return left


def is_key(frame: av.VideoFrame) -> bool:
    """Whether a picture refers to no other, according to its decoder."""
    return bool(frame.key_frame) or frame.pict_type in (PictureType.I, PictureType.NONE)


def _is_doubtful(packets: Sequence[av.Packet], modes: Sequence[Mode | None], decoded: "_Taker") -> bool:
    """Whether decoding began at a packet that was not a key picture, or had trouble."""
    begun = [n for n, mode in enumerate(modes) if mode and (n == 0 or modes[n - 1] is None)]
    return bool(decoded.broken or decoded.damaged) or not all(decoded.seen.get(packets[n].pts) for n in begun)


def _fault(packets: Sequence[av.Packet], stamps: Sequence[Stamp], decoded: "_Taker") -> str:
    """What is wrong with a picture from a decode of all packets; empty if no fault is known."""
    lost_s = {time_s for time_s, n in stamps if n in decoded.broken} | _withheld_s(packets, stamps, decoded)
    came_s = {decoded.time_s(pts) for pts in decoded.seen if pts is not None}
    times_s = sorted(came_s | {one for one in lost_s if one > min(came_s, default=inf)})
    for place, shown_s in zip(_wanted(times_s, decoded.moments), decoded.display.shown_s, strict=False):
        if times_s[place] != shown_s:
            return f"its picture at {times_s[place]:.3f} s does not decode"
        if _leans_on_broken(packets, decoded, shown_s):
            return f"its picture at {shown_s:.3f} s refers to one that does not decode"
    return ""


def _withheld_s(packets: Sequence[av.Packet], stamps: Sequence[Stamp], decoded: "_Taker") -> set[float]:
    """The times of pictures that the decoder withheld; a single one is the second field of the previous picture."""
    if decoded.stream.codec_context.name not in WITHHELD:
        return set()
    missing = [packets[n].pts not in decoded.seen for _, n in stamps]
    pairs = [here and after for here, after in pairwise([False, *missing, False])]
    return {stamp[0] for stamp, *near in zip(stamps, pairs[:-1], pairs[1:], strict=True) if any(near)}


def _leans_on_broken(packets: Sequence[av.Packet], decoded: "_Taker", shown_s: float) -> bool:
    """Whether a referenced packet that did not decode lies between a picture and its key picture."""
    broken = {*decoded.broken, *(n for n, packet in enumerate(packets) if packet.pts in decoded.damaged)}
    if not broken:
        return False
    times_s = [None if packet.pts is None else decoded.time_s(packet.pts) for packet in packets]
    own = times_s.index(shown_s) if shown_s in times_s else len(packets)
    keys = [
        n for n, one in enumerate(packets[: own + 1]) if one.pts is not None and decoded.seen.get(one.pts)
    ]
    first = max(keys, default=0)
    return any(first <= n < own and not packets[n].is_disposable for n in broken)


@dataclass
class _Taker:
    """Takes the pictures on display at the wanted moments from frames in presentation order."""

    stream: av.VideoStream
    moments: Moments
    # In ticks, for each picture that comes, if the times of the packets are not theirs.
    times: Sequence[int] = ()
    display: Display = field(default_factory=Display)
    came: list[int] = field(default_factory=list)  # times in ticks, as they came
    seen: dict[int | None, bool] = field(default_factory=dict)  # time in ticks -> whether it is a key picture
    broken: list[int] = field(default_factory=list)  # numbers of packets that did not decode
    damaged: list[int] = field(default_factory=list)  # times in ticks of pictures that decoded in part
    _shown: av.VideoFrame | None = None
    _scaled: tuple[av.VideoFrame, Picture] | None = None
    _size: tuple[int, int] | None = None  # of the first picture: a sample has pictures of one size
    _reformatter: VideoReformatter = field(default_factory=VideoReformatter)

    def __post_init__(self) -> None:
        self.time_s = self.moments.clock.of(self.stream.time_base)
        self._duration_ms = in_ms(self.stream.time_base)
        self._may_begin_anywhere = self.stream.codec_context.name in WITHHELD

    def see(self, frame: av.VideoFrame) -> None:
        """Takes the next frame. Pictures before the first key picture were never really visible."""
        if not (self.seen or self._may_begin_anywhere or is_key(frame)):
            return
        if frame.pts is None:  # of a hidden packet
            self.seen[None] = True
            return
        if frame.is_corrupt:
            self.damaged.append(frame.pts)
        if self.times:
            frame.pts = self.times[len(self.came)]
        self.came.append(frame.pts)
        self.seen[frame.pts] = is_key(frame)
        time_s = self.time_s(frame.pts)
        is_inside = time_s < self.moments.length_s
        if is_inside:
            self.display.first_s = time_s if self.display.first_s is None else self.display.first_s
            self.display.ends_s = time_s + self._duration_ms(frame.duration or 0) / MS
        self._take(time_s, may_be_early=is_inside)
        if self._shown is None or is_inside:
            self._shown = frame

    def ended(self) -> "_Taker":
        """Adds the remaining wanted pictures; after the last frame, it is repeated."""
        self._take(inf, may_be_early=False)
        return self

    def _take(self, next_s: float, *, may_be_early: bool) -> None:
        """Takes the picture on display for all moments before the next one appears."""
        wanted_s = self.moments.wanted_s
        display = self.display
        while self._shown is not None and len(display.pictures) < len(wanted_s):
            shown_s = self.time_s(self._shown.pts or 0)
            if wanted_s[len(display.pictures)] >= (_comes_on_s(shown_s, next_s) if may_be_early else next_s):
                return
            if self._shown.is_corrupt:
                display.fault = f"its picture at {shown_s:.3f} s is damaged"
            display.shown_s.append(shown_s)
            display.pictures.append(self._picture(self._shown))

    def _picture(self, frame: av.VideoFrame) -> Picture:
        if self._scaled is None or self._scaled[0] is not frame:
            aspect = float(self.stream.sample_aspect_ratio or 1)
            self._size = self._size or _size(frame, self.moments.short_side_px, aspect)
            self._scaled = (frame, upright(frame, self._size, self._reformatter))
            self.display.is_tone_mapped |= is_hdr(frame)
        return self._scaled[1]


def _size(frame: av.VideoFrame, short_side_px: int, aspect: float) -> tuple[int, int]:
    """(width, height) with square pixels and the given short side."""
    width = frame.width * aspect
    scale = short_side_px / min(width, frame.height)
    across, down = (max(EVEN, round(side * scale / EVEN) * EVEN) for side in (width, frame.height))
    return across, down
