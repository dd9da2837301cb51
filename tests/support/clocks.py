"""A clock that moves when somebody sleeps: months of politeness in seconds, with one time for lanes and hosts."""

import threading

from tasks.transport.lanes import Clock

MONDAY_S = 1_767_571_200.0 + 12 * 3600  # 2026-01-05, noon


class FakeClock(Clock):
    """Nobody waits: the time jumps to where the earliest sleeper wants to be."""

    def __init__(self, now_s: float = MONDAY_S) -> None:
        self._now_s = now_s
        self._lock = threading.Lock()

    def now_s(self) -> float:
        return self._now_s

    def sleep_until(self, then_s: float) -> None:
        with self._lock:
            self._now_s = max(self._now_s, then_s)

    def advance(self, by_s: float) -> None:
        self.sleep_until(self._now_s + by_s)
