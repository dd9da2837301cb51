"""Edit lists of MP4 files: which parts of a track are shown, and when (ISO/IEC 14496-12, section 8.6.6).

libav follows edit lists, but shows each part up to a frame or a packet of sound too early. `packets.py` puts that
right, for which it must know where the parts are meant to be.
"""

import struct
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import BinaryIO

HEAD = struct.Struct(">I4s")
LONG = struct.Struct(">Q")  # a size that follows the head, if it does not fit into it
TO_THE_END = 0  # as a size
IN_LONG = 1
LONG_FIELDS = 1  # the version of a box whose times have 64 bits
# Where `tkhd` has its track's number, and `mvhd` and `mdhd` their ticks per second.
AT = {0: 12, LONG_FIELDS: 20}
EDIT = {0: struct.Struct(">Iihh"), LONG_FIELDS: struct.Struct(">Qqhh")}
NOTHING = -1  # the beginning in the track of an edit during which nothing is shown
PLAIN_SPEED = (1, 0)
FEW = 4  # a part that holds less than a fourth of the packets of a shift is another one that they happen to touch
SAME = 10  # of the reach: parts whose shifts differ by less may be shifted alike
MOST_EDITS = 1_000  # of a track: a list of more is not understood
Box = tuple[int, int]  # where its content begins and ends


@dataclass(frozen=True)
class Part:
    """A part of a track, in ticks of the track's clock."""

    shown: int  # when it begins on the file's clock
    media: int  # which moment of the track that is
    length: int

    @property
    def ends(self) -> int:
        """When it ends on the file's clock."""
        return self.shown + self.length

    @property
    def span(self) -> tuple[int, int]:
        """When it begins and ends on the file's clock."""
        return self.shown, self.ends


@dataclass(frozen=True)
class Track:
    """What the edit list of a track says."""

    parts: Sequence[Part]
    reach: int  # ticks by which libav may be off
    is_picture: bool


@dataclass(frozen=True)
class Seen:
    """A packet as libav reads it: its time in ticks, its place in the file, and whether an edit list hides it."""

    pts: int
    place: int | None
    is_hidden: bool


@dataclass(frozen=True)
class Read:
    """The same, and its time if the first part of the track were all of it."""

    seen: Seen
    raw: int


@dataclass(frozen=True)
class Due:
    """When a packet is shown, and when the part that it belongs to begins and ends; in ticks."""

    pts: int | None  # None if it is never shown, and only decoded for the part
    span: tuple[int, int]


# A packet: libav's time of it, since it may be in several parts, and its place in the file.
Where = tuple[int, int | None]


def parts_of(path: Path) -> dict[int, list[Part]]:
    """The parts of each track that has an edit list, in order, by the track's number.

    A track without shown parts, with a part at another speed, or with a damaged box is left out.
    """
    found: dict[int, list[Part]] = {}
    with path.open("rb") as file:
        size = path.stat().st_size
        for movie in _inside(file, (0, size), b"moov"):
            for track in _inside(file, movie, b"trak"):
                try:
                    number = _field(file, track, b"tkhd")
                    rates = _field(file, movie, b"mvhd"), _field(file, track, b"mdia", b"mdhd")
                    if parts := _parts(_edits(file, track), Fraction(rates[1], rates[0])):
                        found[number] = parts
                except (StopIteration, KeyError, struct.error, ZeroDivisionError):
                    continue
    return found


def _parts(edits: Sequence[tuple[int, int, int, int]], ticks: Fraction) -> list[Part]:
    """Parts from edits; `ticks` of the track's clock make one of the movie's."""
    ends = [0]
    for length, *_ in edits:
        ends.append(ends[-1] + round(length * ticks))
    if any(tuple(speed) != PLAIN_SPEED for _, _, *speed in edits):
        return []
    spans = zip(edits, pairwise(ends), strict=True)
    return [Part(begin, media, end - begin) for (_, media, *_), (begin, end) in spans if media != NOTHING]


