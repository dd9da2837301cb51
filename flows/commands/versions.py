"""`mcgurk versions`: every dataset version of a root, what it holds, and which of them still exist."""

import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from flows.arguments import Json, Root, State
from flows.builds.memory import state_here
from flows.commands.announce import command
from flows.commands.text import MB
from flows.experiments.due import last_trained
from schemas.errors import RequestError
from schemas.storage import open_root
from tasks.versions.listing import SHORT, Listed, listed

EXAMPLE = "mcgurk versions --root data"
IS_LONG = False
NOT_KEPT = "-"
STANDING = ("latest", "kept")


@dataclass(frozen=True)
class Options:
    """Which root's versions."""

    root: Root
    state: State = None
    json: Json = False


def run(options: Options) -> int:
    """Prints them, from the oldest to the latest."""
    root = open_root(options.root)
    state = state_here(root, options.state)
    found = listed(root)
    if not found:
        raise RequestError(
            f"no dataset version under {root}; build one with `{command('build', options.root, state)}`"
        )
    trained = _trained(state)
    if options.json:
        print(json.dumps([{**asdict(one), "trained": trained.get(one.digest)} for one in found]))
        return 0
    print(versions_text(found, trained))
    if sum(one.standing in STANDING for one in found) > 1:
        print(f"\nnext: {shlex.join(['mcgurk', 'diff', 'previous', 'latest', '--root', options.root])}")
    return 0


def _trained(state: Path | None) -> dict[str, dict[str, Any]]:
    """What the last training was started on: digest -> when it started, and how it ended."""
    last = last_trained(state) if state else None
    return {last.digest: {"begun_at": last.begun_at, "outcome": last.outcome}} if last else {}


def versions_text(found: Sequence[Listed], trained: Mapping[str, Mapping[str, Any]]) -> str:
    """A sentence, and a line for each version."""
    standing = sum(one.standing in STANDING for one in found)
    lines = [f"{standing:,} version(s) exist; {len(found) - standing:,} older one(s) are only recorded", ""]
    head = f"{'digest':<14}{'published':<18}{'samples':>10}{'shards':>8}{'MB':>11}  {'profile':<14}standing"
    lines.append(head)
    for one in found:
        published = (one.published_at or "before the history")[:16].replace("T", " ")
        size = None if one.size_bytes is None else f"{one.size_bytes / MB:,.1f}"
        numbers = (f"{one.samples:,}" if one.samples is not None else None, one.shards, size)
        samples, shards, size = (NOT_KEPT if number is None else number for number in numbers)
        facts = f"{samples:>10}{shards:>8}{size:>11}  {one.profile or NOT_KEPT:<14}{one.standing}"
        lines.append(f"{one.digest[:SHORT]:<14}{published:<18}{facts}{_remarks(one, trained)}")
    return "\n".join(lines)


def _remarks(one: Listed, trained: Mapping[str, Mapping[str, Any]]) -> str:
    remarks = [f"replaces {one.replaces[:SHORT]}"] if one.replaces else []
    if last := trained.get(one.digest):
        remarks.append(f"last trained on at {last['begun_at'][:16].replace('T', ' ')} ({last['outcome']})")
    return "".join(f"; {remark}" for remark in remarks)
