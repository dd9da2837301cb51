"""`mcgurk doctor`: what this machine and its lanes lack for acquisition, with the remedy for each."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from flows.arguments import Json, State
from flows.credentials import secret_of
from tasks.acquisition.doctor import Finding, examine
from tasks.transport.lane_config import read_lanes

EXAMPLE = "mcgurk doctor --state data/state"
IS_LONG = False


@dataclass(frozen=True)
class Options:
    """Which state folder's lanes are examined."""

    state: State = None
    json: Json = False


def run(options: Options) -> int:
    """Prints each finding; returns 1 if something is missing."""
    state = Path(options.state or "state").expanduser().absolute()
    found = examine(read_lanes(state, ()), state, secret_of)
    print(json.dumps([asdict(one) for one in found]) if options.json else doctor_text(found))
    return 1 if any(one.remedy for one in found) else 0


def doctor_text(found: Sequence[Finding]) -> str:
    """A line for each finding, and below it the remedy if there is one."""
    lines = []
    for one in found:
        lines.append(f"{'LACKS' if one.remedy else 'ok':<7}{one.what:<26}{one.found}")
        lines += [f"{'':<7}{'':<26}-> {one.remedy}"] if one.remedy else []
    lacking = sum(bool(one.remedy) for one in found)
    lines.append(f"{lacking} problem(s) to fix" if lacking else "all well")
    return "\n".join(lines)
