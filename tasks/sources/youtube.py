"""YouTube by yt-dlp: one guest lane, polite by default, the smallest sufficient format.

Not tried against YouTube itself where this was built (no network): only its options and error classes are.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from schemas.outcome import ItemError, Outcome
from tasks.media import ffmpeg_path
from tasks.sources import Fetch
from tasks.ytdlp import Downloader

ID_LENGTH = 11
# The short side that the largest frame profile stores, and the lowest rate that a profile needs.
FORMAT = "worstvideo[height>=256]+worstaudio[asr>=16000]/worst[height>=256]/best"
# yt-dlp's own `-t sleep` preset, about 240 videos an hour: a guest session is stopped near 300.
POLITENESS = {"sleep_interval": 10, "max_sleep_interval": 20, "sleep_interval_requests": 0.75}


@contextmanager
def open_source(spec: str, state: Path) -> Iterator[Fetch]:
    """Yields `fetch` for YouTube video ids."""
    del spec, state
    options = {"format": FORMAT, "ffmpeg_location": ffmpeg_path(), "allowed_extractors": ["youtube"]}
    downloader = Downloader({**options, **POLITENESS}, direct_only=False)

    def fetch(video_id: str, folder: Path) -> Path:
        if len(video_id) != ID_LENGTH:
            raise ItemError(Outcome.UNAVAILABLE, "not_media", f"{video_id!r} is no YouTube id")
        return downloader.fetch(f"https://www.youtube.com/watch?v={video_id}", folder)

    yield fetch
