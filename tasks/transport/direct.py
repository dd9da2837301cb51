"""Direct media: one plain, bounded GET per file, through redirects that the policy allows.

Only the status, a few headers and the first bytes of an answer are parsed. A partial file of an earlier run is
continued if the host confirms that the file is the same.
"""

import http.client
import re
import ssl
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from http import HTTPStatus
from http.cookiejar import LoadError, MozillaCookieJar
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import unquote, urljoin, urlsplit
from urllib.request import Request

import certifi
import urllib3

from schemas.errors import RequestError
from schemas.storage import make_folder
from tasks.transport.answers import (
    HEAD_BYTES,
    MAX_REDIRECTS,
    REDIRECTS,
    by_status,
    is_manifest,
    is_page,
    of_connection,
    scrubbed,
    why_not_media,
)
from tasks.transport.connections import checked_pools
from tasks.transport.failure_classes import failure
from tasks.transport.partials import PART, Validators
from tasks.transport.policy import Access, refusal
from tasks.transport.transfer import PIECE_BYTES, Patience

URLLIB3 = f"urllib3 {urllib3.__version__}"
USER_AGENT = f"mcgurk/{version('mcgurk')}"
BROKEN = (
    urllib3.exceptions.HTTPError,
    http.client.HTTPException,
    OSError,
    UnicodeError,
    OverflowError,  # http.client, at a chunk of -99999999999999999999 bytes
)  # what a request may raise
SUFFIX = re.compile(r"\.[a-z0-9]{1,5}")
RANGE = re.compile(r"bytes (\d{1,15})-")


class RefusedError(Exception):
    """An address that is never visited, even after a redirect."""


class ManifestError(Exception):
    """The address is not a media file but a list of fragments, which yt-dlp has to read."""


class DirectHost:
    """Fetches media files through one lane; may be used from any thread."""

    def __init__(self, access: Access) -> None:
        self._access = access
        self._cookies = _cookie_jar(access.cookies)
        self._pool = _pool(access)

    def close(self) -> None:
        """Closes its connections."""
        self._pool.clear()

    def fetch(self, url: str, folder: Path) -> Path:
        """The media file behind `url`, in `folder`; a partial download there is continued.

        If the access takes no media, only the first bytes are read, and `folder` stays empty. Raises ItemError,
        Transient, what the lane raises, ManifestError for a list of fragments, and OSError for a full disk.
        """
        if not self._access.takes_media:
            self._look(url, folder)
            return folder
        suffix = Path(urlsplit(url).path).suffix.lower()
        target = folder / f"media{suffix if SUFFIX.fullmatch(suffix) else ''}"
        part = folder / f"{target.name}{PART}"
        make_folder(folder)
        if not self._continued(url, part):
            part.unlink()  # it is not the beginning of what the host has now
            self._continued(url, part)
        return part.replace(target)

    def _look(self, url: str, folder: Path) -> None:
        """Closes the connection once the head of a media file has arrived. Raises as `fetch` does."""
        with self._answer(url, self._headers(folder)) as answer:
            _require_success(answer)
            patience = Patience(answer.read1, self._access.limits)
            if not _head(patience, answer.headers.get("Content-Type", "")):
                raise failure("network", "the answer is empty")

    def _continued(self, url: str, part: Path) -> bool:
        """Fetches the missing rest of `part`; False if the host has nothing that follows it."""
        validators = Validators(part.parent)
        headers = self._headers(part)
        validators.put_into(headers, url)
        with self._answer(url, headers) as answer:
            if answer.status == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE and "Range" in headers:
                return False
            _require_success(answer)
            is_rest = answer.status == HTTPStatus.PARTIAL_CONTENT
            validators.keep(url, answer.headers, is_rest=is_rest)
            self._store(answer, part, _require_rest(answer, part) if is_rest else 0)
        return True

    def _headers(self, part: Path) -> dict[str, str]:
        headers = {"User-Agent": self._access.user_agent or USER_AGENT, "Accept": "*/*"}
        headers["Accept-Encoding"] = "identity"  # bytes that are counted, and that can be continued
        if part.is_file() and (size := part.stat().st_size):
            headers["Range"] = f"bytes={size}-"
        return headers

    @contextmanager
    def _answer(self, url: str, headers: Mapping[str, str]) -> Iterator[Any]:
        """The answer at the end of all redirects, each of which waits for the lane. Raises ItemError or Transient."""
        for _ in range(MAX_REDIRECTS + 1):
            answer = self._asked(url, headers)
            location = answer.headers.get("Location")
            if answer.status not in REDIRECTS or not location:
                with closing(answer):
                    yield answer
                return
            answer.close()
            url = _next(url, location)
        raise failure("network", f"more than {MAX_REDIRECTS} redirects (redirect loop)")

    def _asked(self, url: str, headers: Mapping[str, str]) -> Any:
        if why := refusal(url, self._access):
            raise failure("policy_reject", scrubbed(why))
        self._access.gate()
        url, login = _without_login(url)
        request = Request(url)  # noqa: S310  (its scheme was checked; only for the cookies)
        self._cookies.add_cookie_header(request)
        sent = {**headers, **login, **dict(request.header_items())}
        with _on_the_network():
            answer = self._pool.urlopen("GET", url, headers=sent, redirect=False, preload_content=False)
        self._cookies.extract_cookies(answer, request)  # pyright: ignore[reportArgumentType]  (it has `info`)
        return answer

    def _store(self, answer: Any, part: Path, offset: int) -> None:
        """Writes the body behind the first `offset` bytes of `part`, piece by piece."""
        most = self._access.limits.size_bytes
        size = offset + (answer.length_remaining or 0)
        if size > most:
            raise failure("too_large", f"{size:,} bytes are announced, more than {most:,}")
        patience = Patience(answer.read1, self._access.limits)
        size = offset
        # Before the file is created, so that a body that is not media leaves no file behind.
        content_type = answer.headers.get("Content-Type", "")
        piece = _rest(patience, content_type) if offset else _head(patience, content_type)
        with part.open("ab" if offset else "wb", buffering=0) as file:
            while piece:
                size += len(piece)
                if size > most:
                    raise failure("too_large", f"still downloading after {size:,} bytes")
                file.write(piece)
                piece = _read(patience)
        if not size:
            raise failure("network", "the answer is empty")


