"""The packets of a media file, at the times that the file gives them.

In MP4, edit lists say which parts of a track are shown, and when. libav shows a part from its first picture or packet
of sound that lies inside: up to a frame or a packet off, and by another time in each stream and part.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import islice
from pathlib import Path
from statistics import median_low

import av
import av.container
import av.error

from tasks.media.edit_lists import Due, Part, Read, Seen, Track, parts_of, when_due
from tasks.media.streams import media_streams, open_media

# MP4 without libav's reading of its edit lists, but for where the first part begins.
RAW_CLOCK = {"advanced_editlist": "0"}
MOST_HIDDEN = 1 << 14  # packets that are searched for the first ones that an edit list shows
COMPARED = 8  # of each stream
MOST_READ = 1 << 20  # packets of a file that is shown in parts: more are not sorted
MOST_MOVED_S = 1  # if it is more, the edit list is of a kind that is not understood
WHOLE = [Part(0, 0, 0)]


@dataclass(frozen=True, eq=False)
class Mark:
    """What a packet carries in `opaque`, one for each: PyAV forgets it with the first packet that holds it."""

    span: tuple[int, int] | None  # when its part begins and ends, in ticks; None for a hidden packet
    hidden_pts: int | None = None


@dataclass(frozen=True)
class Edits:
    """In what the edit lists of a file differ from libav's reading, by the index of each stream."""

    # Of streams of one part: the ticks by which it is shown too early.
    moved: Mapping[int, int] = field(default_factory=dict)
    # Of streams of several parts: their packets. Empty if libav does something else with them.
    due: Mapping[int, Mapping[Seen, Due]] = field(default_factory=dict)


def packets_of(container: av.container.InputContainer) -> Iterator[av.Packet]:
    """The packets of both streams in file order; if nothing more can be read, the file has ended.

    Packets of MP4 have the times that its edit lists give them. Those that are never shown have none: `is_hidden`.
    `span_of` tells which part a packet belongs to, `pts_of` when libav decodes it.
    """
    edits = edits_of(container)
    for packet in _demuxed(container):
        if of_parts := edits.due.get(packet.stream_index):
            yield _in_its_part(packet, of_parts)
        else:
            shown = _shown_before(packet)
            _move(shown, edits.moved.get(packet.stream_index, 0))
            yield _hidden(shown) if shown.is_discard else shown


def span_of(packet: av.Packet) -> tuple[int, int] | None:
    """When the part of its stream that a packet belongs to begins and ends, in ticks; None if there are not several."""
    return packet.opaque.span if isinstance(packet.opaque, Mark) else None


def is_hidden(packet: av.Packet) -> bool:
    """Whether an edit list hides a packet: it is only decoded, because pictures that are shown refer to it."""
    return isinstance(packet.opaque, Mark) and packet.opaque.span is None


def pts_of(packet: av.Packet) -> int | None:
    """The time of a packet, in ticks; of a hidden one the time that it would have on the clock of its part."""
    return packet.opaque.hidden_pts if isinstance(packet.opaque, Mark) and is_hidden(packet) else packet.pts


def joints(packets: Sequence[av.Packet]) -> set[int]:
    """The numbers of a stream's packets from which another part of an edit list is decoded: hidden ones first.

    A decoder has to be reset there: to it, the next picture comes from the past, and HEVC's drops some.
    """
    found: set[int] = set()
    shown: av.Packet | None = None
    before: av.Packet | None = None
    key = None  # the number of the key picture that leads to the next part
    for number, packet in enumerate(packets):
        if is_hidden(packet):
            # Between two parts, the end of one comes first.
            is_first = before is None or not is_hidden(before) or (packet.dts or 0) < (before.dts or 0)
            if is_first:
                key = number if packet.is_keyframe else None
        else:
            if shown is not None and span_of(packet) != span_of(shown):
                found.add(number if key is None else key)
            shown = packet
            key = None
        before = packet
    return found


def packets_as_read(container: av.container.InputContainer) -> Iterator[av.Packet]:
    """The same with the times that libav gives them."""
    return map(_shown_before, _demuxed(container))


def edits_of(container: av.container.InputContainer) -> Edits:
    """In what the edit lists of an MP4 file differ from libav's reading."""
    if not container.format.name.startswith("mov") or RAW_CLOCK.items() <= container.options.items():
        return Edits()
    facts = Path(container.name).stat()
    return _edits_of(container.name, facts.st_size, facts.st_mtime_ns)


def _demuxed(container: av.container.InputContainer) -> Iterator[av.Packet]:
    with suppress(av.error.InvalidDataError):
        for packet in container.demux(media_streams(container)):
            if packet.size:
                yield packet


def _shown_before(packet: av.Packet) -> av.Packet:
    """The packet, not hidden if an edit list hides it before the beginning of its stream.

    It is not visible there, and a cut has no edit lists: what a decoder shows must be the same.
    """
    starts = packet.stream.start_time
    is_before = packet.pts is not None and starts is not None and packet.pts < starts
    return _unhidden(packet) if packet.is_discard and is_before else packet


