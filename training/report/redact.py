"""Removes taken-down videos from pages: their names, and all media of a page that may show them."""

import re
from collections.abc import Collection

from schemas.segment import is_telling

URI = re.compile(r"data:(image|audio|video)/[a-z0-9.+-]+;base64,[A-Za-z0-9+/=]*")
# An empty picture for <img>. Not base64, so that cleaning a page twice changes nothing.
BLANK = "data:image/svg+xml,%3Csvg xmlns='http:%2F%2Fwww.w3.org/2000/svg'/%3E"
AUDIO = re.compile(r"<audio\b[^>]*></audio>")
NOTE = "<p><strong>The media of this page were removed, because a video of its dataset was taken down.</strong></p>"
NAME = "[taken down]"


def without_videos(text: str, video_ids: Collection[str]) -> str:
    """The text without the ids of the videos, and their clips' keys, which are an id and times.

    For an id that is a short number, only the keys: numbers on a page may mean other things.
    """
    for video_id in video_ids:
        times = rf"(_\d+_\d+){'?' if is_telling(video_id) else ''}"
        named = re.compile(rf"(?<![A-Za-z0-9_-]){re.escape(video_id)}{times}(?![A-Za-z0-9_-])")
        text = named.sub(NAME, text)
    return text


def without_media(page: str, video_ids: Collection[str]) -> str:
    """The report without all pictures and sounds, because a page does not record which video each comes from."""
    if not URI.search(page):
        return without_videos(page, video_ids)
    bare = AUDIO.sub("", page)
    bare = URI.sub(BLANK, bare)
    return without_videos(bare.replace("</h1>", f"</h1>\n{NOTE}", 1), video_ids)
