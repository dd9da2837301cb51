"""File names: which files hold a given video, and which hold one of its segments.

`ID.mp4` holds a video (`YID.wav` too, if ID is a YouTube id). `ID_000030.mp4` and `ID_30.mp4` hold the 10 seconds from
there, as in VGGSound. `ID_30000_40000.flac` (ms), `ID_30_40.wav` and `ID_30.000_40.000.wav` (s) hold a segment.
"""

import re
from bisect import bisect_left
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from schemas.segment import segment_key
from tasks.lists.formats import CLIP_MS

STEM = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]{0,127}")
YOUTUBE_ID_CHARS = 11
SPAN = re.compile(r"_(\d{1,8}(?:\.\d{1,3})?)_(\d{1,8}(?:\.\d{1,3})?)")
START = re.compile(r"_(\d{1,6})")
# Segments are 1 to 60 s long: this tells seconds from milliseconds in a span of whole numbers.
LONGEST_S = 60


@dataclass(frozen=True)
class Stems:
    """The sorted names of `count` files without suffixes; of equal names, the first counts."""

    count: int
    of_row: Callable[[int], str]

    def of(self, video_id: str) -> dict[str, int]:
        """The rows of a video: the whole video by its id, segments by their keys."""
        found: dict[str, int] = {}
        for stem in (video_id, f"Y{video_id}") if len(video_id) == YOUTUBE_ID_CHARS else (video_id,):
            for row in self._rows(stem):
                found.setdefault(video_id, row)
            for row in self._rows(f"{stem}_", is_prefix=True):
                span = span_ms(self.of_row(row).removeprefix(stem))
                if span:
                    found.setdefault(segment_key(video_id, *span), row)
        return found

    def _rows(self, stem: str, *, is_prefix: bool = False) -> Iterator[int]:
        row = bisect_left(range(self.count), stem, key=self.of_row)
        while row < self.count:
            found = self.of_row(row)
            if not (found.startswith(stem) if is_prefix else found == stem):
                return
            yield row
            row += 1


def span_ms(text: str) -> tuple[int, int] | None:
    """Start and end of the segment that the end of a stem names; None if it names none."""
    if found := START.fullmatch(text):
        return 1000 * int(found[1]), 1000 * int(found[1]) + CLIP_MS
    found = SPAN.fullmatch(text)
    if found is None:
        return None
    start = float(found[1])
    end = float(found[2])
    is_seconds = "." in text or end - start <= LONGEST_S
    return (round(1000 * start), round(1000 * end)) if is_seconds else (int(start), int(end))
