"""yt-dlp's Python API with the settings that all sources share, and the meaning of its errors.

Its plugins are off: an installed plugin would run foreign code on every answer.
"""

import os
import threading
from collections.abc import Callable, Mapping
from http import HTTPStatus
from io import StringIO
from pathlib import Path
from typing import Any

os.environ["YTDLP_NO_PLUGINS"] = "1"  # read when yt_dlp is imported

import yt_dlp  # noqa: E402
import yt_dlp.networking.exceptions as network  # noqa: E402
import yt_dlp.utils  # noqa: E402
import yt_dlp.version  # noqa: E402
from yt_dlp.networking import Request  # noqa: E402
from yt_dlp.networking._requests import RequestsRH  # noqa: E402

from schemas.outcome import ItemError, Transient  # noqa: E402
from tasks.transport.answers import MAX_REDIRECTS, by_status, of_connection, scrubbed  # noqa: E402
from tasks.transport.connections import checked_pools  # noqa: E402
from tasks.transport.failure_classes import class_of, failure  # noqa: E402
from tasks.transport.hls import Spans, smallest_playlist, trimmed  # noqa: E402
from tasks.transport.lanes import LaneClosed  # noqa: E402
from tasks.transport.partials import Validators  # noqa: E402
from tasks.transport.policy import Access, refusal  # noqa: E402
from tasks.transport.transfer import Patience  # noqa: E402
from tasks.transport.ytdlp_hatches import CurlGuard, curl_handler, options_of  # noqa: E402

TOOL = f"yt-dlp {yt_dlp.version.__version__}"
LIVE = ("is_live", "is_upcoming", "post_live")
PLAYLIST_BYTES = 8 << 20  # of 12 hours in fragments of 5 s with signed addresses of 900 bytes


class Refused(network.RequestError):
    """An address that is never visited, even after a redirect."""


class _Silent:
    """A logger for yt-dlp that keeps the last complaint, because some failures are only logged."""

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


class _YoutubeDL(yt_dlp.YoutubeDL):
    """Every request, including redirects and retries, waits for the lane and visits no refused address."""

    def __init__(self, options: Mapping[str, Any], access: Access) -> None:
        self.access = access
        self.validators: Validators | None = None  # of the folder that media are fetched into
        super().__init__(dict(options))  # pyright: ignore[reportArgumentType]

    def urlopen(self, req):
        """An answer. Raises what our own guards raised, which yt-dlp would report as a request without a handler."""
        try:
            return super().urlopen(req)
        except network.NoSupportingHandlers as error:
            for one in error.unexpected_errors:
                if isinstance(one, LaneClosed | Transient):
                    raise one from None
            raise

    def build_request_director(self, handlers, preferences=None):
        """A director with a single kind of handler: the one whose requests can be held back."""
        named = self.access.hatches.impersonate
        kind: Any = curl_handler(named) if named else RequestsRH
        director = super().build_request_director([kind], preferences)  # pyright: ignore[reportArgumentType]
        for handler in director.handlers.values():
            (self._hold_curl_back if named else self._hold_back)(handler)
        return director

    def _hold_curl_back(self, handler: Any) -> None:
        make = handler._create_instance
        guard = CurlGuard(self.access, Refused, MAX_REDIRECTS)
        handler._create_instance = lambda *args, **kwargs: guard.session(
            make(*args, **kwargs), lambda: self.validators
        )

    def _hold_back(self, handler: Any) -> None:
        make = handler._create_instance

        def made(*args: Any, **kwargs: Any) -> Any:
            session = make(*args, **kwargs)
            session.send = self._guarded(session.send)
            session.max_redirects = MAX_REDIRECTS
            for adapter in set(session.adapters.values()):
                adapter.send = self._patient(adapter.send)
                adapter.poolmanager.pool_classes_by_scheme = checked_pools(self.access, Refused)
            return session

        handler._create_instance = made

    def _guarded(self, send: Callable) -> Callable:
        def guarded(request: Any, **settings: Any) -> Any:
            if why := refusal(request.url, self.access):
                raise Refused(why)
            self.access.gate()
            if self.validators is None or not settings.get("allow_redirects"):
                return send(request, **settings)  # one that a redirect led to has the headers of the first
            self.validators.put_into(request.headers, request.url)
            response = send(request, **settings)
            if response.ok:
                is_rest = response.status_code == HTTPStatus.PARTIAL_CONTENT
                self.validators.keep(request.url, response.headers, is_rest=is_rest)
            return response

        return guarded

    def _patient(self, send: Callable) -> Callable:
        def patient(request: Any, **settings: Any) -> Any:
            response = send(request, **settings)
            # yt-dlp waits for whole blocks, which grow with the speed: 4 MB from a host that drips take an hour.
            response.raw.read = Patience(response.raw.read1, self.access.limits).read
            return response

        return patient


