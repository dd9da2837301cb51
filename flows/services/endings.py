"""How a command ends on a signal: within seconds, with committed work kept, and naming the command that resumes it.

Prefect and other libraries replace signal handlers while they work. So signals are read from a socket to which
Python's low-level handler writes them: whichever handler runs then, the countdown has started.
"""

import os
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import FrameType

from flows.services.watchdog import Watchdog

# For an orderly end: blocks are left, runs are reported, clusters close. The watchdog kills a second later.
ORDERLY_S = 3.0
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
BY_SIGNAL = 128  # plus the signal's number: a shell's exit code for a command that a signal ended


class Stopped(KeyboardInterrupt):  # noqa: N818  (not an error: someone wants it)
    """A signal asks this process to end."""


@dataclass
class Ending:
    """Whether a signal has arrived, and what is printed about it at the end."""

    command: str  # that continues where this one stopped
    watchdog: Watchdog | None = None
    number: signal.Signals | None = None
    _has_begun: threading.Lock = field(default_factory=threading.Lock)
    _is_said: threading.Lock = field(default_factory=threading.Lock)

    @property
    def exit_code(self) -> int:
        """The exit code of a command that the signal ended."""
        return BY_SIGNAL + (self.number or 0)

    def say(self) -> None:
        """Prints the last line, once."""
        if self.number and self._is_said.acquire(blocking=False):
            sys.stdout.flush()
            print(f"\nstopped by {self.number.name}; to resume: {self.command}", file=sys.stderr, flush=True)

    def begin(self, number: int) -> None:
        """Starts the countdown, at the first signal only."""
        self.number = self.number or signal.Signals(number)
        if not self._has_begun.acquire(blocking=False):
            return
        if self.watchdog:
            self.watchdog.stop()
        countdown = threading.Timer(ORDERLY_S, self.leave)
        countdown.daemon = True  # it does not delay an orderly end; it cuts off one that hangs
        countdown.start()

    def leave(self) -> None:
        """Prints the last line, and ends the process at once."""
        self.say()
        sys.stdout.flush()
        os._exit(self.exit_code)


@contextmanager
def ending(command: str, watchdog: Watchdog | None = None) -> Iterator[Ending]:
    """Inside the block SIGINT, SIGTERM and SIGHUP end this process within 5 s, by `Stopped` if this handler gets them.

    A signal that was ignored at the start stays ignored, as nohup needs it.
    """
    one = Ending(command, watchdog)
    if threading.current_thread() is not threading.main_thread():  # only that one can be interrupted
        yield one
        return
    heard, written = socket.socketpair()
    written.setblocking(False)
    before = {number: signal.getsignal(number) for number in SIGNALS}
    taken = [number for number in SIGNALS if before[number] != signal.SIG_IGN]
    wakeup = signal.set_wakeup_fd(written.fileno(), warn_on_full_buffer=False)
    threading.Thread(target=_listen, args=(heard, one, taken), daemon=True).start()

    def end(number: int, frame: FrameType | None) -> None:
        del frame
        signal.signal(number, signal.SIG_IGN)  # a second one would interrupt the orderly end
        one.begin(number)  # the thread may be later than this exception
        raise Stopped(signal.Signals(number).name)

    for number in taken:
        signal.signal(number, end)
    try:
        yield one
    finally:
        for number in taken:
            signal.signal(number, before[number])
        signal.set_wakeup_fd(wakeup)
        written.close()


def _listen(heard: socket.socket, one: Ending, taken: list[signal.Signals]) -> None:
    with heard:
        while number := heard.recv(1):
            if number[0] in taken:
                one.begin(number[0])
