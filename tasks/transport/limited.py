"""yt-dlp in a separate process: pages and lists of fragments are parsed there, within limits.

Its parsers were not written for hostile answers: one may raise anything, or use up all memory. The process has no
credentials in its environment; what a lane needs comes through its pipe, and the process requests permission there
before each request. It answers in JSON. `python -m tasks.transport.limited` is that process.
"""

import json
import os
import select
import sys
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

from schemas.errors import OperationalError, RequestError, is_of_the_machine
from schemas.outcome import TRACE, ItemError, Outcome, Transient
from tasks.processes import PipedProcess, end_with_parent, limit
from tasks.transport.answers import scrubbed
from tasks.transport.hatches import Hatches
from tasks.transport.hls import Spans
from tasks.transport.lanes import LaneClosed
from tasks.transport.policy import Access, DownloadLimits

# From the environment: no secrets, only where browsers keep cookies, and which certificates are trusted.
PASSED_ON = (
    "PATH", "LD_LIBRARY_PATH", "LANG", "TMPDIR", "HOME", "XDG_CONFIG_HOME", "SSL_CERT_FILE", "SSL_CERT_DIR",
    "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE",
)  # fmt: skip
YTDLP = f"yt-dlp {version('yt-dlp')}"
MEMORY_BYTES = 1 << 30  # of data; a script runtime reserves far more addresses than it uses
SILENCE_S = 300.0  # without a request or a byte while it parses or merges
START_S = 60.0
LINE_BYTES = 1 << 20  # of an answer; playlists stay in the process
SAID_BYTES = 2000
# The short side that the largest frame profile stores, and the lowest rate that a profile needs.
FORMAT = "worstvideo[height>=256]+worstaudio[asr>=16000]/worst[height>=256]/best"


class LimitedDownloader:
    """`Downloader` of `tasks.transport.ytdlp`, in one process per thread, which starts with the first fetch."""

    def __init__(
        self, options: Callable[[], Mapping[str, Any]], access: Access, *, direct_only: bool
    ) -> None:
        self._options = options  # for yt-dlp, looked up when a process starts
        self._access = access
        self._direct_only = direct_only
        self._threads = threading.local()
        self._processes: list[_Process] = []

    def fetch(self, url: str, folder: Path, spans: Spans = ()) -> Path:
        """Like `Downloader.fetch`. Raises Transient (`unknown`) with the trace if its parsers failed or died."""
        process: _Process | None = getattr(self._threads, "process", None)
        if process is None or not process.is_alive:
            options = {"format": FORMAT, **self._options()}
            setup = {"options": options, "direct_only": self._direct_only, "access": _sent(self._access)}
            process = self._threads.process = _Process(setup, self._access)
            self._processes.append(process)
        return process.fetch(url, folder, spans)

    def close(self) -> None:
        """Ends its processes."""
        while self._processes:
            self._processes.pop().end()


def _sent(access: Access) -> dict[str, Any]:
    """The fields of a lane that its process needs."""
    names = ("proxy", "cookies", "user_agent", "may_go_inside", "takes_media")
    fields = {name: getattr(access, name) for name in names}
    return {**fields, "limits": asdict(access.limits), "hatches": asdict(access.hatches)}


