"""yt-dlp's Python API with the settings that every source shares, and what its errors mean.

Its plugins are off: an installed plugin would run foreign code on every answer.
"""

import os
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

os.environ["YTDLP_NO_PLUGINS"] = "1"  # read when yt_dlp is imported

import yt_dlp  # noqa: E402
import yt_dlp.networking.exceptions as network  # noqa: E402
import yt_dlp.utils  # noqa: E402

from schemas.outcome import ItemError, Outcome, Transient  # noqa: E402

SIZE_CAP_BYTES = 4 << 30
SOCKET_TIMEOUT_S = 20
GONE = {404: "removed", 410: "removed", 451: "copyright"}
LATER = {402: "rate_limited", 429: "rate_limited", 403: "forbidden"}
# What the message says where there is no status (yt-dlp's own texts), most specific first.
MESSAGES = {
    "confirm you're not a bot": ("bot_check", True),
    "confirm you’re not a bot": ("bot_check", True),
    "rate-limited": ("rate_limited", True),
    "try again later": ("rate_limited", True),
    "confirm your age": ("age_gated", False),
    "not made this video available in your country": ("geo_blocked", False),
    "private video": ("private", False),
    "video is private": ("private", False),
    "account associated with this video has been terminated": ("terminated", False),
    "removed by the uploader": ("removed", False),
    "removed for violating": ("removed", False),
    "copyright": ("copyright", False),
    "members-only": ("members_only", False),
    "drm protected": ("drm", False),
    "video unavailable": ("unavailable_ambiguous", False),
    "video is not available": ("unavailable_ambiguous", False),
    "video isn't available": ("unavailable_ambiguous", False),
    "video is no longer available": ("unavailable_ambiguous", False),
    "file is larger than max-filesize": ("too_large", False),
    "unsupported url": ("not_media", False),
    "more expected": ("network", True),
    "timed out": ("network", True),
}


class _Silent:
    """yt-dlp's logger: keeps the last complaint, because some failures are only ever said."""

    def __init__(self) -> None:
        self.last = ""

    def debug(self, message: str) -> None:
        if "larger than max-filesize" in message:
            self.last = message

    def info(self, message: str) -> None:
        self.debug(message)

    def warning(self, message: str) -> None:
        self.last = message

    def error(self, message: str) -> None:
        self.last = message


class Downloader:
    """One YoutubeDL per thread with the same options; they cost 30 ms and are not thread-safe."""

    def __init__(self, options: Mapping[str, Any], *, direct_only: bool) -> None:
        self._options, self._direct_only = dict(options), direct_only
        self._threads = threading.local()

    def fetch(self, url: str, folder: Path) -> Path:
        """The media behind `url` as a file in `folder`. Raises ItemError or Transient; never trusts "ok"."""
        downloader, log = self._of_thread(folder)
        try:
            info = downloader.extract_info(url, download=False, process=False)
            if self._direct_only and not (info or {}).get("direct"):
                raise ItemError(Outcome.UNAVAILABLE, "not_media", f"{url} is a page, not a media file")
            info = downloader.process_ie_result(info, download=True)
        except yt_dlp.utils.YoutubeDLError as error:
            raise classified(error) from error
        found = [Path(item["filepath"]) for item in info.get("requested_downloads", ()) if "filepath" in item]
        if not found or not found[0].is_file() or not found[0].stat().st_size:
            raise by_message(log.last or "yt-dlp reported success without a file")
        return found[0]

    def _of_thread(self, folder: Path) -> tuple[yt_dlp.YoutubeDL, _Silent]:
        if not hasattr(self._threads, "pair"):
            log = _Silent()
            shared = {
                "quiet": True,
                "noprogress": True,
                "logger": log,
                "cachedir": False,
                "noplaylist": True,
                "socket_timeout": SOCKET_TIMEOUT_S,
                "max_filesize": SIZE_CAP_BYTES,
                "fixup": "never",
                "retries": 2,
                "outtmpl": {"default": "media.%(ext)s"},  # never a name that the server chose
            }
            self._threads.pair = yt_dlp.YoutubeDL({**shared, **self._options}), log  # pyright: ignore[reportArgumentType]
        downloader, log = self._threads.pair
        downloader.params["paths"], log.last = {"home": str(folder)}, ""
        return downloader, log


def classified(error: Exception) -> ItemError | Transient:
    """What an error of yt-dlp means: the video's fault (ItemError) or the world's (Transient)."""
    cause = error.exc_info[1] if isinstance(error, yt_dlp.utils.DownloadError) and error.exc_info else error
    if isinstance(cause, yt_dlp.utils.ExtractorError) and cause.cause is not None:
        cause = cause.cause
    if isinstance(cause, network.HTTPError):
        if cause.status in GONE:
            return ItemError(Outcome.UNAVAILABLE, GONE[cause.status], f"HTTP {cause.status}")
        return Transient(LATER.get(cause.status, "network"), f"HTTP {cause.status}")
    if isinstance(cause, network.TransportError):
        return Transient("network", str(cause))
    return by_message(str(error))


def by_message(message: str) -> ItemError | Transient:
    """What a message of yt-dlp means; one that is not known waits, as `unknown`."""
    lowered = message.lower()
    for text, (reason, is_transient) in MESSAGES.items():
        if text in lowered:
            return (
                Transient(reason, message)
                if is_transient
                else ItemError(Outcome.UNAVAILABLE, reason, message)
            )
    return Transient("unknown", message)
