"""Escape hatches as options of yt-dlp: a provider of PO tokens, impersonation, and cookies from a browser."""

import http.client
import json
import os
import sqlite3
from collections.abc import Callable, Mapping
from contextlib import closing
from functools import partial
from http import HTTPStatus
from typing import Any, cast
from urllib.parse import urljoin, urlsplit

os.environ["YTDLP_NO_PLUGINS"] = "1"  # read when yt_dlp is imported

import yt_dlp.cookies  # noqa: E402
import yt_dlp.utils  # noqa: E402
from yt_dlp.extractor.youtube.pot import provider as pot  # noqa: E402
from yt_dlp.extractor.youtube.pot.utils import (  # noqa: E402
    WEBPO_CLIENTS,
    get_webpo_content_binding,
)
from yt_dlp.networking.exceptions import TransportError  # noqa: E402
from yt_dlp.networking.impersonate import ImpersonateTarget  # noqa: E402

from schemas.errors import DataError, RequestError
from tasks.transport.answers import REDIRECTS  # noqa: E402
from tasks.transport.connections import addresses_of  # noqa: E402
from tasks.transport.hatches import FIREFOX, Hatches, provider_address  # noqa: E402
from tasks.transport.partials import Validators  # noqa: E402
from tasks.transport.policy import Access, refusal  # noqa: E402
from tasks.transport.transfer import Patience  # noqa: E402

POT_S = 30.0  # a provider runs YouTube's own script for each token
POT_BYTES = 1 << 16  # of an answer, which normally has a few hundred
BECOMES_GET = (301, 302, 303)


def options_of(hatches: Hatches) -> dict[str, Any]:
    """Their options for yt-dlp. Raises RequestError for what this machine lacks."""
    options: dict[str, Any] = {}
    arguments: dict[str, Any] = {name: dict(args) for name, args in hatches.extractor_args.items()}
    if hatches.po_token_provider:
        address = provider_address(hatches.po_token_provider)
        arguments[f"youtubepot-{BgutilHttpPTP.PROVIDER_KEY.lower()}"] = {"base_url": [address]}
    if arguments:
        options["extractor_args"] = arguments
    if hatches.impersonate:
        options["impersonate"] = target_of(hatches.impersonate)
    if hatches.cookies_from_browser:
        options["cookiesfrombrowser"] = browser_of(hatches.cookies_from_browser)
    return options


def browser_of(named: str) -> tuple[str, str | None, str | None, None]:
    """Browser, profile, keyring and container, as yt-dlp wants them. Raises RequestError if there are no cookies.

    The keyring is the one that requires no program to be run.
    """
    name, _, profile = named.partition(":")
    spec = name, profile or None, None if name == FIREFOX else "BASICTEXT", None
    try:
        silent = cast(Any, _Silent())
        keyring = cast(Any, spec[2])
        yt_dlp.cookies.extract_cookies_from_browser(name, spec[1], silent, keyring=keyring)
    except (OSError, ValueError, LookupError, sqlite3.Error, yt_dlp.utils.YoutubeDLError) as error:
        raise RequestError(f"cookies_from_browser {named}: {error}") from None
    return spec


class _Silent:
    """What yt-dlp reports while it reads a browser's cookies."""

    def debug(self, message: str) -> None:
        del message

    info = warning = error = debug

    def progress_bar(self) -> None:
        return None


def target_of(named: str) -> ImpersonateTarget:
    """The browser to impersonate. Raises RequestError if it is not available."""
    handler = curl_handler(named)
    target = ImpersonateTarget.from_str(named)
    if not any(target in known for known in handler._SUPPORTED_IMPERSONATE_TARGET_MAP):
        raise RequestError(f"impersonate {named}: curl_cffi knows no such browser; try chrome")
    return target


def curl_handler(named: str) -> Any:
    """yt-dlp's handler that can impersonate a browser. Raises RequestError if its library is missing."""
    try:
        from yt_dlp.networking._curlcffi import CurlCFFIRH
    except ImportError as error:
        raise RequestError(f"impersonate {named}: {error}; pip install curl_cffi") from None
    return CurlCFFIRH


