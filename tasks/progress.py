"""Progress of long work: a plain line every few seconds, both on a terminal and in a log."""

import logging
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TypeVar

T = TypeVar("T")
# (function, items) -> results: `map`, or a function that spreads the items over processes; results in order of
# completion.
MapItems = Callable[[Callable, Sequence], Iterable]
EVERY_S = 5.0
_LISTENER: ContextVar[Callable[[], None] | None] = ContextVar("listener", default=None)
Observer = Callable[[str, int, int], None]  # what, how much of it is done, of how much
_OBSERVER: ContextVar[Observer | None] = ContextVar("observer", default=None)


@contextmanager
def listening(listener: Callable[[], None]) -> Iterator[None]:
    """Inside the block, `listener` is called at each sign of life of this thread."""
    token = _LISTENER.set(listener)
    try:
        yield
    finally:
        _LISTENER.reset(token)


def sign_of_life() -> None:
    """Reports that a piece of long work is done, so the worker is not hanging."""
    if (listener := _LISTENER.get()) is not None:
        listener()


@contextmanager
def observing(observer: Observer) -> Iterator[None]:
    """Inside the block, `observer` is called for each item that is `tracked`."""
    token = _OBSERVER.set(observer)
    try:
        yield
    finally:
        _OBSERVER.reset(token)


def tracked(items: Iterable[T], total: int, what: str, log: logging.Logger) -> Iterator[T]:
    """The items as they come; now and then logs a line like `extract: 120 of 360 clips, 14/s, 17 s left`."""
    observer = _OBSERVER.get()
    began = spoke = time.monotonic()
    for done, item in enumerate(items, 1):
        yield item
        if observer:
            observer(what, done, total)
        now = time.monotonic()
        if now - spoke >= EVERY_S:
            rate = done / (now - began)
            log.info("%s: %d of %d, %.1f/s, %.0f s left", what, done, total, rate, (total - done) / rate)
            spoke = now