class _Process:
    """One process and the pipes to it; not thread-safe."""

    def __init__(self, setup: Mapping[str, Any], access: Access) -> None:
        self._access = access
        self._process = PipedProcess("tasks.transport.limited", [str(MEMORY_BYTES)], PASSED_ON, {})
        self._unread = b""
        try:
            self._write(setup)
            said = self._said_next(START_S)
        except Transient as died:
            raise OperationalError(f"yt-dlp does not start on this machine: {died.detail}") from None
        if "error" in said:
            raise _raised(said["error"])

    @property
    def is_alive(self) -> bool:
        """Whether it can be called."""
        return self._process.is_alive

    def end(self) -> None:
        """Ends the process immediately."""
        self._process.close()

    def fetch(self, url: str, folder: Path, spans: Spans) -> Path:
        """One call and its answer. Raises what the lane raises, ItemError, Transient or OSError."""
        self._write({"url": url, "folder": str(folder), "spans": [list(span) for span in spans]})
        stopped: Exception | None = None
        while True:
            said = self._said_next(SILENCE_S, folder)
            if "path" in said:
                return Path(said["path"])
            if "error" in said:
                raise stopped or _raised(said["error"])
            try:
                self._access.gate()
            except (LaneClosed, Transient) as error:  # raised when the process has given up this video
                stopped = error
            self._write({"goes": stopped is None})

    def _write(self, message: Mapping[str, Any]) -> None:
        try:
            self._process.write(json.dumps(message).encode())
        except BrokenPipeError:
            raise self._gone() from None

    def _said_next(self, within_s: float, folder: Path | None = None) -> dict[str, Any]:
        """The next message. Raises Transient if none comes, and nothing new appears in `folder`, within `within_s`."""
        stream = self._process.answers
        size = -1
        while b"\n" not in self._unread:
            if not select.select([stream], [], [], within_s)[0]:
                before = size
                size = _size_of(folder) if folder else before
                if size == before:
                    self.end()
                    raise Transient("unknown", f"yt-dlp was ended: it did nothing for {within_s:g} s")
                continue
            piece = os.read(stream, LINE_BYTES)
            if not piece or len(self._unread) > LINE_BYTES:
                raise self._gone()
            self._unread += piece
        line, _, self._unread = self._unread.partition(b"\n")
        return json.loads(line)

    def _gone(self) -> Transient:
        """The failure of the video whose answer ended the process, with its last output as evidence."""
        self._process.kill()  # if it has not ended, but its output is too long
        code, said = self._process.ended(SAID_BYTES)
        self.end()
        return Transient("unknown", f"{TRACE}yt-dlp ended with code {code}: {scrubbed(said)}")


def _size_of(folder: Path) -> int:
    total = 0
    for path in folder.glob("*"):
        with suppress(FileNotFoundError):  # renamed just now
            total += path.stat().st_size
    return total


def _raised(error: Mapping[str, Any]) -> Exception:
    kind = error["kind"]
    if kind == "request":
        return RequestError(error["detail"])
    if kind == "os":
        return OSError(error["errno"], error["detail"])
    if kind == "item":
        return ItemError(Outcome(error["outcome"]), error["reason"], error["detail"], error["status"])
    return Transient(error["reason"], error["detail"], error["status"], error["after_s"])


def main() -> None:
    """Answers calls until the parent closes the pipe. Anything unexpected ends it, with the trace as evidence."""
    end_with_parent()
    limit("DATA", int(sys.argv[1]))
    limit("CORE", 0)
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a library prints must not end up between answers

    def say(message: Mapping[str, Any]) -> None:
        answers.write(json.dumps(message) + "\n")
        answers.flush()

    def gate() -> None:
        say({"asks": "goes"})
        if not json.loads(sys.stdin.readline())["goes"]:
            raise LaneClosed("", "", 0.0)  # the parent knows which, and why

    try:
        downloader = _downloader(json.loads(sys.stdin.readline()), gate)
    except RequestError as error:
        say({"error": {"kind": "request", "detail": str(error)}})
        return
    say({})
    for line in sys.stdin:
        say(_answer(downloader, json.loads(line)))


def _downloader(setup: Mapping[str, Any], gate: Callable[[], None]) -> Any:
    from tasks.transport.ytdlp import Downloader  # only here: it takes a second to import

    fields = dict(setup["access"])
    limits = DownloadLimits(**fields.pop("limits"))
    hatches = Hatches(**fields.pop("hatches"))
    access = Access(gate, limits=limits, hatches=hatches, **fields)
    return Downloader(setup["options"], access, direct_only=setup["direct_only"])


def _answer(downloader: Any, call: Mapping[str, Any]) -> dict[str, Any]:
    try:
        return {"path": str(downloader.fetch(call["url"], Path(call["folder"]), call["spans"]))}
    except ItemError as error:
        why = {"outcome": error.outcome.value, "reason": error.reason, "detail": error.detail}
        return {"error": {"kind": "item", "status": error.status, **why}}
    except Transient as error:
        why = {"reason": error.reason, "detail": error.detail, "status": error.status}
        return {"error": {"kind": "transient", "after_s": error.after_s, **why}}
    except LaneClosed:
        return {
            "error": {"kind": "transient", "reason": "unknown", "detail": "", "status": None, "after_s": 0.0}
        }
    except OSError as error:
        if not is_of_the_machine(error):
            raise
        return {"error": {"kind": "os", "errno": error.errno, "detail": str(error)}}


if __name__ == "__main__":
    main()
