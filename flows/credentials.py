"""Secrets of lanes and sources: from the environment, from Secret blocks of Prefect, or kept in the state folder."""

import os
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

from schemas.errors import RequestError
from tasks.transport import templates


def secret_of(name: str) -> str:
    """The secret `env:NAME` or `block:NAME`. Raises RequestError, which never holds a secret."""
    kind, _, key = name.partition(":")
    if kind == "env":
        if key not in os.environ:
            raise RequestError(f"a lane or source names {name}, but the environment has no {key}")
        return os.environ[key]
    from prefect.blocks.system import Secret  # only where a block is named

    try:
        return str(Secret.load(key).get())  # pyright: ignore[reportAttributeAccessIssue]
    except ValueError as error:
        raise RequestError(f"a lane or source names {name}, but Prefect has no Secret block {key}") from error


def secrets_of(state: Path, given: Mapping[str, str] | None = None) -> Callable[[str], str]:
    """The same, and also `kept:NAME`: from what was given just now, else from what `state` keeps."""
    return partial(_secret, state, given or {})


def _secret(state: Path, given: Mapping[str, str], name: str) -> str:
    key = name.removeprefix(templates.KEPT)
    if key == name:
        return secret_of(name)
    return given[key] if key in given else templates.kept(state, key)
