"""Pages without the media of strangers: what is left of a report when a clip of its dataset is taken down."""

import re
from collections.abc import Collection

URI = re.compile(r"data:(image|audio|video)/[a-z0-9.+-]+;base64,[A-Za-z0-9+/=]*")
# A grey square: an <img> needs something to show. Not base64, so that cleaning twice changes nothing.
BLANK = "data:image/svg+xml,%3Csvg xmlns='http:%2F%2Fwww.w3.org/2000/svg'/%3E"
AUDIO = re.compile(r"<audio\b[^>]*></audio>")
NOTE = "<p><strong>The media of this page were removed, because a video of its dataset was taken down.</strong></p>"
NAME = "[taken down]"


def without_videos(text: str, video_ids: Collection[str]) -> str:
    """A text without the names of the videos: their keys are the ids with times behind."""
    for video_id in video_ids:
        named = re.compile(rf"(?<![A-Za-z0-9_-]){re.escape(video_id)}(_\d+_\d+)?(?![A-Za-z0-9_-])")
        text = named.sub(NAME, text)
    return text


def without_media(page: str, video_ids: Collection[str]) -> str:
    """A report without its pictures and sounds: a page does not say of each whose it is."""
    if not URI.search(page):
        return without_videos(page, video_ids)
    bare = AUDIO.sub("", page)
    bare = URI.sub(BLANK, bare)
    return without_videos(bare.replace("</h1>", f"</h1>\n{NOTE}", 1), video_ids)