class BgutilHttpPTP(pot.PoTokenProvider):
    """Gets PO tokens from a server of bgutil-ytdlp-pot-provider by its protocol; no plug-in is loaded."""

    PROVIDER_VERSION = "2"
    BUG_REPORT_LOCATION = "docs/acquisition.md"
    _SUPPORTED_CLIENTS: Any = WEBPO_CLIENTS
    _SUPPORTED_CONTEXTS: Any = (pot.PoTokenContext.GVS, pot.PoTokenContext.PLAYER, pot.PoTokenContext.SUBS)
    _SUPPORTED_EXTERNAL_REQUEST_FEATURES: Any = tuple(pot.ExternalRequestFeature)

    def is_available(self) -> bool:
        """Only if a lane names it."""
        return bool(self.settings.get("base_url"))

    def _real_request_pot(self, request: pot.PoTokenRequest) -> pot.PoTokenResponse:
        address = self.settings["base_url"][0]
        body = {
            "bypass_cache": request.bypass_cache,
            "challenge": None,  # then the server fetches one itself
            "content_binding": get_webpo_content_binding(request)[0],
            "disable_tls_verification": False,
            "proxy": request.request_proxy,
            "innertube_context": request.innertube_context,
            "source_address": request.request_source_address,
        }
        try:
            return pot.PoTokenResponse(po_token=_token_of(address, body))
        except (OSError, ValueError, http.client.HTTPException) as error:
            raise pot.PoTokenProviderError(f"po_token_provider at {address}: {error}") from error


def _token_of(address: str, body: Mapping[str, Any]) -> str:
    """The token that a provider returns. The request is direct, not through the lane, and follows no redirects."""
    parts = urlsplit(address)
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    with closing(kind(parts.hostname or "", parts.port, timeout=POT_S)) as connection:
        headers = {"Content-Type": "application/json"}
        connection.request("POST", f"{parts.path}/get_pot", json.dumps(body), headers)
        answer = connection.getresponse()
        said = answer.read(POT_BYTES)
        if answer.status != HTTPStatus.OK:
            raise DataError(f"HTTP {answer.status}")
    returned = json.loads(said)
    token = returned.get("poToken") if isinstance(returned, dict) else None
    if not isinstance(token, str) or not token:
        raise DataError(f"it answered without a token: {str(returned)[:200]}")
    return token


pot.register_provider(BgutilHttpPTP)


class CurlGuard:
    """Holds curl back in the same way: each hop waits for the lane, and uses the address that was checked."""

    def __init__(self, access: Access, refused: type[Exception], most_redirects: int) -> None:
        self._access = access
        self._refused = refused
        self._most = most_redirects

    def session(self, session: Any, validators: Callable[[], Validators | None]) -> Any:
        """The session, guarded."""
        ask = session.request

        def request(method: str, url: str, **settings: Any) -> Any:
            settings.pop("max_redirects", None)
            settings["headers"] = headers = dict(settings.get("headers") or {})
            known = validators()
            if known:
                known.put_into(headers, url)
            first = url
            for _ in range(self._most + 1):
                self._check(session, url)
                answer = ask(method, url, **settings, allow_redirects=False)
                location = answer.headers.get("Location")
                if answer.status_code not in REDIRECTS or not location:
                    if known and answer.ok:
                        known.keep(
                            first, answer.headers, is_rest=answer.status_code == HTTPStatus.PARTIAL_CONTENT
                        )
                    return self._patient(answer)
                answer.close()
                url = urljoin(url, location)
                if answer.status_code in BECOMES_GET and method != "HEAD":
                    method = "GET"
                    settings["data"] = None
            raise TransportError(f"more than {self._most} redirects (redirect loop)")

        session.request = request
        return session

    def _patient(self, answer: Any) -> Any:
        chunks = answer.iter_content()
        patience = Patience(lambda size, **settings: next(chunks, b""), self._access.limits)
        answer.iter_content = lambda: iter(partial(patience.read, 1), b"")  # one chunk each, of any size
        return answer

    def _check(self, session: Any, url: str) -> None:
        """Waits for the lane. Raises if an address must not be visited."""
        from curl_cffi.const import CurlOpt

        if why := refusal(url, self._access):
            raise self._refused(why)
        if not self._access.proxy:
            parts = urlsplit(url)
            port = parts.port or (443 if parts.scheme == "https" else 80)
            pinned = addresses_of(parts.hostname or "", port, self._access, self._refused)
            if pinned:
                joined = ",".join(f"[{one}]" if ":" in one else one for one in pinned)
                session.curl.setopt(CurlOpt.RESOLVE, [f"{parts.hostname}:{port}:{joined}"])
        self._access.gate()
