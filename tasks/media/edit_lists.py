"""Edit lists of MP4 files: which parts of a track are shown, and when (ISO/IEC 14496-12, section 8.6.6).

libav follows edit lists, but not to the tick: a part may be up to a frame or a packet of sound off, in each stream by
another time. `packets.py` puts that right, for which it must know where the parts are meant to be.
"""

import struct
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from operator import itemgetter
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
MOST_EDITS = 1_000  # of a track: a list of more is not understood
EDGES = 2  # packets, of which a part does not hold all
ALIKE = 50  # parts whose shifts differ by less than one in so many of the reach can't be told apart
LOST = 20  # if more than one in so many of the packets shown belongs to no part, the list is not understood
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
    reach: int  # ticks: if libav's times are further off, the list is not understood
    is_picture: bool


@dataclass(frozen=True)
class Seen:
    """A packet as libav reads it: its time in ticks, its place in the file, and whether an edit list hides it."""

    pts: int
    place: int | None
    is_hidden: bool


@dataclass(frozen=True)
class Read:
    """A packet as libav reads it, and its time on the raw clock, whose zero is that of the first part."""

    seen: Seen
    raw: int

    @property
    def shift(self) -> int:
        """By how much libav's time differs from the raw one: the same for all packets of a part."""
        return self.seen.pts - self.raw


@dataclass(frozen=True)
class Due:
    """When a packet is shown, and when the part that it belongs to begins and ends; in ticks."""

    pts: int
    span: tuple[int, int]


def parts_of(path: Path) -> dict[int, list[Part]]:
    """The parts of each track that has an edit list, in order, by the track's number.

    A list that is not understood has no parts: one with a part at another speed, with a gap after the first part, or
    with too many edits. A track with a damaged box is left out.
    """
    found: dict[int, list[Part]] = {}
    with path.open("rb") as file:
        movie = next(_inside(file, (0, path.stat().st_size), b"moov"), (0, 0))
        for track in _inside(file, movie, b"trak"):
            try:
                number = _field(file, track, b"tkhd")
                rates = _field(file, movie, b"mvhd"), _field(file, track, b"mdia", b"mdhd")
                found[number] = _parts(_edits(file, track), Fraction(rates[1], rates[0]))
            except (StopIteration, KeyError, struct.error, ZeroDivisionError):
                continue
    return found


def _parts(edits: Sequence[tuple[int, int, int, int]], ticks: Fraction) -> list[Part]:
    """Parts from edits; `ticks` of the track's clock make one of the movie's."""
    parts: list[Part] = []
    begins = 0
    for number, (length, media, *speed) in enumerate(edits):
        ends = begins + round(length * ticks)
        if media != NOTHING:
            parts.append(Part(begins, media, ends - begins))
        if (media == NOTHING and number > 0) or (media != NOTHING and tuple(speed) != PLAIN_SPEED):
            return []
        begins = ends
    return parts


def _edits(file: BinaryIO, track: Box) -> list[tuple[int, int, int, int]]:
    """(length in ticks of the movie's clock, beginning in ticks of the track's, speed before and after the point)."""
    begin, end = next(_inside(file, track, b"edts", b"elst"))
    file.seek(begin)
    version, count = struct.unpack(">B3xI", file.read(8))
    edit = EDIT[version]
    is_possible = count <= min(MOST_EDITS, (end - begin - 8) // edit.size)
    return list(edit.iter_unpack(file.read(count * edit.size))) if is_possible else []


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


def when_due(track: Track, read: Sequence[Read]) -> dict[Seen, Due]:
    """When each packet is shown of a track in several parts, from all its packets; those never shown are left out.

    libav reads a part from the key picture before it to the one after it, and hides what lies outside. Empty if it does
    something that is not understood.
    """
    later = _later(track.parts)
    of_shifts = _parts_of_shifts(track, read)
    due: dict[Seen, Due] = {}
    last: dict[int, tuple[int, Seen]] = {}  # of each part, the last packet that begins before it
    lost = 0
    for one in read:
        number = of_shifts.get(one.shift)
        part = None if number is None else track.parts[number]
        at = one.raw + (0 if number is None else later[number])
        if (
            part is not None and part.shown < at < part.ends
        ):  # hidden or not: libav ends parts too early as well
            due[one.seen] = Due(at, part.span)
        elif part is not None and number is not None and at <= part.shown:
            last[number] = max(last.get(number, (at, one.seen)), (at, one.seen), key=itemgetter(0))
        else:
            lost += not one.seen.is_hidden
    for number, (at, seen) in last.items():
        # A picture comes on when its part begins. What a sound holds before that is cut off once it is decoded.
        part = track.parts[number]
        due[seen] = Due(part.shown if track.is_picture else at, part.span)
    return {} if lost * LOST > sum(not one.seen.is_hidden for one in read) else due


def _later(parts: Sequence[Part]) -> list[int]:
    """By how much each part is later on the file's clock than on the raw one."""
    return [one.shown - one.media - (parts[0].shown - parts[0].media) for one in parts]


def _parts_of_shifts(track: Track, read: Sequence[Read]) -> dict[int, int]:
    """The number of the part in which the packets lie that libav shifts by so many ticks.

    Empty if parts can't be told apart by that: where nothing is taken out between them.
    """
    shown: dict[int, list[int]] = {}  # raw times
    for one in read:
        if not one.seen.is_hidden:
            shown.setdefault(one.shift, []).append(one.raw)
    if len(shown) > 2 * len(track.parts):
        return {}  # libav does not shift whole parts
    found: dict[int, int] = {}
    later = _later(track.parts)
    for shift, raws in shown.items():
        raws.sort()
        held = [
            _count(raws, part.shown - by, part.ends - by) for part, by in zip(track.parts, later, strict=True)
        ]
        off = {k: abs(by - shift) for k, by in enumerate(later) if abs(by - shift) < track.reach}
        if off:
            most = max(held[k] for k in off)
            best = min((k for k in off if held[k] >= most - EDGES), key=lambda k, off=off: off[k])
            if any(k != best and abs(later[k] - later[best]) <= track.reach // ALIKE for k in off):
                return {}
            found[shift] = best
    return found


def _count(ascending: Sequence[int], after: int, before: int) -> int:
    return bisect_left(ascending, before) - bisect_right(ascending, after)
