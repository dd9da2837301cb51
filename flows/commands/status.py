"""`mcgurk status`: what became of every segment, and what is due when."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from flows.arguments import Json, Root, State
from flows.builds.memory import find_state
from flows.commands.announce import command, require_segments
from flows.commands.text import funnel_text
from schemas.layout import SEGMENTS
from schemas.storage import open_root
from tasks.lists.labels import find_labels
from tasks.status import measure_status
from tasks.transport.failure_classes import hint

EXAMPLE = "mcgurk status --root data"
IS_LONG = False
LABELS_SHOWN = 10


@dataclass(frozen=True)
class Options:
    """Which root's status."""

    root: Root
    state: State = None
    json: Json = False


def run(options: Options) -> int:
    """Prints the status as a story, and the tables behind it."""
    root = open_root(options.root)
    state = find_state(root, options.state)
    require_segments(root)
    status = measure_status(root, state, datetime.now(UTC), command("build", options.root, state))
    if options.json:
        print(json.dumps(status))
        return 0
    names = {mid: name for mid, (_, name) in find_labels(root / SEGMENTS, []).items()}
    print(status_text(status, names))
    emptied = " (empty)" if status["is_emptied"] else ""
    print(f"\ndataset version {status['dataset_version'] or 'none yet'}{emptied}")
    if status["reason"]:
        print(f"no sample: {status['reason']}")
    return 0


def status_text(status: Mapping[str, Any], names: Mapping[str, str]) -> str:
    """The story, then the funnel, availability by class and label, lanes, pace, and what is due when."""
    lines = [*status["story"], "", funnel_text(status)]
    if status["kept"]:
        lines.append(
            f"{status['kept']:>9,} samples were made by earlier code or tools (build --refetch makes them again)"
        )
    for reason, count in status["gone_at_source"].items():
        lines.append(f"{count:>9,} video(s) held here are {reason} at the source (recheck --drop-removed)")
    lines += ["", "last answers of the source, by class"]
    for name, one in status["classes"].items():
        days = (
            f"{(one['first'] or '')[:10]} to {(one['last'] or '')[:10]}" if one["last"] else "not tried yet"
        )
        lines.append(f"{one['segments']:>9,} {name:<24}{days}")
    lines += ["", f"availability by label, the {LABELS_SHOWN} most frequent (--json has all)"]
    for label, one in list(status["labels"].items())[:LABELS_SHOWN]:
        share = f"{one['available'] / one['tried']:.1%}" if one["tried"] else "-"
        lines.append(f"{one['tried']:>9,} {names.get(label, label):<32}{share:>7}")
    for name, lane in status["lanes"].items():
        why = f"{lane['why']}{hint(lane['why'])}"
        closed = f"closed until {lane['closed_until']}: {why}" if lane["closed_until"] else "open"
        pace = f", {lane['slowdown']:g} times as slow as it may be" if lane["slowdown"] > 1 else ""
        lines.append(f"lane {name}: {closed}; {lane['videos_today']:,} video(s) today{pace}")
    lines += ["", f"{status['backlog']:,} to try; {status['tried_per_hour']:,.0f} an hour in the last day"]
    if status["backlog_ends_at"]:
        lines.append(f"at that rate the backlog ends on {status['backlog_ends_at'][:10]}")
    lines.append("due: " + ", ".join(f"{n:,} {when}" for when, n in status["due"].items()))
    return "\n".join(lines)
