"""The environment of this process, which libraries change where we call them."""

import os
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def kept(*names: str) -> Iterator[None]:
    """After the block, these variables are what they were before it."""
    before = {name: os.environ.get(name) for name in names}
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value
