"""`mcgurk prune`: removes old versions with their shards and pages, old runs' artefacts, and old logs."""

from flows.builds.pipeline import resolve_published
from flows.experiments.upkeep import PruneOptions as Options
from flows.experiments.upkeep import Upkeep, keep_up
from tasks.versions.prune import Pruned

EXAMPLE = "mcgurk prune --root data"
IS_LONG = False
MB = 1e6


def run(options: Options) -> int:
    """Removes them, and prints what is kept and why."""
    print(upkeep_text(keep_up(resolve_published(options.root, options.state))))
    return 0


def upkeep_text(done: Upkeep) -> str:
    """What was removed of versions, runs and logs."""
    runs = [f"removed  artefacts of run {run_id}" for run_id in done.runs]
    logs = [f"removed  logs/{name}" for name in done.logs]
    records = [f"removed  record of version {digest[:12]}" for digest in done.records]
    return "\n".join([*runs, *logs, *records, pruned_text(done.versions)])


def pruned_text(pruned: Pruned) -> str:
    """What was removed and what was kept of the versions, and why."""
    lines = [f"kept  {digest[:12]}  {why}" for digest, why in pruned.kept.items()]
    lines += [f"retired  {digest[:12]}" for digest in pruned.retired]
    lines += [f"removed  {name}  {size / MB:,.1f} MB" for name, size in pruned.removed.items()]
    size = sum(pruned.removed.values())
    lines.append(f"{len(pruned.removed):,} file(s) removed, {size / MB:,.1f} MB ({size:,} bytes)")
    return "\n".join(lines)
