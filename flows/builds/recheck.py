"""A recheck of take-downs: its options, and what it does. Without Prefect."""

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
    """Which root's clips are checked at their source, and whether those that are gone are taken down."""

    root: Root
    state: State = None
    drop_removed: Annotated[
        bool,
        Option("take down, as `mcgurk forget` does, what both an earlier recheck and this one find gone"),
    ] = False


def is_empty(root: str) -> bool:
    """Whether an existing folder has no segments yet, so that there is nothing to check."""
    opened = open_root(root)
    return opened.is_dir() and not part_numbers(opened / SEGMENTS)


def recheck(pipeline: Pipeline, *, marked_first: bool) -> Rechecked:
    """Asks the source of the last build for the clips checked least recently, and marks what is gone."""
    config = pipeline.config.download
    videos = longest_unasked(pipeline.root, pipeline.state, config.source, marked_first=marked_first)
    if not videos:
        return Rechecked()
    context = DownloadContext(pipeline.now, pipeline.state, secret=secrets_of(pipeline.state))
    done = ask(pipeline.stage("download"), videos, config, context)
    drop_marks(pipeline.state, read_tombstones(pipeline.root))  # of videos taken down meanwhile
    return done
