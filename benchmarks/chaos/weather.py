"""A host whose weather turns: it answers well, or at a third of its requests does what hosts do."""

import random
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field

from hostile import HostileHost, handler_of
from real_servers import answering

from flows.services.servers import free_port

SHARE = 0.35
MALFORMED = ("words", "status_huge", "long_header", "many_headers", "two_lengths")  # heads of answers
KINDS = ("reset", "truncated", "500", "503", "slow", "redirect_loop", *MALFORMED)
# After these a later hour, or another day, has the last word: a lane rests, and what looks gone is asked for again.
DELAYED = ("429", "html", "redirect_scheme")
MOST = 4  # faults a video: a run and the next one, with three tries each, get past them
SLOW_S = 2.0


@dataclass
class Weather(HostileHost):
    """Serves a folder of clips by video id."""

    rng: random.Random = field(default_factory=random.Random)
    kinds: tuple[str, ...] = ()  # of faults; none in fine weather
    given: Counter = field(default_factory=Counter)
    port: int = field(default_factory=free_port)
    _open: ExitStack = field(default_factory=ExitStack)

    def __post_init__(self) -> None:
        self.address = f"http://127.0.0.1:{self.port}"

    def open(self) -> None:
        """Begins to answer."""
        self._open.enter_context(answering(handler_of(self), port=self.port))

    def close(self) -> None:
        """Refuses connections from here on."""
        self._open.close()

    def content_of(self, video_id: str) -> bytes:
        """The clip of a video."""
        return (self.file / f"{video_id}.mp4").read_bytes()

    def fault_of(self, video_id: str) -> str:
        """What happens to this request."""
        if not self.kinds or self.given[video_id] >= MOST or self.rng.random() > SHARE:
            return ""
        self.given[video_id] += 1
        fault = self.rng.choice(self.kinds)
        if fault == "slow":
            self.is_over.wait(SLOW_S)
        return fault

    @contextmanager
    def storm(self, seed: int, kinds: tuple[str, ...] = KINDS) -> Iterator[None]:
        """Inside the block a third of the requests meets a fault."""
        self.rng.seed(seed)
        self.given.clear()
        self.kinds = kinds
        try:
            yield
        finally:
            self.kinds = ()
