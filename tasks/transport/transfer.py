"""Reading the body of an answer piece by piece, so that a host that drips is noticed at any point."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from tasks.transport.failure_classes import failure
from tasks.transport.policy import DownloadLimits

PIECE_BYTES = 1 << 16


@dataclass
class Patience:
    """Reads one body, and counts only the time spent waiting for its host, not the use of its bytes."""

    read_piece: Callable[..., bytes]  # the available bytes, at most as many as requested
    limits: DownloadLimits
    clock: Callable[[], float] = time.monotonic
    _size_bytes: int = field(default=0, init=False)  # in the window under way
    _waited_s: float = field(default=0.0, init=False)

    def read(self, amt: int | None = None, **settings: Any) -> bytes:
        """`amt` bytes (urllib3's name), or the rest of the body. Raises Transient once it is too slow."""
        pieces = []
        missing = amt
        while missing is None or missing > 0:
            piece = self.piece(PIECE_BYTES if missing is None else min(missing, PIECE_BYTES), **settings)
            if not piece:
                break
            pieces.append(piece)
            missing = None if missing is None else missing - len(piece)
        return b"".join(pieces)

    def piece(self, size: int, **settings: Any) -> bytes:
        """The available bytes of the body, at most `size`. Raises Transient once it is too slow."""
        began_s = self.clock()
        piece = self.read_piece(size, **settings)
        self._waited_s += self.clock() - began_s
        self._size_bytes += len(piece)
        if self._waited_s > self.limits.patience_s:
            # Window by window: a fast start must not excuse a later drip.
            if self._size_bytes < self._waited_s * self.limits.slowest_bytes_s:
                raise failure("network", f"{self._size_bytes:,} bytes in {self._waited_s:.0f} s: too slow")
            self._size_bytes = 0
            self._waited_s = 0.0
        return piece
