"""Secrets of lanes: from the environment or from Secret blocks of Prefect, looked up when a lane opens."""

import os


def secret_of(name: str) -> str:
    """The secret `env:NAME` or `block:NAME`. Raises ValueError, which never holds a secret."""
    kind, _, key = name.partition(":")
    if kind == "env":
        if key not in os.environ:
            raise ValueError(f"a lane names {name}, but the environment has no {key}")
        return os.environ[key]
    from prefect.blocks.system import Secret  # only where a block is named

    try:
        return str(Secret.load(key).get())  # pyright: ignore[reportAttributeAccessIssue]
    except ValueError as error:
        raise ValueError(f"a lane names {name}, but Prefect has no Secret block {key}") from error
