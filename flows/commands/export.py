"""`mcgurk export`: writes the latest version as a folder for Hugging Face datasets, MosaicML streaming or LitData."""

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from flows.arguments import Option, Root
from flows.builds.memory import find_state
from schemas.errors import RequestError
from schemas.storage import open_root
from tasks.export import Exported, export

EXAMPLE = "mcgurk export --root data --to hf published"
IS_LONG = False  # it starts no process, and writes nothing under the root
MB = 1e6


@dataclass(frozen=True)
class Options:
    """Of which root, in which format, and where to."""

    folder: Annotated[str, Option("a folder that is not there yet, or is empty", "DIR", is_positional=True)]
    root: Root
    to: Annotated[str, Option("hf (Hugging Face datasets), mds (MosaicML streaming) or litdata", "FORMAT")]


def run(options: Options) -> int:
    """Writes the folder, and says how it is read."""
    if "://" in options.folder:
        raise RequestError(f"{options.folder} is no folder of this machine: export to one, and copy that")
    root = open_root(options.root)
    target = Path(options.folder).expanduser().absolute()
    print(f"exporting the latest version of {root} to {target} as {options.to}", flush=True)
    print(exported_text(export(root, _state_here(root), options.to, target)))
    return 0


def _state_here(root: Path) -> Path | None:
    """The state folder, by whose marks `prune` knows what is being read; None for one that is on another machine."""
    with suppress(RequestError):
        return find_state(root)
    return None


def exported_text(done: Exported) -> str:
    """What was exported, what is not to be trained on, and how it is read."""
    version = done.version
    size = sum(shard.size_bytes for shard in version.shards)
    lines = [
        f"version {version.digest[:12]}: {version.num_samples:,} samples of {len(version.shards):,} shards, "
        f"{size / MB:,.1f} MB"
    ]
    if done.num_excluded:
        lines.append(f"{done.num_excluded:,} near-duplicates are in it: their list, .exclude.txt, goes along")
    return "\n".join([*lines, f"next, in Python: {done.read}"])
