"""Cuts a segment out of a file without re-encoding, on the file's own clock.

A cut is Matroska, whose clock counts milliseconds: each time stamp is the source's, rounded to the millisecond, minus
one offset for both streams. Extraction uses the same milliseconds in every file, so a cut and its source give the same
features. Where Matroska can't hold a stream, or the written packets differ from the source's, the whole source is kept.
"""

import errno
import hashlib
import os
import shutil
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import av.container
import av.error
from av.codec.context import Flags2
from av.video.reformatter import VideoReformatter

from schemas.outcome import ItemError, Outcome
from tasks.media.colour import upright
from tasks.media.packets import is_hidden, packets_of, span_of
from tasks.media.passage import passage, shown_of, time_ms
from tasks.media.probe import Probe
from tasks.media.sound import samples_of
from tasks.media.streams import (
    MS,
    UNDECODABLE,
    US_PER_MS,
    Clock,
    in_ms,
    media_streams,
    open_media,
    video_stream,
)

SUFFIX = ".mkv"
MARGIN_MS = 500  # after it: packets are stored up to about this far from their presentation time
MILLISECONDS = Fraction(1, MS)
# Neither rounds nor moves the times that we have rounded, and writes neither names nor dates.
WRITING = {"fflags": "+bitexact", "avoid_negative_ts": "disabled"}
DIGITS = 32  # of the packets' digest
COMPARED_EVERY = 8  # packets of sound; between them, only times are compared
COMPARED_PX = (128, 128)
CHANGED = "new_extradata"  # marks a packet from which other parameters apply
PACKED = "mpeg4"  # a packet may hold two pictures, and the next none: their times differ from the packets'


@dataclass(frozen=True)
class Cut:
    """A cut file, where the segment begins inside it (presentation clock of the cut), and what the source held of it.

    `packets` is the digest of the segment's packets, in hex: equal digests mean that nothing was re-encoded and no time
    was moved, whatever container the packets are in.
    """

    path: Path
    begins_s: float
    packets: str


def cut(source: Path, facts: Probe, segment_s: tuple[float, float], target: Path) -> Cut:
    """Copies the segment (start, end), counted from the presentation start of `source`, to `target` plus its suffix.

    It begins at a clean picture at or before the start, and with some sound before it. Raises ItemError, and then
    leaves no file.
    """
    begins, ends = (Clock.from_seconds(facts.start_s + time_s) for time_s in segment_s)
    made = target.with_suffix(SUFFIX)
    try:
        shift_ms, packets = _written(source, begins.begins_ms, ends.begins_ms, made)
    except (ItemError, OSError):
        made.unlink(missing_ok=True)
        raise
    if shift_ms is not None:
        return Cut(made, (begins.begins_us - shift_ms * US_PER_MS) / av.time_base, packets)
    made.unlink(missing_ok=True)
    whole = _kept_whole(source, target.with_suffix(source.suffix.lower() or SUFFIX))
    return Cut(whole, begins.begins_us / av.time_base, packets)


def answer_cut(
    source: str, facts: dict[str, Any], segment_s: tuple[float, float], target: str
) -> tuple[dict[str, Any], dict[str, bytes]]:
    """`cut`, as `tasks.media.sandbox` calls it."""
    made = cut(Path(source), Probe(**facts), segment_s, Path(target))
    return {**asdict(made), "path": str(made.path)}, {}


def _kept_whole(source: Path, target: Path) -> Path:
    """The source beside its other segments: a link is free if the file system supports it."""
    target.unlink(missing_ok=True)
    try:
        os.link(source.resolve(), target)
    except OSError:
        shutil.copyfile(source, target)
    return target


def _written(source: Path, begins_ms: int, ends_ms: int, target: Path) -> tuple[int | None, str]:
    """Writes `target`; returns source time minus cut time (None if the source should be kept) and `packets`."""
    with passage(source, begins_ms, ends_ms + MARGIN_MS) as (container, packets):
        digest = _digest(container, packets, range(begins_ms, ends_ms))
        return _muxed(container, packets, target), digest


def _digest(
    container: av.container.InputContainer, packets: Sequence[av.Packet], span_ms: Sequence[int]
) -> str:
    """The digest of the packets that are due within a segment, or have no time, stream by stream."""
    digest = hashlib.sha256()
    for stream in media_streams(container):
        digest.update(stream.type.encode())
        for packet in packets:
            at_ms = time_ms(packet)
            is_due = at_ms in span_ms if at_ms is not None else not is_hidden(packet)
            if packet.stream_index == stream.index and is_due:
                digest.update(packet)
    return digest.hexdigest()[:DIGITS]


