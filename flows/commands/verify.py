"""`mcgurk verify`: computes every digest again from the bytes on disk; exit 1 names what differs."""

import json
from dataclasses import dataclass, replace
from typing import Annotated

from flows.arguments import Json, Option, Root, State
from flows.builds.mend import mend
from flows.builds.options import Compute
from flows.builds.pipeline import Pipeline, resolve_indexed
from flows.builds.rebuild import rebuild
from flows.commands.announce import command
from flows.compute import open_compute
from schemas.layout import VERSIONS
from schemas.shard import read_version
from schemas.storage import open_root
from tasks.leases import lease
from tasks.versions.findings import Findings
from tasks.versions.verify import verify

EXAMPLE = "mcgurk verify --root data --mend"
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
        Option("also extract and pack everything again from the clips, in another folder, and compare"),
    ] = False
    mend: Annotated[
        bool,
        Option("rebuild damaged files from others, to the same digest and without a download"),
    ] = False
    compute: Compute = "local"
    json: Json = False


def run(options: Options) -> int:
    """Prints what was verified, what differs, and what was mended; returns 1 if something still differs."""
    root = open_root(options.root)
    if not any((root / VERSIONS).glob("*.json")):
        read_version(root)  # says that there is none
    pipeline = resolve_indexed(options.root, options.state)
    found = _found(pipeline, options)
    mended = _mended(pipeline, options, found) if options.mend and found.differences else None
    now = mended.found if mended else found
    if options.json:
        differences = [vars(one) for one in now.differences]
        facts = {"mended": mended.files, "left": mended.left} if mended else {}
        print(json.dumps({"checked": dict(now.checked), "differences": differences, **facts}))
    else:
        next_one = command("build" if mended else "plan", options.root, pipeline.state)
        print(mended_text(mended) if mended else "", end="")
        print(verify_text(now, next_one, is_mended=mended is not None))
    return 1 if now.differences else 0


@dataclass(frozen=True)
class Mended:
    """What a mend rebuilt, what it could not rebuild and why, and what differs after it."""

    files: list[str]
    left: dict[str, str]
    found: Findings


def _mended(pipeline: Pipeline, options: Options, before: Findings) -> Mended:
    with open_compute(options.compute) as map_items:
        left = mend(pipeline, before, map_items)
    after = _found(pipeline, replace(options, rebuild=False))
    still = {one.where for one in after.differences}
    return Mended(sorted({one.where for one in before.differences} - still), left, after)


def mended_text(mended: Mended) -> str:
    """A line for each file that was rebuilt, and for each that could not be."""
    lines = [f"mended    {name}" for name in mended.files]
    lines += [f"not here  {name}: {why}" for name, why in sorted(mended.left.items())]
    return "".join(f"{line}\n" for line in lines)


def _found(pipeline: Pipeline, options: Options) -> Findings:
    with lease(pipeline.state, "tars"):
        with open_compute("threads") as map_items:
            found = verify(pipeline.root, map_items)
        if options.rebuild:
            with open_compute(options.compute) as map_items:
                found += rebuild(pipeline, map_items)
    return found


def verify_text(found: Findings, next_one: str, *, is_mended: bool = False) -> str:
    """What was verified, or what differs; in that case `next_one` is the command that says more or does the rest."""
    counts = found.checked
    kinds = ("records", "versions", "shards", "samples", "members", "features", "parts", "clips", "rebuilt")
    proved = ", ".join(f"{counts[kind]:,} {kind}" for kind in kinds if counts[kind])
    lines = [f"checked {proved} ({counts['bytes'] / MB:,.1f} MB of shards)"]
    if not found.differences:
        again = "; every shard rebuilt from its clips is identical" if counts["rebuilt"] else ""
        return "\n".join([*lines, f"every byte matches what was recorded{again}"])
    lines += [f"  {one}" for one in found.differences[:MOST_DIFFERENCES]]
    if len(found.differences) > MOST_DIFFERENCES:
        lines.append(f"  and {len(found.differences) - MOST_DIFFERENCES:,} more: --json has them all")
    what = "what is left needs a build, or a copy" if is_mended else "`--mend` rebuilds what it can"
    lines.append(f"{len(found.differences):,} difference(s); {what}\nnext: {next_one}")
    return "\n".join(lines)
