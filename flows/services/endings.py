"""How a command ends by a signal: within seconds, with what was committed kept, and saying what goes on.

Prefect and others replace handlers while they work. So signals are heard where the kernel's handler writes them,
on a pipe that a thread reads: whoever handles one, the time runs from then.
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

# On an orderly end: blocks are left, runs are reported, clusters close. The watchdog kills a second later.
ORDERLY_S = 3.0
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
BY_SIGNAL = 128  # a shell's exit code of a command that a signal ended, plus the signal's number


class Stopped(KeyboardInterrupt):  # noqa: N818  (no error: somebody wants it)
    """A signal wants this process to end."""


@dataclass
class Ending:
    """Whether a signal has come, and what is said of it at the end."""

    command: str  # that goes on where this one stopped
    watchdog: Watchdog | None = None
    number: signal.Signals | None = None
    _has_begun: threading.Lock = field(default_factory=threading.Lock)
    _is_said: threading.Lock = field(default_factory=threading.Lock)

    @property
    def exit_code(self) -> int:
        """Of a command that the signal ended."""
        return BY_SIGNAL + (self.number or 0)

    def say(self) -> None:
        """Prints the last line, once."""
        if self.number and self._is_said.acquire(blocking=False):
            sys.stdout.flush()
            print(f"\nstopped by {self.number.name}; to resume: {self.command}", file=sys.stderr, flush=True)

    def begin(self, number: int) -> None:
        """Counts down from the first signal on."""
        self.number = self.number or signal.Signals(number)
        if not self._has_begun.acquire(blocking=False):
            return
        if self.watchdog:
            self.watchdog.stop()
        countdown = threading.Timer(ORDERLY_S, self.leave)
        countdown.daemon = True  # an orderly end is not held up by it; what does not let go is
        countdown.start()

    def leave(self) -> None:
        """Says the last line, and ends the process where it stands."""
        self.say()
        sys.stdout.flush()
        os._exit(self.exit_code)


@contextmanager
def ending(command: str, watchdog: Watchdog | None = None) -> Iterator[Ending]:
    """Inside the block SIGINT, SIGTERM and SIGHUP end this process within 5 s, by `Stopped` where they come first.

    One that was ignored at the start stays so, as nohup wants it.
    """
    one = Ending(command, watchdog)
    if threading.current_thread() is not threading.main_thread():  # which alone can be interrupted
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
        signal.signal(number, signal.SIG_IGN)  # a second one would break into what the first one ends
        one.begin(number)  # the thread may come later than what is raised here
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
