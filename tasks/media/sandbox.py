"""The media process: decoding runs in a separate process, so a hostile file damages nothing but its own result.

libav parses files from strangers. The process that runs it has no credentials in its environment, has limits on memory,
file size and time, and ends with its parent. It answers in JSON and raw bytes, never in pickles: the parent does not
trust it either. `python -m tasks.media.sandbox` is that process.
"""

import errno
import importlib
import json
import os
import select
import signal
import sys
import time
import traceback
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from schemas.errors import OperationalError
from schemas.outcome import BUG, ItemError, Outcome
from tasks.processes import PipedProcess, end_with_parent, limit

# The functions that may be called, by name: they take JSON arguments and return (JSON, {name: bytes}).
CALLS = {"probe": "tasks.media.probe", "cut": "tasks.media.cut", "extract": "tasks.extract"}
PASSED_ON = ("PATH", "LD_LIBRARY_PATH", "LANG", "TMPDIR", "SYSTEMROOT")  # from the environment: no secrets
ONE_THREAD = {name: "1" for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")}
TRIES = 2  # a process may have died because of the previous file: the verdict is that of a fresh process
EVIDENCE_BYTES = 500
TRACE_BYTES = 2000
RAISED = 1  # Python's exit code after an unexpected exception
# What our own code raises if it did not expect a file's content: no verdict on the file. Too many stop the stage.
BUGS = (ArithmeticError, AssertionError, AttributeError, LookupError, RuntimeError, TypeError, ValueError)
CHUNK_BYTES = 1 << 20
MAX_ANSWER_BYTES = 1 << 30
READY = b"ready"
START_S = 60.0  # it takes 0.3 to 0.7 s


@dataclass(frozen=True)
class ProcessLimits:
    """The limits of one call, far above the needs of any one-minute clip, but not measured on the largest."""

    seconds: float = 120.0
    memory_bytes: int = 4 << 30  # of address space
    file_bytes: int = 8 << 30


LIMITS = ProcessLimits()
# Media processes that wait for a call: threads come and go, and a start costs more than most calls.
_IDLE: list["MediaProcess"] = []
# The kernel ends a media process with the *thread* that started it, so that thread lives as long as we do.
_STARTER = ThreadPoolExecutor(1, "media-processes")


def call(
    name: str, arguments: Mapping[str, Any], limits: ProcessLimits = LIMITS
) -> tuple[Any, dict[str, bytes]]:
    """The answer to the call `name` (of CALLS) from a separate media process.

    Raises what the call raised (ItemError, OSError); ItemError (quarantined, `bug`) with the trace if our own code
    failed; ItemError (quarantined, `decodable`) with the evidence if the process crashed, hung or ran out of memory
    twice.
    """
    evidence = ""
    reason = ""
    for number in range(TRIES):
        process = _idle(limits) if number == 0 else None
        process = process or _STARTER.submit(MediaProcess, name, limits).result()
        try:
            return process.call(name, arguments)
        except _DiedError as died:
            evidence = str(died)
            reason = died.reason
            process.kill()
        finally:
            if process.is_alive:
                _IDLE.append(process)
    raise ItemError(Outcome.QUARANTINED, reason, f"the media process {evidence}, twice")


def close() -> None:
    """Ends the idle media processes."""
    while _IDLE:
        _IDLE.pop().kill()


def _idle(limits: ProcessLimits) -> "MediaProcess | None":
    """An idle media process with these limits; None if there is none."""
    while _IDLE:
        with suppress(IndexError):  # another thread was faster
            process = _IDLE.pop()
            if process.limits == limits and process.is_alive:
                return process
            process.kill()
    return None


class _DiedError(Exception):
    """The media process ended or had to be killed; `reason` is the reason for the item's quarantine."""

    def __init__(self, how: str, reason: str = "decodable") -> None:
        super().__init__(how)
        self.reason = reason


class MediaProcess:
    """One media process and the pipe to it; not thread-safe. Its start does not count towards the first call's time."""

    def __init__(self, name: str, limits: ProcessLimits) -> None:
        self.limits = limits
        arguments = [str(limits.memory_bytes), str(limits.file_bytes), name]
        self._process = PipedProcess("tasks.media.sandbox", arguments, PASSED_ON, ONE_THREAD)
        try:
            self._read(len(READY), time.monotonic() + START_S)
        except _DiedError as died:
            raise OperationalError(f"the media process does not start on this machine: it {died}") from None

    def call(self, name: str, arguments: Mapping[str, Any]) -> tuple[Any, dict[str, bytes]]:
        """One call and its answer. Raises _DiedError if no answer comes in time."""
        ends = time.monotonic() + self.limits.seconds
        try:
            self._process.write(json.dumps({"name": name, **arguments}).encode())
        except BrokenPipeError:
            raise self._gone() from None
        header = json.loads(self._line(ends))
        if sum(header["members"].values()) > MAX_ANSWER_BYTES:
            raise _DiedError("returned more data than any clip holds")
        members = {member: self._read(size, ends) for member, size in header["members"].items()}
        if "error" in header:
            raise _raised(header["error"])
        return header["result"], members

    @property
    def is_alive(self) -> bool:
        """Whether it can be called: it has not ended, by itself or otherwise."""
        return self._process.is_alive

    def kill(self) -> None:
        """Ends the process immediately."""
        self._process.close()

    def _line(self, ends: float) -> bytes:
        """Reads the header's length, then the header: this side has to limit both."""
        return self._read(int(self._read(8, ends)), ends)

    def _read(self, size: int, ends: float) -> bytes:
        parts = []
        missing = size
        stream = self._process.answers
        while missing:
            if not select.select([stream], [], [], max(0.0, ends - time.monotonic()))[0]:
                raise _DiedError(f"took over {self.limits.seconds:g} s")
            part = os.read(stream, min(missing, CHUNK_BYTES))
            if not part:
                raise self._gone()
            parts.append(part)
            missing -= len(part)
        return b"".join(parts)

    def _gone(self) -> _DiedError:
        code, said = self._process.ended(TRACE_BYTES)
        how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with code {code}"
        is_bug = code == RAISED and MemoryError.__name__ not in said
        how = f"{how} ({said[-EVIDENCE_BYTES:]})" if said else how
        return _DiedError(how, BUG if is_bug else "decodable")


def _raised(error: Mapping[str, Any]) -> Exception:
    if error["kind"] == "item":
        return ItemError(Outcome(error["outcome"]), error["reason"], error["detail"])
    return OSError(error["errno"], error["detail"])


def main() -> None:
    """Answers calls until the parent closes the pipe."""
    memory_bytes = int(sys.argv[1])
    file_bytes = int(sys.argv[2])
    name = sys.argv[3]
    end_with_parent()
    for what, value in (("AS", memory_bytes), ("FSIZE", file_bytes), ("CORE", 0)):
        limit(what, value)
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a library prints must not end up between answers
    importlib.import_module(CALLS[name])
    answers.write(READY)
    answers.flush()
    for line in sys.stdin.buffer:
        header, members = _answered(json.loads(line))
        said = json.dumps({**header, "members": {name: len(data) for name, data in members.items()}}).encode()
        answers.write(b"%8d" % len(said) + said)
        for data in members.values():
            answers.write(data)
        answers.flush()


def _answered(arguments: dict[str, Any]) -> tuple[dict[str, Any], dict[str, bytes]]:
    name = arguments.pop("name")
    try:
        result, members = getattr(importlib.import_module(CALLS[name]), f"answer_{name}")(**arguments)
    except ItemError as error:
        why = {"outcome": error.outcome.value, "reason": error.reason, "detail": error.detail}
        return {"error": {"kind": "item", **why}}, {}
    except MemoryError:
        why = {"outcome": Outcome.QUARANTINED.value, "reason": "decodable", "detail": "out of memory"}
        return {"error": {"kind": "item", **why}}, {}
    except OSError as error:
        return {"error": {"kind": "os", "errno": error.errno or errno.EIO, "detail": str(error)}}, {}
    except BUGS:
        why = {
            "outcome": Outcome.QUARANTINED.value,
            "reason": BUG,
            "detail": traceback.format_exc()[-TRACE_BYTES:],
        }
        return {"error": {"kind": "item", **why}}, {}
    return {"result": result}, members


if __name__ == "__main__":
    main()
