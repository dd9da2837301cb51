"""Environment variables of this process, changed for a while and restored."""

import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager


@contextmanager
def changed(values: Mapping[str, str | None]) -> Iterator[None]:
    """Sets these variables in the block, removes those whose value is None, and restores both after it."""
    with restored(values):
        for name, value in values.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
        yield


@contextmanager
def restored(names: Iterable[str] | None = None) -> Iterator[None]:
    """After the block, gives the variables `names` (all, if omitted) the values that they had before it."""
    before = dict(os.environ)
    chosen = None if names is None else set(names)
    try:
        yield
    finally:
        for name in chosen if chosen is not None else {*before, *os.environ}:
            if name in before:
                os.environ[name] = before[name]
            else:
                os.environ.pop(name, None)
