"""`mcgurk export`: writes the latest version as a folder for Hugging Face datasets, MosaicML streaming or LitData."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from flows.arguments import Option, Root
from flows.builds.memory import state_here
from schemas.errors import RequestError
from schemas.storage import open_root
from tasks.export import Exported, export

EXAMPLE = "mcgurk export --root data --to hf published"
IS_LONG = False  # it starts no process, and writes nothing under the root
MB = 1e6


@dataclass(frozen=True)
class Options:
    """From which root, in which format, and where to."""

    folder: Annotated[str, Option("a folder that does not exist yet, or is empty", "DIR", is_positional=True)]
    root: Root
    to: Annotated[str, Option("hf (Hugging Face datasets), mds (MosaicML streaming) or litdata", "FORMAT")]


def run(options: Options) -> int:
    """Writes the folder, and prints how to read it."""
    if "://" in options.folder:
        raise RequestError(f"{options.folder} is not a folder on this machine: export to one, and copy that")
    root = open_root(options.root)
    target = Path(options.folder).expanduser().absolute()
    print(f"exporting the latest version of {root} to {target} as {options.to}", flush=True)
    print(exported_text(export(root, state_here(root), options.to, target)))
    return 0


def exported_text(done: Exported) -> str:
    """What was exported, what is excluded from training, and how to read it."""
    version = done.version
    size = sum(shard.size_bytes for shard in version.shards)
    lines = [
        f"version {version.digest[:12]}: {version.num_samples:,} samples of {len(version.shards):,} shards, "
        f"{size / MB:,.1f} MB"
    ]
    if done.num_excluded:
        lines.append(
            f"{done.num_excluded:,} of them are near-duplicates: their list, .exclude.txt, is exported too"
        )
    return "\n".join([*lines, f"next, in Python: {done.read}"])
