"""A recheck of take-downs as a user asks for it, and what it does. Without Prefect."""

from dataclasses import dataclass
from typing import Annotated

from flows.arguments import Option, Root, State
from flows.builds.pipeline import Pipeline
from flows.credentials import secrets_of
from schemas.layout import SEGMENTS
from schemas.manifest import part_numbers
from schemas.storage import open_root
from tasks.acquisition.recheck import Rechecked, ask, drop_marks, longest_unasked
from tasks.download import DownloadContext
from tasks.tombstones import read_tombstones


@dataclass(frozen=True)
class RecheckOptions:
    """Whose clips are looked for at their source, and whether those that are gone are taken down."""

    root: Root
    state: State = None
    drop_removed: Annotated[
        bool,
        Option("take down, as `mcgurk forget` does, what an earlier recheck found gone and this one too"),
    ] = False


def is_empty(root: str) -> bool:
    """Whether a folder that is there has no segments yet, so that there is nothing to ask for."""
    opened = open_root(root)
    return opened.is_dir() and not part_numbers(opened / SEGMENTS)


def recheck(pipeline: Pipeline, *, marked_first: bool) -> Rechecked:
    """Asks the source of the last build for the clips that it was asked for the longest ago, and marks what is gone."""
    config = pipeline.config.download
    videos = longest_unasked(pipeline.root, pipeline.state, config.source, marked_first=marked_first)
    if not videos:
        return Rechecked()
    context = DownloadContext(pipeline.now, pipeline.state, secret=secrets_of(pipeline.state))
    done = ask(pipeline.stage("download"), videos, config, context)
    drop_marks(pipeline.state, read_tombstones(pipeline.root))  # of what was taken down meanwhile
    return done
