"""Where a run comes from: the commit of this code, and the process that it runs in."""

import json
import subprocess
from dataclasses import asdict
from pathlib import Path

from schemas.identity import Identity

REPOSITORY = Path(__file__).resolve().parents[2]
GIT_S = 10.0


def commit() -> str | None:
    """The commit of the checkout that this code runs from; None for an installed copy, or without git."""
    if not (REPOSITORY / ".git").exists():
        return None
    try:
        done = subprocess.run(  # noqa: S603  (our own command)
            ["git", "-C", str(REPOSITORY), "rev-parse", "HEAD"],  # noqa: S607  (the user's own git, by their PATH)
            capture_output=True,
            text=True,
            timeout=GIT_S,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def this_process() -> str:
    """This process as a run names it."""
    return json.dumps(asdict(Identity.own()))


def has_ended(process: str) -> bool:
    """Whether a process that a run names was on this machine and is no more; of other machines nothing is known."""
    try:
        return not Identity.read(json.loads(process)).may_live
    except (ValueError, KeyError, TypeError):  # a run of somebody else's, or of an earlier time
        return False
