"""YouTube through yt-dlp: one guest lane, polite by default, the smallest sufficient format.

Never tried against YouTube itself, since it was built without network access: only options and error classes are
tested.
"""

import re
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from tasks.media.merging import merger
from tasks.sources import Fetch
from tasks.transport.failure_classes import failure
from tasks.transport.hls import Spans
from tasks.transport.lanes import LaneConfig
from tasks.transport.limited import YTDLP, LimitedDownloader
from tasks.transport.policy import Access

TOOL = YTDLP
FORM = "youtube"
ID = re.compile(r"[A-Za-z0-9_-]{11}")
CANARY = "jNQXAC9IVRw"  # the first video on YouTube, there since 2005
SECTIONS = True
LANES = (LaneConfig("guest", videos_per_hour=240.0),)  # a guest session is stopped near 300
REQUEST_GAP_S = 0.75  # between requests of one video, as in yt-dlp's own `-t sleep`


@contextmanager
def open_source(spec: str, state: Path, access: Access) -> Iterator[Fetch]:
    """Yields `fetch` for YouTube video ids."""
    del spec
    access = replace(access, may_go_inside=False)

    def options() -> dict[str, Any]:
        polite = {"sleep_interval_requests": REQUEST_GAP_S}
        return {"allowed_extractors": ["youtube"], "ffmpeg_location": str(merger(state)), **polite}

    downloader = LimitedDownloader(options, access, direct_only=False)

    def fetch(video_id: str, folder: Path, spans: Spans = ()) -> Path:
        if ID.fullmatch(video_id) is None:
            raise failure("policy_reject", f"{video_id[:80]!r} is no YouTube id")
        return downloader.fetch(f"https://www.youtube.com/watch?v={video_id}", folder, spans)

    with closing(downloader):
        yield fetch
