"""The environment of this process, changed for a while and left as it was."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager


@contextmanager
def changed(values: Mapping[str, str | None]) -> Iterator[None]:
    """Inside the block the environment has these values, and not those that are None; after it, what it had."""
    with as_it_was(values):
        for name, value in values.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
        yield


@contextmanager
def as_it_was(names: Mapping[str, object] | None = None) -> Iterator[None]:
    """After the block the environment is as before: all of it, or the variables `names`."""
    before = dict(os.environ)
    try:
        yield
    finally:
        for name in names if names is not None else {*before, *os.environ}:
            if name in before:
                os.environ[name] = before[name]
            else:
                os.environ.pop(name, None)
