"""Access policy: how a source connects, what it waits for, and which addresses it does not visit."""

import ipaddress
import socket
from collections.abc import Callable
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from schemas.errors import RequestError
from tasks.transport.hatches import Hatches

SCHEMES = ("http", "https")


@dataclass(frozen=True)
class DownloadLimits:
    """The limits at which a download stops."""

    size_bytes: int = 4 << 30
    duration_s: float = 12 * 3600.0
    timeout_s: float = 20.0  # without a byte
    patience_s: float = 60.0  # after this time, `slowest_bytes_s` must have been reached
    slowest_bytes_s: float = 4096.0
    long_s: float = 12 * 60.0  # videos from this length on are fetched in sections, if their host has them


def no_secret(name: str) -> str:
    """The lookup of secrets if there are none. Raises RequestError."""
    raise RequestError(f"the secret {name} can't be looked up here")


@dataclass(frozen=True)
class Access:
    """One way out. Its fields never appear in rows, logs or artefacts."""

    gate: Callable[[], None] = field(default=lambda: None)  # returns when the next request may go
    proxy: str = ""
    cookies: str = ""  # the text of a cookies file
    user_agent: str = ""
    secret: Callable[[str], str] = no_secret  # of a template, by its name there
    limits: DownloadLimits = DownloadLimits()
    hatches: Hatches = Hatches()
    takes_media: bool = True  # else it only checks whether a video is there, if the source supports that
    may_go_inside: bool = True  # to private addresses; not when the source itself is a public one

    @property
    def needs_ytdlp(self) -> bool:
        """Whether the lane needs what plain requests can't do, even for direct media."""
        hatches = self.hatches
        return bool(
            hatches.through
            or hatches.impersonate
            or hatches.cookies_from_browser
            or self.proxy.startswith("socks")
        )


def refusal(url: str, access: Access) -> str:
    """Why a request for `url` is refused; empty if it is allowed."""
    parts = urlsplit(url)
    if parts.scheme not in SCHEMES:
        return f"an address with the scheme {parts.scheme[:20]!r} is not fetched"
    if not access.may_go_inside and is_inside(parts.hostname or "", may_resolve=not access.proxy):
        return f"{parts.hostname} is a private address, but the source is public"
    return ""


def is_inside(host: str, *, may_resolve: bool = True) -> bool:
    """Whether `host` is, or resolves to, an address outside the public network."""
    try:
        addresses = [str(ipaddress.ip_address(host.partition("%")[0]))]
    except ValueError:
        addresses = _resolved(host) if may_resolve else []
    return any(not ipaddress.ip_address(address).is_global for address in addresses)


def _resolved(host: str) -> list[str]:
    if host == "localhost":
        return ["127.0.0.1"]
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except OSError:
        return []  # the request will say so
    return [str(one[4][0]).partition("%")[0] for one in found]
