"""YouTube through yt-dlp: one guest lane, polite by default, the smallest sufficient format.

Never tried against YouTube itself, since it was built without a network: only options and error classes are tested.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from tasks.media.streams import FFMPEG_TIMEOUT_S, MEMORY_BYTES, ffmpeg_path
from tasks.processes import write_confined
from tasks.sources import Fetch
from tasks.transport.failure_classes import failure
from tasks.transport.hls import Spans
from tasks.transport.lanes import LaneConfig
from tasks.transport.policy import Access
from tasks.transport.ytdlp import TOOL as TOOL
from tasks.transport.ytdlp import Downloader

FORM = "youtube"
ID = re.compile(r"[A-Za-z0-9_-]{11}")
CANARY = "jNQXAC9IVRw"  # the first video of all, there since 2005
SECTIONS = True
LANES = (LaneConfig("guest", videos_per_hour=240.0),)  # a guest session is stopped near 300
# The short side that the largest frame profile stores, and the lowest rate that a profile needs.
FORMAT = "worstvideo[height>=256]+worstaudio[asr>=16000]/worst[height>=256]/best"
REQUEST_GAP_S = 0.75  # between requests of one video, as in yt-dlp's own `-t sleep`


def merger(state: Path) -> Path:
    """The ffmpeg that yt-dlp starts, by a name that it knows: what it merges is foreign."""
    settings = {"seconds": FFMPEG_TIMEOUT_S, "memory_bytes": MEMORY_BYTES}
    return write_confined(state / "ffmpeg", ffmpeg_path(), **settings)


@contextmanager
def open_source(spec: str, state: Path, access: Access) -> Iterator[Fetch]:
    """Yields `fetch` for YouTube video ids."""
    del spec
    options = {"format": FORMAT, "ffmpeg_location": str(merger(state)), "allowed_extractors": ["youtube"]}
    access = replace(access, may_go_inside=False)
    downloader = Downloader({**options, "sleep_interval_requests": REQUEST_GAP_S}, access, direct_only=False)

    def fetch(video_id: str, folder: Path, spans: Spans = ()) -> Path:
        if ID.fullmatch(video_id) is None:
            raise failure("policy_reject", f"{video_id[:80]!r} is no YouTube id")
        return downloader.fetch(f"https://www.youtube.com/watch?v={video_id}", folder, spans)

    yield fetch
