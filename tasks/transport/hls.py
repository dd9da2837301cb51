"""Sections: of a long video, only the fragments around its segments, if its host offers an HLS playlist.

The first fragment is always included: times in a file are counted from its first fragment, so a segment keeps its place
in a file with gaps. All requests go through our own lanes: ffmpeg, which fetches sections for yt-dlp, respects neither
rates nor refusals.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

MARGIN_S = 5.0  # before and after a segment: a playlist rounds its times
MOST_SHARE = 0.5  # of a video: if more is needed, it is fetched whole
LEAST_HEIGHT_PX = 256
# Keys depend on a fragment's number, and times restart at a discontinuity: no fragment can be left out.
UNFIT = re.compile(r"#EXT-X-KEY:(?!METHOD=NONE)|#EXT-X-DISCONTINUITY|#EXT-X-MAP.*#EXT-X-MAP", re.DOTALL)
END = "#EXT-X-ENDLIST"
LENGTH = re.compile(r"#EXTINF:(\d{1,9}(?:\.\d{1,9})?)")
BYTES = re.compile(r"#EXT-X-BYTERANGE:(\d+)(?:@(\d+))?")

Spans = Sequence[tuple[float, float]]  # start and end in seconds


@dataclass(frozen=True)
class _Fragment:
    lines: list[str]
    start_s: float
    end_s: float

    def touches(self, start_s: float, end_s: float) -> bool:
        return self.end_s > start_s - MARGIN_S and self.start_s < end_s + MARGIN_S


def smallest_playlist(formats: Sequence[Mapping[str, Any]]) -> Mapping[str, Any] | None:
    """The smallest sufficient HLS format with picture and sound in one, of those that yt-dlp found."""
    fit = [
        one
        for one in formats
        if one.get("protocol") == "m3u8_native"
        and "none" not in (one.get("vcodec"), one.get("acodec"))
        and (one.get("height") or LEAST_HEIGHT_PX) >= LEAST_HEIGHT_PX
    ]
    return min(fit, key=lambda one: (one.get("height") or 0, one.get("tbr") or 0), default=None)


def trimmed(playlist: str, spans: Spans, long_s: float) -> str:
    """The playlist with only its first fragment and those that `spans` touch.

    Empty if fragments can't be left out, if it is shorter than `long_s`, or if most of it is needed anyway.
    """
    head, fragments = _parsed(playlist)
    is_fit = END in playlist and UNFIT.search(playlist) is None
    if not (fragments and is_fit) or fragments[-1].end_s < long_s:
        return ""
    kept = [one for one in fragments if one is fragments[0] or any(one.touches(*span) for span in spans)]
    if sum(one.end_s - one.start_s for one in kept) > MOST_SHARE * fragments[-1].end_s:
        return ""
    return "\n".join([*head, *(line for one in kept for line in one.lines), END, ""])


def _parsed(playlist: str) -> tuple[list[str], list[_Fragment]]:
    """The lines before the first fragment, and the fragments with their times."""
    head: list[str] = []
    fragments: list[_Fragment] = []
    lines: list[str] = []
    at_s = length_s = 0.0
    next_byte = 0
    for line in filter(None, map(str.strip, playlist.splitlines())):
        if found := LENGTH.match(line):
            length_s = float(found[1])
        elif found := BYTES.match(
            line
        ):  # the offset is given only if it is not the end of the previous fragment
            first = int(found[2] or next_byte)
            next_byte = first + int(found[1])
            line = f"#EXT-X-BYTERANGE:{found[1]}@{first}"
        is_of_fragment = not line.startswith("#") or line.startswith(("#EXTINF", "#EXT-X-BYTERANGE"))
        (lines if is_of_fragment else head).append(line)
        if not line.startswith("#"):
            fragments.append(_Fragment(lines, at_s, at_s + length_s))
            at_s = at_s + length_s
            lines = []
    return [line for line in head if line != END], fragments
