"""Cuts from before `schemas.clip.CLOCK`: MP4 files in which libav's edit lists shift picture against sound.

Without edit lists, both streams lie as in the source. The start of the segment was measured with edit lists, on the
stream with more packets; the shift of that stream gives the start without them. Matroska cuts may be shifted inside the
file itself, which can't be detected.
"""

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from statistics import median

from schemas.clip import CLOCK
from schemas.manifest import Row
from tasks.media.packets import RAW_CLOCK, packets_as_read
from tasks.media.streams import open_media

MENDED = ".mp4"
COMPARED_PACKETS = 128  # of both streams, as in the original measurement
TOGETHER_S = 0.002  # streams this near to each other counted as agreeing
CLEARLY = 2  # this many more packets were decisive


def is_old(clip: Row) -> bool:
    """Whether an existing clip was cut by another clock than today's."""
    return bool(clip["path"]) and clip.get("clock") != CLOCK


def is_beyond_mending(clip: Row) -> bool:
    """Whether it is old and of a kind that can't be mended without the source."""
    return is_old(clip) and Path(clip["path"]).suffix != MENDED


def mended_begin_s(path: Path, begins_s: float) -> float | None:
    """Where the segment of an old cut begins on its clock without edit lists; None if that can't be determined."""
    if path.suffix != MENDED:
        return None
    raw_s = dict(_packets(path, RAW_CLOCK))
    moved_s: dict[int, list[float]] = {}
    for (stream, place), time_s in islice(_packets(path, {}), COMPARED_PACKETS):
        if (stream, place) in raw_s:
            moved_s.setdefault(stream, []).append(raw_s[stream, place] - time_s)
    by_count = sorted(moved_s.values(), key=len, reverse=True)
    if not by_count:
        return None
    moves_s = [median(one) for one in by_count]
    is_known = max(moves_s) - min(moves_s) <= TOGETHER_S or len(by_count[0]) - len(by_count[1]) >= CLEARLY
    return begins_s + moves_s[0] if is_known else None


def _packets(path: Path, options: dict[str, str]) -> Iterator[tuple[tuple[int, int | None], float]]:
    """((stream, place in the file), presentation time) of both streams' packets."""
    with open_media(path, options) as container:
        for packet in packets_as_read(container):
            if packet.pts is not None:
                yield (packet.stream_index, packet.pos), float(packet.pts * packet.time_base)
