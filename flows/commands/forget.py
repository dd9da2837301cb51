"""`mcgurk forget`: takes videos down: media, rows, shards, pages and artefacts; tags the models that saw them."""

from dataclasses import dataclass
from typing import Annotated

from flows.arguments import Option, Root, State
from flows.builds.pipeline import resolve_indexed
from flows.builds.takedown import Forgotten, forget
from flows.commands.announce import command

EXAMPLE = "mcgurk forget dQw4w9WgXcQ -NoSoundT04 --root data"
IS_LONG = True


@dataclass(frozen=True)
class Options:
    """Which videos, of which root."""

    video_ids: Annotated[
        tuple[str, ...], Option("may begin with a dash, as some do", "VIDEO_ID", is_positional=True)
    ]
    root: Root
    state: State = None


def run(options: Options) -> int:
    """Takes videos down, everywhere, and says what was done."""
    pipeline = resolve_indexed(options.root, options.state)
    print(f"taking down {', '.join(options.video_ids)} under {pipeline.root}", flush=True)
    print(forgotten_text(forget(pipeline, options.video_ids)))
    print(f"next: {command('verify', options.root, pipeline.state)}")
    return 0


def forgotten_text(done: Forgotten) -> str:
    """What a take-down removed, rewrote or tagged."""
    lines = [f"segment   {key}: forgotten" for key in done.keys]
    lines += [f"removed   {name}  ({size:,} bytes)" for name, size in done.removed.items()]
    lines += [f"shard     {old} -> {new or 'none: no sample is left'}" for old, new in done.shards.items()]
    lines += [f"version   {old[:12]} -> {new[:12]}" for old, new in done.versions.items()]
    lines += [f"page      {name}: cleaned" for name in done.pages]
    lines += [f"artefact  {name}: cleaned" for name in done.artifacts]
    lines += [f"model     {name}" for name in done.models]
    if not (done.removed or done.shards or done.versions or done.pages or done.artifacts):
        lines.append("nothing was left to remove")
    if not done.models:
        lines.append("no registered model was trained on a version that contained these videos")
    return "\n".join(lines)
