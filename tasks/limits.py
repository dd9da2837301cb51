"""What a process that touches foreign bytes may use, and that it ends with the one that started it."""

import ctypes
import resource
import signal

PR_SET_PDEATHSIG = 1
_PRCTL = getattr(ctypes.CDLL(None), "prctl", None)  # looked up now: between fork and exec is no time for it


def end_with_parent() -> None:
    """From here on the kernel ends this process when the thread that started it ends; on Linux only."""
    if _PRCTL is not None:
        _PRCTL(PR_SET_PDEATHSIG, signal.SIGKILL)


def limit(name: str, value: int, pid: int = 0) -> None:
    """Sets a limit (`AS`, `CPU`, ...) of a process, by default of this one, for good."""
    resource.prlimit(pid, getattr(resource, f"RLIMIT_{name}"), (value, value))
