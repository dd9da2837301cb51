"""Merging: the ffmpeg with which yt-dlp joins the sound and the picture of a video, confined."""

from pathlib import Path

from tasks.media.streams import FFMPEG_TIMEOUT_S, MEMORY_BYTES, ffmpeg_path
from tasks.processes import write_confined


def merger(state: Path) -> Path:
    """The ffmpeg that yt-dlp starts, under a name that it knows: what it merges is untrusted."""
    settings = {"seconds": FFMPEG_TIMEOUT_S, "memory_bytes": MEMORY_BYTES}
    return write_confined(state / "ffmpeg", ffmpeg_path(), **settings)