def _muxed(container: av.container.InputContainer, packets: Sequence[av.Packet], target: Path) -> int | None:
    """Writes `target`; returns source time minus cut time, or None if it does not agree with the source."""
    if not packets:
        raise ItemError(Outcome.QUARANTINED, "decodable", "the file holds nothing of the segment")
    times_ms = [at_ms for at_ms in map(time_ms, packets) if at_ms is not None]
    if len(times_ms) < len(packets) or _is_packed(container, packets) or any(map(_is_bound, packets)):
        return None
    if len({(one.stream_index, span_of(one)) for one in packets}) > len(
        {one.stream_index for one in packets}
    ):
        return None  # two parts of an edit list meet in it
    shift_ms = min(times_ms)
    said = _said(container, packets, shift_ms)
    try:
        _write(container, packets, target, shift_ms)
    except (ValueError, av.error.FFmpegError) as error:
        if getattr(error, "errno", None) == errno.ENOSPC:
            raise OSError(errno.ENOSPC, str(error)) from None
        return None
    with open_media(target) as made:
        return shift_ms if _said(made, list(packets_of(made)), 0) == said else None


def _is_bound(packet: av.Packet) -> bool:
    """Whether a packet needs its file: an edit list hides some or all of it, or other parameters apply from it on."""
    span = span_of(packet)
    is_cut_off = False
    if span and packet.pts is not None:
        is_cut_off = packet.pts < span[0] or packet.pts + (packet.duration or 0) > span[1]
    return is_hidden(packet) or is_cut_off or packet.has_sidedata(CHANGED)


def _is_packed(container: av.container.InputContainer, packets: Sequence[av.Packet]) -> bool:
    """Whether pictures come at other times than their packets state."""
    video = video_stream(container)
    if video is None or video.codec_context.name != PACKED:
        return False
    own = [packet for packet in packets if packet.stream_index == video.index]
    times = [frame.pts for frame in shown_of(video, own) if frame.pts is not None]
    return times != sorted(times)


def _write(
    container: av.container.InputContainer, packets: Sequence[av.Packet], target: Path, shift_ms: int
) -> None:
    """Writes packets in their order. Raises ValueError and FFmpegError if Matroska can't hold them."""
    with av.open(str(target), "w", format="matroska", options=WRITING) as output:
        copies = {
            stream.index: output.add_stream_from_template(stream, opaque=True)
            for stream in media_streams(container)
        }
        for number, packet in enumerate(packets, -len(packets)):
            at_ms = time_ms(packet) or 0
            packet.duration = in_ms(packet.time_base)(packet.duration or 0)
            packet.stream = copies[packet.stream_index]
            packet.time_base = MILLISECONDS
            packet.pts = at_ms - shift_ms
            # Matroska does not store it; in the muxer's queue it preserves the order of the source.
            packet.dts = number
            output.mux_one(packet)


def _said(container: av.container.InputContainer, packets: Sequence[av.Packet], shift_ms: int) -> list:
    """What a source and its cut must agree in: the times of packets, and what some of them decode to."""
    said: list = []
    for stream in media_streams(container):
        own = [packet for packet in packets if packet.stream_index == stream.index]
        to_ms = in_ms(stream.time_base)
        said.append([None if one.pts is None else to_ms(one.pts) - shift_ms for one in own])
        if isinstance(stream, av.VideoStream):
            said.append(_seen(stream, own))
        elif isinstance(stream, av.AudioStream):
            said.append(_heard(stream, own))
    return said


def _seen(stream: av.VideoStream, packets: Sequence[av.Packet]) -> list:
    """The first picture as extraction would take it, scaled down."""
    frame = next(shown_of(stream, packets), None)
    if frame is None:
        return []
    picture = upright(frame, COMPARED_PX, VideoReformatter())
    return [frame.width, frame.height, float(stream.sample_aspect_ratio or 1)] + [
        plane.tobytes() for plane in (picture.luma, picture.blue, picture.red)
    ]


def _heard(stream: av.AudioStream, packets: Sequence[av.Packet]) -> list:
    """Some of the sound."""
    stream.codec_context.flags2 |= Flags2.skip_manual
    heard: list = []
    for packet in packets[::COMPARED_EVERY]:
        with suppress(*UNDECODABLE):
            heard += [
                (one.sample_rate, samples_of(one).tobytes()) for one in stream.codec_context.decode(packet)
            ]
    return heard
