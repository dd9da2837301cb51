"""The table of stages as a build sees them: how each is made, planned, run and retried. Without Prefect.

`schemas/layout.py` lists, for each name, what the stage reads, writes and locks. A new stage is one row in each of the
two tables and one module of `tasks/`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from flows.presets import PipelineConfig
from schemas.layout import STAGE_NAMES
from tasks import download, extract, pack, validate
from tasks.acquisition.appeals import Reopened
from tasks.download import DownloadContext
from tasks.pack import PackConfig
from tasks.parts import Headers, Plan, Stage
from tasks.standing import with_returned

if TYPE_CHECKING:
    from flows.compute import Map  # imports Dask, which a plan does not need

GROUP = 16  # parts per task run: 8,192 segments of AudioSet's train set, about 250 task runs per stage


class Build(Protocol):
    """What the stages need of a build; `flows.builds.pipeline.Pipeline` provides it."""

    @property
    def root(self) -> Path:
        """Where the manifests are."""
        ...

    @property
    def config(self) -> PipelineConfig:
        """Profile, rules, and how media are acquired."""
        ...

    @property
    def now(self) -> datetime:
        """When the build started."""
        ...

    @property
    def reopened(self) -> Reopened:
        """The segments that are tried again although they are not due."""
        ...

    @property
    def pack_config(self) -> PackConfig:
        """What `pack` writes into a sample's JSON."""
        ...


@dataclass(frozen=True)
class Tools:
    """What a run of a stage works with: where items are computed, and the context of the current downloads."""

    map_items: "Map"
    context: DownloadContext


Run = Callable[[Build, Tools, Stage, Sequence[int]], object]
Revise = Callable[[Build, Stage, Plan, Headers], Plan]


@dataclass(frozen=True)
class BuildStage:
    """A row of the table.

    Attributes:
        name: as in `schemas/layout.py`.
        make: the stage over the root of a build; None for one that is not made part by part.
        run: makes the numbered parts.
        retries: how often a task run is retried automatically.
        retry_delay_s: how long it waits before that.
        group: parts per task run; None: all due parts in one.
        revise: adds to a plan what only this stage knows.
        is_bounded: whether it repeats while the disk budget holds downloads back.
    """

    name: str
    make: Callable[[Build], Stage] | None = None
    run: Run | None = None
    retries: int = 0
    retry_delay_s: float = 0.0
    group: int | None = GROUP
    revise: Revise | None = None
    is_bounded: bool = False

    def over(self, build: Build) -> Stage:
        """The stage over the root of `build`."""
        if self.make is None:
            raise TypeError(f"{self.name} is not made part by part")
        return self.make(build)


def _validation(manifest: str, *, is_bounded: bool = False) -> BuildStage:
    return BuildStage(
        f"validate-{manifest}",
        lambda build: validate.stage(build.root, manifest, build.config.rules, build.config.profile),
        lambda build, _, stage, parts: validate.run(stage, parts, build.config.rules, build.config.profile),
        group=None,  # it reads the whole manifest anyway
        is_bounded=is_bounded,
    )


# A failure from a bug, a gate or a full disk recurs at once; only what a download depends on recovers by itself.
TABLE = (
    BuildStage("index"),
    _validation("segments"),
    BuildStage(
        "download",
        lambda build: download.stage(build.root, build.config.download),
        lambda build, tools, stage, parts: download.run(stage, parts, build.config.download, tools.context),
        retries=2,
        retry_delay_s=30.0,
        revise=lambda build, stage, plan, headers_of: download.with_due(
            stage, plan, build.now, headers_of, build.reopened
        ),
        is_bounded=True,
    ),
    _validation("clips", is_bounded=True),
    BuildStage(
        "extract",
        lambda build: extract.stage(build.root, build.config.profile),
        lambda build, tools, stage, parts: extract.run(stage, parts, build.config.profile, tools.map_items),
        revise=lambda build, stage, plan, headers_of: with_returned(stage, plan, headers_of),
        is_bounded=True,
    ),
    _validation("features"),
    BuildStage(
        "pack",
        lambda build: pack.stage(build.root, build.pack_config),
        lambda build, _, stage, parts: pack.run(stage, parts, build.pack_config),
        retries=1,
    ),
    BuildStage("publish"),
)


def stage_named(name: str) -> BuildStage:
    """The row of the stage `name`. Raises ValueError for an unknown name."""
    return TABLE[STAGE_NAMES.index(name)]


def stages_from(name: str | None) -> tuple[BuildStage, ...]:
    """The rows from the stage `name` on; all of them for None. Raises ValueError for an unknown name."""
    return TABLE[STAGE_NAMES.index(name or STAGE_NAMES[0]) :]