def _require_success(answer: Any) -> None:
    """Raises ItemError or Transient for an answer that says why there is no file."""
    if not HTTPStatus.OK <= answer.status < HTTPStatus.MULTIPLE_CHOICES:
        raise by_status(answer.status, answer.headers.get("Retry-After", ""))


def _head(patience: Patience, content_type: str) -> bytes:
    """The first bytes of a body. Raises ItemError if it is not media, ManifestError for a list of fragments."""
    with _on_the_network():
        head = patience.read(HEAD_BYTES)
    if is_manifest(head):
        raise ManifestError
    if head and (why := why_not_media(head, content_type)):
        raise failure("not_media", why)
    return head


def _rest(patience: Patience, content_type: str) -> bytes:
    """The first piece of a body's rest. Raises ItemError if text is sent in its place."""
    piece = _read(patience)
    if is_page(piece[:HEAD_BYTES], content_type):
        raise failure("not_media", f"the rest of it is {content_type.strip()[:80]}")
    return piece


def _read(patience: Patience) -> bytes:
    with _on_the_network():
        return patience.piece(PIECE_BYTES)


def _require_rest(answer: Any, part: Path) -> int:
    """The size of `part`, if the answer continues it. Otherwise raises Transient and removes `part`."""
    size = part.stat().st_size if part.is_file() else 0
    begins = RANGE.match(answer.headers.get("Content-Range", ""))
    if not size or begins is None or int(begins[1]) != size:
        part.unlink(missing_ok=True)
        raise failure("network", "the host sent another range than requested")
    return size


def _next(url: str, location: str) -> str:
    """Where a redirect leads; a login is sent on to the same host only. Raises ItemError if it leaves TLS."""
    before = urlsplit(url)
    try:
        after = urlsplit(urljoin(url, location))
        is_same = (after.scheme, after.hostname, after.port) == (before.scheme, before.hostname, before.port)
    except ValueError:
        raise failure(
            "policy_reject", f"a redirect to {scrubbed(location)[:80]!r}, which is no address"
        ) from None
    if (before.scheme, after.scheme) == ("https", "http"):
        raise failure("policy_reject", "a redirect from https to http, where anybody could change the media")
    return after._replace(netloc=before.netloc).geturl() if is_same else after.geturl()


def _without_login(url: str) -> tuple[str, dict[str, str]]:
    """The address without the login before its host, and a header with the login instead."""
    parts = urlsplit(url)
    login, _, host = parts.netloc.rpartition("@")
    if not login:
        return url, {}
    user, _, password = login.partition(":")
    header = urllib3.make_headers(basic_auth=f"{unquote(user)}:{unquote(password)}")
    return parts._replace(netloc=host).geturl(), header


@contextmanager
def _on_the_network() -> Iterator[None]:
    try:
        yield
    except RefusedError as error:
        raise failure("policy_reject", scrubbed(str(error))) from None
    except BROKEN as error:
        raise failure("network", of_connection(scrubbed(str(error)))) from error


def _cookie_jar(text: str) -> MozillaCookieJar:
    """The cookies in a cookies file. Raises RequestError for any other text."""
    jar = MozillaCookieJar()
    if text:
        with TemporaryDirectory() as folder:  # which only this account can read
            path = Path(folder) / "cookies.txt"
            path.write_text(text)
            try:
                jar.load(str(path), ignore_discard=True, ignore_expires=True)
            except LoadError:
                raise RequestError(
                    "cookies: not a cookies file in Netscape's format, as browsers export it"
                ) from None
    for cookie in jar:
        cookie.expires = cookie.expires or None  # 0 marks one of a session, not one of 1970
    return jar


def _pool(access: Access) -> urllib3.PoolManager:
    """Connections that go to checked addresses, or to the lane's proxy."""
    context = ssl.create_default_context()
    context.load_verify_locations(certifi.where())  # a small machine may have no certificates of its own
    settings: dict[str, Any] = {"ssl_context": context, "retries": False, "maxsize": 8}
    settings["timeout"] = urllib3.Timeout(connect=access.limits.timeout_s, read=access.limits.timeout_s)
    if access.proxy:
        return _proxied(access.proxy, settings)
    pool = urllib3.PoolManager(**settings)
    pool.pool_classes_by_scheme = checked_pools(access, RefusedError)
    return pool


def _proxied(proxy: str, settings: Mapping[str, Any]) -> urllib3.PoolManager:
    address, login = _without_login(proxy)
    headers = {f"Proxy-{name}": value for name, value in login.items()}
    return urllib3.ProxyManager(address, proxy_headers=headers, **settings)
