"""Any host that serves media by video id: a URL template such as `http://host/{video_id}.mp4`, through yt-dlp.

Only direct media answers are accepted: a page is an error, and is never searched for players. Secrets stand in the
template as `{env:NAME}` or `{block:NAME}`.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from urllib.parse import quote, urlsplit

from schemas.errors import RequestError
from schemas.outcome import ItemError, Transient
from schemas.segment import VIDEO_ID
from tasks.sources import Fetch
from tasks.transport.failure_classes import failure
from tasks.transport.policy import Access, is_inside
from tasks.transport.templates import expanded, hidden, without_secrets
from tasks.transport.ytdlp import TOOL as TOOL
from tasks.transport.ytdlp import Downloader

FORM = "http://HOST/{video_id}.mp4"


@contextmanager
def open_source(spec: str, state: Path, access: Access) -> Iterator[Fetch]:
    """Yields `fetch` for the URL template `spec`. Raises RequestError for what is none, and for unknown secrets."""
    del state
    url = urlsplit(spec)
    if url.scheme not in ("http", "https") or not url.netloc or "{video_id}" not in spec:
        raise RequestError(f"--source {spec}: a URL template is http(s)://... with {{video_id}} in it")
    if without_secrets(spec)[1]:
        raise RequestError(
            "--source: a URL with credentials would stand in logs and rows; name them as {env:NAME}"
        )
    template, secrets = expanded(spec, access.secret)
    host = urlsplit(template).hostname or ""
    access = replace(access, may_go_inside=is_inside(host, may_resolve=not access.proxy))
    downloader = Downloader({"allowed_extractors": ["generic"]}, access, direct_only=True)

    def fetch(video_id: str, folder: Path) -> Path:
        if VIDEO_ID.fullmatch(video_id) is None:
            raise failure("policy_reject", f"{video_id[:80]!r} is no id")
        try:
            return downloader.fetch(template.replace("{video_id}", quote(video_id, safe="")), folder)
        except ItemError as error:
            raise ItemError(
                error.outcome, error.reason, hidden(error.detail, secrets), error.status
            ) from None
        except Transient as error:
            raise Transient(
                error.reason, hidden(error.detail, secrets), error.status, error.after_s
            ) from None

    yield fetch