class Downloader:
    """Keeps one YoutubeDL per thread with the same options; each costs 30 ms and is not thread-safe."""

    def __init__(self, options: Mapping[str, Any], access: Access, *, direct_only: bool) -> None:
        self._options = {**options, **options_of(access.hatches)}
        self._access = access
        self._direct_only = direct_only
        self._threads = threading.local()

    def fetch(self, url: str, folder: Path, spans: Spans = ()) -> Path:
        """The media behind `url` as a file in `folder`. Raises ItemError, Transient or LaneClosed; never trusts "ok".

        For a long video the file may contain little more than `spans`, at their times in the whole. A partial download
        in `folder` is continued. If the access takes no media, an empty `folder` means that they are available. Raises
        OSError for a full disk.
        """
        downloader, log = self._of_thread(folder)
        try:
            url, info = self._looked_up(downloader, url)
            self._check(url, info)
            if not self._access.takes_media:
                return folder
            info = self._sectioned(downloader, info, spans)
            downloader.validators = Validators(folder)  # not earlier: a page has its own validators
            info = downloader.process_ie_result(info, download=True)
        except (yt_dlp.utils.YoutubeDLError, network.RequestError) as error:
            raise classified(error, is_direct=self._direct_only) from error
        found = [Path(item["filepath"]) for item in info.get("requested_downloads", ()) if "filepath" in item]
        if not found or not found[0].is_file() or not found[0].stat().st_size:
            raise by_message(log.last or "did not get any data blocks")
        return found[0]

    def _looked_up(self, downloader: yt_dlp.YoutubeDL, url: str) -> tuple[str, Any]:
        """What is known about a video, and its address after all redirects, which yt-dlp returns one by one."""
        for _ in range(MAX_REDIRECTS + 1):
            info: Any = downloader.extract_info(url, download=False, process=False) or {}
            is_redirect = info.get("_type") == "url" and not info.get(
                "title"
            )  # a page's embed has the page's
            if not (self._direct_only and is_redirect):
                return url, info
            url = info["url"]
        raise failure("network", f"more than {MAX_REDIRECTS} redirects (redirect loop)")

    def _check(self, url: str, info: Mapping[str, Any]) -> None:
        """Refuses anything but one finished video of acceptable length, before any of its bytes are fetched."""
        if info.get("_type", "video") != "video":
            raise failure("not_media", f"{url} is a list of videos, not a video")
        if self._direct_only and not (info.get("direct") or _is_manifest(url, info)):
            raise failure("not_media", f"{url} is a page, not a media file")
        if info.get("is_live") or info.get("live_status") in LIVE:
            raise failure("live", f"{url} is {info.get('live_status') or 'live'}")
        length_s = info.get("duration") or 0
        cap_s = self._access.limits.duration_s
        if length_s > cap_s:
            raise failure("too_large", f"{url} lasts {length_s:.0f} s, more than {cap_s:.0f} s")

    def _sectioned(self, downloader: yt_dlp.YoutubeDL, info: Any, spans: Spans) -> Any:
        """`info` with one format that contains little more than `spans`, if that is worthwhile."""
        long_s = self._access.limits.long_s
        chosen = smallest_playlist(info.get("formats") or ())
        if not spans or chosen is None or (info.get("duration") or long_s) < long_s:
            return info
        request: Any = Request(chosen["url"], headers=chosen.get("http_headers"))
        with downloader.urlopen(request) as answer:
            # A longer playlist is cut off, and the video is fetched whole.
            text = answer.read(PLAYLIST_BYTES).decode(errors="replace")
        playlist = trimmed(text, spans, long_s)
        # Another suffix, so that nothing is appended to what an earlier run has of the whole video.
        section = {**chosen, "url": answer.url, "hls_media_playlist_data": playlist, "ext": "ts"}
        return {**info, "formats": [section]} if playlist else info

    def _of_thread(self, folder: Path) -> tuple[_YoutubeDL, _Silent]:
        if not hasattr(self._threads, "pair"):
            log = _Silent()
            options = {**_shared(self._access), **self._options, "logger": log}
            self._threads.pair = _YoutubeDL(options, self._access), log
        downloader, log = self._threads.pair
        downloader.params["paths"] = {"home": str(folder)}
        log.last = ""
        downloader.validators = None
        return downloader, log


