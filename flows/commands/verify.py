"""`mcgurk verify`: computes every digest again from the bytes on disk; exit 1 names what differs."""

import json
from dataclasses import dataclass
from typing import Annotated

from flows.arguments import Json, Option, Root, State
from flows.builds.options import Compute
from flows.builds.pipeline import Pipeline, resolve_published
from flows.builds.rebuild import rebuild
from flows.commands.announce import command
from flows.compute import open_compute
from tasks.leases import lease
from tasks.versions.verify import Findings, verify

EXAMPLE = "mcgurk verify --root data --rebuild"
IS_LONG = True
MB = 1e6
MOST_DIFFERENCES = 50  # that are printed


@dataclass(frozen=True)
class Options:
    """Which root, and how thoroughly."""

    root: Root
    state: State = None
    rebuild: Annotated[
        bool,
        Option("also extract and pack everything anew from the clips, beside what stands, and compare"),
    ] = False
    compute: Compute = "local"
    json: Json = False


def run(options: Options) -> int:
    """Prints what was proved, or what differs; 1 where something does."""
    pipeline = resolve_published(options.root, options.state)
    found = _found(pipeline, options)
    if options.json:
        differences = [vars(one) for one in found.differences]
        print(json.dumps({"checked": dict(found.checked), "differences": differences}))
    else:
        print(verify_text(found, command("plan", options.root, pipeline.state)))
    return 1 if found.differences else 0


def _found(pipeline: Pipeline, options: Options) -> Findings:
    with lease(pipeline.state, "tars"):
        with open_compute("threads") as map_items:
            found = verify(pipeline.root, map_items)
        if options.rebuild:
            with open_compute(options.compute) as map_items:
                found += rebuild(pipeline, map_items)
    return found


def verify_text(found: Findings, plan: str) -> str:
    """What was proved, or what differs; then `plan` is the command that says more."""
    counts = found.checked
    kinds = ("versions", "shards", "samples", "members", "features", "parts", "clips", "rebuilt")
    proved = ", ".join(f"{counts[kind]:,} {kind}" for kind in kinds if counts[kind])
    lines = [f"checked {proved} ({counts['bytes'] / MB:,.1f} MB of shards)"]
    if not found.differences:
        again = "; every shard rebuilt from its clips is identical" if counts["rebuilt"] else ""
        return "\n".join([*lines, f"every byte matches what was recorded{again}"])
    lines += [f"  {one}" for one in found.differences[:MOST_DIFFERENCES]]
    if len(found.differences) > MOST_DIFFERENCES:
        lines.append(f"  and {len(found.differences) - MOST_DIFFERENCES:,} more: --json has them all")
    lines.append(f"{len(found.differences):,} difference(s); a plan names what a build repairs\nnext: {plan}")
    return "\n".join(lines)
