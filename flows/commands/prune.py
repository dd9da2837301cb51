"""`mcgurk prune`: removes the shards that no kept version, no running training and no manifest names."""

from dataclasses import dataclass

from flows.arguments import Root, State
from flows.builds.pipeline import resolve_published
from tasks.versions.prune import Pruned, prune

EXAMPLE = "mcgurk prune --root data"
IS_LONG = False
MB = 1e6


@dataclass(frozen=True)
class Options:
    """Whose shards are removed."""

    root: Root
    state: State = None


def run(options: Options) -> int:
    """Removes them, and prints what is kept and why."""
    pipeline = resolve_published(options.root, options.state)
    print(pruned_text(prune(pipeline.root, pipeline.state)))
    return 0


def pruned_text(pruned: Pruned) -> str:
    """What was removed and what was kept, and why."""
    lines = [f"kept  {digest[:12]}  {why}" for digest, why in pruned.kept.items()]
    lines += [f"retired  {digest[:12]}" for digest in pruned.retired]
    lines += [f"removed  {name}  {size / MB:,.1f} MB" for name, size in pruned.removed.items()]
    size = sum(pruned.removed.values())
    lines.append(f"{len(pruned.removed):,} file(s) removed, {size / MB:,.1f} MB ({size:,} bytes)")
    return "\n".join(lines)