def _edits(file: BinaryIO, track: Box) -> list[tuple[int, int, int, int]]:
    """(length in ticks of the movie's clock, beginning in ticks of the track's, speed before and after the point)."""
    begin, end = next(_inside(file, track, b"edts", b"elst"))
    file.seek(begin)
    version, count = struct.unpack(">B3xI", file.read(8))
    edit = EDIT[version]
    if count > min(MOST_EDITS, (end - begin - 8) // edit.size):
        raise KeyError(count)
    return list(edit.iter_unpack(file.read(count * edit.size)))


def _field(file: BinaryIO, within: Box, *names: bytes) -> int:
    """The number that `AT` locates in a box."""
    begin, _ = next(_inside(file, within, *names))
    file.seek(begin)
    (version,) = struct.unpack("B", file.read(1))
    file.seek(begin + AT[version])
    (value,) = struct.unpack(">I", file.read(4))
    return value


def _inside(file: BinaryIO, box: Box, name: bytes, *names: bytes) -> Iterator[Box]:
    """The boxes of a name in a box, or of the last name in those of the first."""
    at, end = box
    while at + HEAD.size <= end:
        file.seek(at)
        size, kind = HEAD.unpack(file.read(HEAD.size))
        begin = at + HEAD.size
        if size == IN_LONG and begin + LONG.size <= end:
            (size,) = LONG.unpack(file.read(LONG.size))
            begin += LONG.size
        stop = end if size == TO_THE_END else min(at + size, end)
        if stop < begin:
            return
        if kind == name and names:
            yield from _inside(file, (begin, stop), *names)
        elif kind == name:
            yield begin, stop
        at = stop


def when_due(track: Track, read: Sequence[Read]) -> dict[Where, Due]:
    """When each packet of a track in several parts is shown.

    A part is known by how far libav shifts its packets against their raw times.
    """
    parts = track.parts
    later = [one.shown - one.media - (parts[0].shown - parts[0].media) for one in parts]  # than the raw times
    due: dict[Where, Due] = {}
    covers: dict[int, tuple[int, Where]] = {}  # of each part, the last packet that begins before it
    of_shift = _parts_of_shifts(track, later, read)
    for one in read:
        where = (one.seen.pts, one.seen.place)
        for number in of_shift.get(one.seen.pts - one.raw, ()):
            part = parts[number]
            at = one.raw + later[number]
            # Before the first part nothing is shown: decoders may begin with the track.
            span = part.span if number else (part.shown - part.media, part.ends)
            is_shown = at < part.ends and (at > part.shown or number == 0)
            if is_shown or where not in due:
                due[where] = Due(at if is_shown else None, span)
            if at <= part.shown and number > 0:
                covers[number] = max(covers.get(number, (at, where)), (at, where))
    for number, (at, where) in covers.items():
        # A picture comes on when its part begins. What a sound holds before that is cut off once it is decoded.
        due[where] = Due(parts[number].shown if track.is_picture else at, parts[number].span)
    return due


def _parts_of_shifts(track: Track, later: Sequence[int], read: Sequence[Read]) -> dict[int, list[int]]:
    """The numbers of the parts whose packets libav shifts by so many ticks: those in which they lie then."""
    shown: dict[int, list[int]] = {}  # raw times
    for one in read:
        if not one.seen.is_hidden:
            shown.setdefault(one.seen.pts - one.raw, []).append(one.raw)
    if len(shown) > 2 * len(track.parts):
        return {}  # libav does not shift whole parts
    found: dict[int, list[int]] = {}
    for shift, raws in shown.items():
        raws.sort()
        off: dict[int, int] = {}
        for number, part in enumerate(track.parts):
            first = bisect_right(raws, part.shown - later[number])
            end = bisect_left(raws, part.ends - later[number])
            if (end - first) * FEW >= len(raws):
                off[number] = abs(later[number] - shift)
        least = min(off.values(), default=track.reach)
        if least < track.reach:
            found[shift] = [number for number, ticks in off.items() if ticks <= least + track.reach // SAME]
    return found
