"""A host that does to a downloader what the world does: by script, by seed, and by an injected clock.

Its log of (time, video id) is the witness of what was really asked, and when.
"""

import hashlib
import ipaddress
import random
import re
import socket
import ssl
import struct
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from tempfile import NamedTemporaryFile
from threading import Event

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from raw_answers import NOT_HTTP
from real_servers import answering

from tasks.transport.lanes import Clock

# What a host can do -> the class that it must get; `ok` for what a downloader has to bear.
FAULTS = {
    "404": "removed", "410": "removed", "451": "copyright", "401": "private", "403": "forbidden",
    "429": "rate_limited", "429_retry_after": "rate_limited", "503": "network", "500": "network",
    "truncated": "network", "stall": "network", "drip": "network", "reset": "network",
    "late_drip": "network", "tls_none": "network", "tls_self_signed": "network", "longer": "network",
    "shorter": "decodable", "redirect_loop": "network", "redirect_scheme": "policy_reject", "html": "not_media",
    "endless": "too_large", "huge": "too_large", "no_range": "ok", "named": "ok",
}  # fmt: skip
STATUSES = {"404", "410", "451", "401", "403", "429", "503", "500"}
RETRY_AFTER_S = 7200
# Who breaks off, or lies: what it says that it sends, and what it sends before it breaks, as shares of the file.
PROMISES = {
    "huge": 1e5, "truncated": 1, "stall": 1, "drip": 1, "late_drip": 20, "reset": 1, "longer": 2, "shorter": 0.5,
}  # fmt: skip
SENT = {"drip": 0, "late_drip": 1, "longer": 1, "shorter": 1}
CHUNK = bytes(1 << 16)
# 2.5 kB a second
DRIP_BYTES = 256
DRIP_S = 0.1


@dataclass
class HostileHost:
    """Serves one file under every id, except for what `faults` says; `back_at_s` ends an id's fault."""

    file: Path
    clock: Clock = field(default_factory=Clock)
    faults: dict[str, str] = field(default_factory=dict)
    back_at_s: dict[str, float] = field(default_factory=dict)
    log: list[tuple[float, str]] = field(default_factory=list)
    ranges: list[tuple[str, str]] = field(
        default_factory=list
    )  # video id, and which bytes of it were asked for
    has_etags: bool = True
    address: str = ""
    untrusted: str = ""  # the same, with a certificate that nobody signed
    is_over: Event = field(default_factory=Event)

    def content_of(self, video_id: str) -> bytes:
        """The file that it serves under that id."""
        del video_id
        return self.file.read_bytes()

    def fault_of(self, video_id: str) -> str:
        """What happens to a request for `video_id` now."""
        is_back = self.clock.now_s() >= self.back_at_s.get(video_id, float("inf"))
        return "" if is_back else self.faults.get(video_id, "")


def seeded(ids: list[str], share: float, weights: Mapping[str, int], seed: int) -> dict[str, str]:
    """Faults for that share of the ids, drawn by weight: the same for the same seed."""
    rng = random.Random(seed)
    chosen = rng.sample(ids, round(share * len(ids)))
    return dict(zip(chosen, rng.choices(list(weights), list(weights.values()), k=len(chosen)), strict=True))


@contextmanager
def hostile(host: HostileHost) -> Iterator[HostileHost]:
    """The host on a free port of loopback."""
    handler = handler_of(host)
    with answering(handler) as host.address, answering(handler, _self_signed()) as host.untrusted:
        try:
            yield host
        finally:
            host.is_over.set()  # those who stall


def handler_of(host: HostileHost) -> Callable:
    """What answers the requests to a host."""
    return partial(_Handler, host)


