"""Any host that serves media by video id: a URL template as `http://host/{video_id}.mp4`, through yt-dlp.

Only direct media answers are taken: a page is an error, never searched for players.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote, urlsplit

from tasks.sources import Fetch
from tasks.ytdlp import Downloader


@contextmanager
def open_source(spec: str, state: Path) -> Iterator[Fetch]:
    """Yields `fetch` for the URL template `spec`. Raises ValueError for one that is none."""
    del state
    url = urlsplit(spec)
    if url.scheme not in ("http", "https") or not url.netloc or "{video_id}" not in spec:
        raise ValueError(f"--source {spec}: a URL template is http(s)://... with {{video_id}} in it")
    if urlsplit(spec).username or urlsplit(spec).password:
        raise ValueError("--source: a URL with credentials would stand in logs and rows; name one without")
    downloader = Downloader({"allowed_extractors": ["generic"]}, direct_only=True)

    def fetch(video_id: str, folder: Path) -> Path:
        return downloader.fetch(spec.replace("{video_id}", quote(video_id, safe="")), folder)

    yield fetch
