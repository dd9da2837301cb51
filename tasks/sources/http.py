"""Any host that serves media by video id: a URL template such as `http://host/{video_id}.mp4`.

Only media answers are accepted, and lists of their fragments (HLS, DASH), which yt-dlp reads in a separate process. A
page is an error, and is never searched for players. Secrets are written in the template as `{env:NAME}` or
`{block:NAME}`.
"""

from collections.abc import Collection, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

from schemas.errors import RequestError
from schemas.outcome import ItemError, Transient
from schemas.segment import VIDEO_ID
from tasks.media.merging import merger
from tasks.sources import Fetch
from tasks.transport.direct import URLLIB3, DirectHost, ManifestError
from tasks.transport.failure_classes import failure
from tasks.transport.limited import YTDLP, LimitedDownloader
from tasks.transport.policy import Access, is_inside
from tasks.transport.templates import expanded, hidden, without_secrets

TOOL = f"{URLLIB3}, {YTDLP}"
FORM = "http://HOST/{video_id}.mp4"


@contextmanager
def open_source(spec: str, state: Path, access: Access) -> Iterator[Fetch]:
    """Yields `fetch` for the URL template `spec`. Raises RequestError if it is not one, and for unknown secrets."""
    url = urlsplit(spec)
    if url.scheme not in ("http", "https") or not url.netloc or "{video_id}" not in spec:
        raise RequestError(f"--source {spec}: a URL template is http(s)://... with {{video_id}} in it")
    if without_secrets(spec)[1]:
        raise RequestError(
            "--source: a URL with credentials would appear in logs and rows; name them as {env:NAME}"
        )
    template, secrets = expanded(spec, access.secret)
    host = urlsplit(template).hostname or ""
    access = replace(access, may_go_inside=is_inside(host, may_resolve=not access.proxy))
    direct = DirectHost(access)

    def options() -> dict[str, Any]:
        return {"allowed_extractors": ["generic"], "ffmpeg_location": str(merger(state))}

    fragments = LimitedDownloader(options, access, direct_only=True)

    def fetch(video_id: str, folder: Path) -> Path:
        if VIDEO_ID.fullmatch(video_id) is None:
            raise failure("policy_reject", f"{video_id[:80]!r} is no id")
        url = template.replace("{video_id}", quote(video_id, safe=""))
        with _without(secrets):
            if access.needs_ytdlp:
                return fragments.fetch(url, folder)
            try:
                return direct.fetch(url, folder)
            except ManifestError:
                return fragments.fetch(url, folder)

    with closing(direct), closing(fragments):
        yield fetch


@contextmanager
def _without(secrets: Collection[str]) -> Iterator[None]:
    """Hides the values of secrets in the evidence of failures."""
    try:
        yield
    except ItemError as error:
        raise ItemError(error.outcome, error.reason, hidden(error.detail, secrets), error.status) from None
    except Transient as error:
        raise Transient(error.reason, hidden(error.detail, secrets), error.status, error.after_s) from None