def _self_signed() -> ssl.SSLContext:
    key = ec.generate_private_key(ec.SECP256R1())
    now = datetime.now(UTC)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    mine = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    made = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
    made = made.not_valid_before(now - timedelta(days=1)).not_valid_after(now + timedelta(days=1))
    signed = made.add_extension(mine, critical=False).sign(key, hashes.SHA256())
    pem = serialization.Encoding.PEM
    plain = serialization.NoEncryption()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with NamedTemporaryFile() as file:
        file.write(
            key.private_bytes(pem, serialization.PrivateFormat.PKCS8, plain) + signed.public_bytes(pem)
        )
        file.flush()
        context.load_cert_chain(file.name)
    return context


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def __init__(self, host: HostileHost, *arguments) -> None:
        self.host = host
        super().__init__(*arguments)

    def do_GET(self) -> None:  # noqa: N802
        video_id = self.path.strip("/").split(".")[0]
        self.host.log.append((self.host.clock.now_s(), video_id))
        if "Range" in self.headers:
            self.host.ranges.append((video_id, self.headers["Range"]))
        fault = self.host.fault_of(video_id)
        if fault.split("_")[0] in STATUSES:
            self._head(int(fault.split("_")[0]), 0, {"Retry-After": RETRY_AFTER_S} if "_" in fault else {})
        elif fault in NOT_HTTP:
            self.close_connection = True
            with suppress(ConnectionError):
                self.wfile.write(NOT_HTTP[fault])
        elif fault in self._elsewhere:
            self._head(302, 0, {"Location": self._elsewhere[fault]})
        else:
            with suppress(ConnectionError):
                self._media(fault, self.host.content_of(video_id))

    @property
    def _elsewhere(self) -> dict[str, str]:
        plain = self.host.address.removeprefix("http://")
        return {
            "redirect_loop": self.path,
            "redirect_scheme": "ftp://127.0.0.1/x.mp4",
            "tls_none": f"https://{plain}{self.path}",  # a port that speaks no TLS
            "tls_self_signed": f"{self.host.untrusted.replace('http:', 'https:')}{self.path}",
        }

    def _media(self, fault: str, content: bytes) -> None:
        if fault == "html":
            self._send(b"<!doctype html><video src='/other.mp4'></video>", {"Content-Type": "text/html"})
        elif fault == "endless":
            self._head(200, None, {"Connection": "close"})
            while not self.host.is_over.is_set():
                self.wfile.write(CHUNK)
        elif fault in PROMISES:
            promised = round(PROMISES[fault] * len(content))
            self._head(200, promised, {"Connection": "close", **self._etag(content)})
            self.wfile.write(content[: round(SENT.get(fault, 0.5) * len(content))])
            self._break(fault, content)
        elif fault == "no_range":
            self._send(content, {"Accept-Ranges": "none"})
        elif fault == "named":
            self._send(content, {"Content-Disposition": 'attachment; filename="../../evil.sh"'})
        else:
            self._rest(content)

    def _rest(self, content: bytes) -> None:
        """The file, or what was asked for of it as long as it is the same file."""
        etag = self._etag(content)
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        if asked and self.headers.get("If-Range") in (None, etag.get("ETag")):
            first = int(asked[1])
            size = len(content)
            self._head(206, size - first, {**etag, "Content-Range": f"bytes {first}-{size - 1}/{size}"})
            self.wfile.write(content[first:])
        else:
            self._send(content, etag)

    def _etag(self, content: bytes) -> dict[str, str]:
        return {"ETag": f'"{hashlib.sha256(content).hexdigest()}"'} if self.host.has_etags else {}

    def _break(self, fault: str, content: bytes) -> None:
        self.close_connection = True
        if fault == "stall":
            self.host.is_over.wait()
        elif fault.endswith("drip"):
            for start in range(0, len(content), DRIP_BYTES):
                self.wfile.write(content[start : start + DRIP_BYTES])
                if self.host.is_over.wait(DRIP_S):
                    return
        elif fault == "reset":
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()

    def _send(self, content: bytes, headers: Mapping[str, object]) -> None:
        self._head(200, len(content), headers)
        self.wfile.write(content)

    def _head(self, status: int, length_bytes: int | None, headers: Mapping[str, object]) -> None:
        self.send_response(status)
        known: dict[str, object] = {"Content-Type": "video/mp4", **headers}
        if length_bytes is not None:
            known["Content-Length"] = length_bytes
        for name, value in known.items():
            self.send_header(name, str(value))
        self.end_headers()

    def log_message(self, *arguments) -> None:
        pass