def _in_its_part(packet: av.Packet, of_parts: Mapping[Seen, Due]) -> av.Packet:
    due = None
    if packet.pts is not None:
        due = of_parts.get(Seen(packet.pts, packet.pos, packet.is_discard))
    if due is None or packet.pts is None:
        return _hidden(packet) if packet.is_discard else packet
    shown = _unhidden(packet) if packet.is_discard else packet
    _move(shown, due.pts - packet.pts)
    shown.opaque = Mark(due.span)
    return shown


def _hidden(packet: av.Packet) -> av.Packet:
    """A copy without a time, from which decoders make pictures and sound without one.

    libav's own mark would not do: it drops the pictures, and with them what says whether they are key pictures.
    """
    copy = _unhidden(packet)
    copy.opaque = Mark(None, packet.pts)
    copy.pts = None
    return copy


def _move(packet: av.Packet, ticks: int) -> None:
    if packet.pts is not None:
        packet.pts += ticks
        packet.dts = None if packet.dts is None else packet.dts + ticks


def _unhidden(packet: av.Packet) -> av.Packet:
    """A copy of a packet without libav's mark that an edit list hides it."""
    # Not of its bytes: decoders read on after their end, and PyAV adds the zeros that they want only to a size.
    copy = av.Packet(packet.size)
    memoryview(copy)[:] = bytes(packet)
    copy.stream = packet.stream
    copy.time_base = packet.time_base
    copy.is_keyframe = packet.is_keyframe
    copy.pts = packet.pts
    copy.dts = packet.dts
    copy.duration = packet.duration
    return copy


@lru_cache(maxsize=2)  # a file is read several times for one segment
def _edits_of(name: str, size_bytes: int, written_ns: int) -> Edits:
    del size_bytes, written_ns  # another file by the same name is another call
    path = Path(name)
    with open_media(path) as container:
        tracks = _tracks(container, parts_of(path))
        has_several = any(len(one.parts) > 1 for one in tracks.values())
        seen = _all(container) if has_several else _first_shown(container)
    with open_media(path, RAW_CLOCK) as container:
        packets = islice(packets_as_read(container), MOST_READ if has_several else MOST_HIDDEN)
        read = _with_raw_times(seen, packets)
    due = {index: when_due(tracks[index], own) for index, own in read.items() if len(tracks[index].parts) > 1}
    whole = {index: own for index, own in read.items() if len(tracks[index].parts) == 1}
    moved = {index: median_low(one.raw - one.seen.pts for one in own) for index, own in whole.items()}
    is_known = all(0 <= ticks <= tracks[index].reach for index, ticks in moved.items())
    return Edits(moved if is_known else {}, due)


def _tracks(container: av.container.InputContainer, parts: Mapping[int, list[Part]]) -> dict[int, Track]:
    """What edit lists say of each stream, by its index; a stream without one is a single part."""
    tracks = {}
    for one in media_streams(container):
        reach = round(MOST_MOVED_S / (one.time_base or 1))
        tracks[one.index] = Track(parts.get(one.id, WHOLE), reach, is_picture=one.type == "video")
    return tracks


def _all(container: av.container.InputContainer) -> dict[int, list[Seen]]:
    """All packets of each stream; none if there are too many."""
    seen: dict[int, list[Seen]] = {}
    for number, packet in enumerate(_demuxed(container)):
        if number == MOST_READ:
            return {}
        if packet.pts is not None:
            own = seen.setdefault(packet.stream_index, [])
            own.append(Seen(packet.pts, packet.pos, packet.is_discard))
    return seen


def _first_shown(container: av.container.InputContainer) -> dict[int, list[Seen]]:
    """The first packets of each stream that an edit list shows."""
    shown: dict[int, list[Seen]] = {}
    streams = media_streams(container)
    for packet in islice(packets_as_read(container), MOST_HIDDEN):
        begins = packet.stream.start_time or 0
        own = shown.setdefault(packet.stream_index, [])
        if packet.pts is not None and packet.pts >= begins and not packet.is_discard:
            own.append(Seen(packet.pts, packet.pos, is_hidden=False))
        if len(shown) == len(streams) and min(map(len, shown.values())) >= COMPARED:
            break
    return shown


def _with_raw_times(
    seen: Mapping[int, Sequence[Seen]], packets: Iterable[av.Packet]
) -> dict[int, list[Read]]:
    """The packets that the raw reading has, too, by stream."""
    missing = {(index, one.place) for index, own in seen.items() for one in own}
    raw: dict[tuple[int, int | None], int] = {}
    for packet in packets:
        where = (packet.stream_index, packet.pos)
        if packet.pts is not None and where in missing:
            raw[where] = packet.pts
            missing.discard(where)
        if not missing:
            break
    read = {
        index: [Read(one, raw[index, one.place]) for one in own if (index, one.place) in raw]
        for index, own in seen.items()
    }
    return {index: own for index, own in read.items() if own}
