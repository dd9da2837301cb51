"""A host that does to a downloader what the world does: by script, by seed, and by an injected clock.

Its log of (time, video id) is the witness of what was really asked, and when.
"""

import random
import socket
import struct
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from threading import Event

from real_servers import answering

from tasks.lanes import Clock

# What a host can do -> the class that it must get; `ok` for what a downloader has to bear.
FAULTS = {
    "404": "removed", "410": "removed", "451": "copyright", "401": "private", "403": "forbidden",
    "429": "rate_limited", "429_retry_after": "rate_limited", "503": "network", "500": "network",
    "truncated": "network", "stall": "network", "drip": "network", "reset": "network",
    "redirect_loop": "network", "redirect_scheme": "policy_reject", "html": "not_media", "endless": "too_large",
    "huge": "too_large", "no_range": "ok", "named": "ok",
}  # fmt: skip
STATUSES = {"404", "410", "451", "401", "403", "429", "503", "500"}
RETRY_AFTER_S = 7200
CHUNK = bytes(1 << 16)
DRIP_BYTES, DRIP_S = 256, 0.1  # 2.5 kB a second


@dataclass
class HostileHost:
    """Serves one file under every id, except for what `faults` says; `back_at_s` ends an id's fault."""

    file: Path
    clock: Clock = field(default_factory=Clock)
    faults: dict[str, str] = field(default_factory=dict)
    back_at_s: dict[str, float] = field(default_factory=dict)
    log: list[tuple[float, str]] = field(default_factory=list)
    address: str = ""
    is_over: Event = field(default_factory=Event)

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
    with answering(partial(_Handler, host)) as host.address:
        try:
            yield host
        finally:
            host.is_over.set()  # those who stall


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def __init__(self, host: HostileHost, *arguments) -> None:
        self.host = host
        super().__init__(*arguments)

    def do_GET(self) -> None:  # noqa: N802
        video_id = self.path.strip("/").split(".")[0]
        self.host.log.append((self.host.clock.now_s(), video_id))
        fault = self.host.fault_of(video_id)
        if fault.split("_")[0] in STATUSES:
            self._head(int(fault.split("_")[0]), 0, {"Retry-After": RETRY_AFTER_S} if "_" in fault else {})
        elif fault.startswith("redirect"):
            self._head(
                302, 0, {"Location": self.path if fault == "redirect_loop" else "ftp://127.0.0.1/x.mp4"}
            )
        else:
            with suppress(ConnectionError):
                self._media(fault, self.host.file.read_bytes())

    def _media(self, fault: str, content: bytes) -> None:
        if fault == "html":
            self._send(b"<!doctype html><video src='/other.mp4'></video>", {"Content-Type": "text/html"})
        elif fault == "endless":
            self._head(200, None, {"Connection": "close"})
            while not self.host.is_over.is_set():
                self.wfile.write(CHUNK)
        elif fault in ("huge", "truncated", "stall", "drip", "reset"):
            self._head(200, 10 << 30 if fault == "huge" else len(content), {})
            self.wfile.write(content[: 0 if fault == "drip" else len(content) // 2])
            self._break(fault, content)
        else:
            extra = (
                {"Content-Disposition": 'attachment; filename="../../evil.sh"'} if fault == "named" else {}
            )
            self._send(content, {"Accept-Ranges": "none", **extra})

    def _break(self, fault: str, content: bytes) -> None:
        self.close_connection = True
        if fault == "stall":
            self.host.is_over.wait()
        elif fault == "drip":
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