def _is_manifest(url: str, info: Mapping[str, Any]) -> bool:
    """Whether the address itself is a list of fragments, and not a page that names one."""
    formats = info.get("formats") or ()
    return bool(formats) and all(url in (one.get("manifest_url"), one.get("url")) for one in formats)


def _shared(access: Access) -> dict[str, Any]:
    """The options of every source, as yt-dlp names them."""
    options: dict[str, Any] = {
        "quiet": True,
        "noprogress": True,
        "cachedir": False,
        "noplaylist": True,
        "socket_timeout": access.limits.timeout_s,
        "max_filesize": access.limits.size_bytes,
        "fixup": "never",
        "retries": 2,
        "fragment_retries": 2,
        "skip_unavailable_fragments": False,  # a file with holes looks whole
        "outtmpl": {"default": "media.%(ext)s"},  # never a name that the server chose
        "progress_hooks": [_Watch(access)],
        "proxy": access.proxy,  # "" means none, whatever the environment says
    }
    if access.cookies:
        options["cookiefile"] = StringIO(access.cookies)
    if access.user_agent:
        options["http_headers"] = {"User-Agent": access.user_agent}
    return options


class _Watch:
    """Stops a download that exceeds the size limit without having announced its size."""

    def __init__(self, access: Access) -> None:
        self._limits = access.limits

    def __call__(self, progress: Mapping[str, Any]) -> None:
        size_bytes = progress.get("downloaded_bytes") or 0
        if size_bytes > self._limits.size_bytes:
            raise failure("too_large", f"still downloading after {size_bytes:,} bytes")


def classified(error: Exception, *, is_direct: bool = True) -> ItemError | Transient | OSError:
    """The meaning of an error of yt-dlp: the fault of the video (ItemError), the world (Transient) or the machine."""
    cause = error.exc_info[1] if isinstance(error, yt_dlp.utils.DownloadError) and error.exc_info else error
    if isinstance(cause, yt_dlp.utils.ExtractorError) and cause.cause is not None:
        cause = cause.cause
    if isinstance(cause, Refused):
        return failure("policy_reject", scrubbed(str(cause)))
    if isinstance(cause, network.HTTPError):
        return _by_status(cause, str(error), is_direct=is_direct)
    if isinstance(cause, network.TransportError):
        return failure("network", of_connection(scrubbed(str(cause))))
    return by_message(str(error))


def _by_status(cause: network.HTTPError, message: str, *, is_direct: bool) -> ItemError | Transient | OSError:
    said = " (redirect loop)" if cause.redirect_loop else ""
    said += "" if is_direct else f": {scrubbed(message)}"
    retry_after = cause.response.headers.get("Retry-After") or ""
    return by_status(cause.status, retry_after, said=said, is_direct=is_direct)


def by_message(message: str) -> ItemError | Transient | OSError:
    """The meaning of a message of yt-dlp; an unknown one is `unknown`, to be tried again."""
    return failure(class_of(message), scrubbed(message))
