"""The dataset build as data: what was asked for, its stages in order, and what a run would do."""

import math
import re
from collections.abc import Collection, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import cache, cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from flows.builds.memory import ALL_LABELS, find_state, in_full, recall, with_remembered
from flows.builds.options import NO_LABELS, BuildOptions
from flows.presets import PipelineConfig, load_preset
from schemas import layout
from schemas.manifest import part_numbers
from schemas.shard import duplicates_path, exclude_path, latest_digest, make_version
from schemas.storage import is_local, open_root
from tasks import download, extract, index, own_lists, pack, validate, windows
from tasks.acquisition import retention
from tasks.features import member_suffixes
from tasks.lists.labels import find_labels, find_ontology
from tasks.own_lists import cut_own
from tasks.pack import PackConfig
from tasks.parts import Headers, PartPlan, Plan, Stage, header_of, plan_stage
from tasks.shard_files import packed
from tasks.sources import studio
from tasks.standing import num_kept, with_returned
from tasks.transport.templates import without_secrets
from tasks.versions.card import kept_on_card
from tasks.windows import Record, Windows, cut_in_windows

OF_OWN_FILES = {"val_share": 0.1, "eval_share": 0.1}  # nobody has set them apart
STAGES = (
    "index", "validate-segments", "download", "validate-clips", "extract", "validate-features", "pack",
    "publish",
)  # fmt: skip


@dataclass(frozen=True)
class Pipeline:
    """A build that is about to run or to be planned."""

    options: BuildOptions
    config: PipelineConfig
    root: Path
    state: Path
    now: datetime
    before: Mapping[str, Any] = field(default_factory=dict)  # what the root remembers, as `recall` says it
    secrets: Mapping[str, str] = field(
        default_factory=dict, repr=False
    )  # that the source held, by their names in it

    @property
    def here(self) -> Path:
        """Where reports and runs of experiments go: the root, or for one on a store the state folder."""
        return self.root if is_local(self.root) else self.state

    @property
    def is_studio(self) -> bool:
        """Whether the media are generated."""
        return self.config.download.source == "studio"

    @property
    def with_media(self) -> bool:
        """Whether the data card may embed frames and sounds: third parties' on request only."""
        return self.is_studio or self.options.with_media

    @cached_property
    def lists(self) -> list[Path]:
        """The segment lists that were asked for, or that the studio wrote."""
        if self.is_studio and not self.options.segments:
            return sorted(studio.folder_of(self.state).glob("*_segments.csv"))
        if self.windows:
            made = own_lists.segments_of if self.own else windows.segments_of
            return [made(self.state), *self.published]
        return self.published

    @cached_property
    def own(self) -> list[Path]:
        """The lists that name files instead of videos."""
        return _own(self.options)

    @property
    def published(self) -> list[Path]:
        """The lists that name videos."""
        return [path for path in map(Path, self.options.segments) if path not in self.own]

    @property
    def windows(self) -> Windows | None:
        """How files are cut where no list says it."""
        shortest_s = self.config.rules.segments.min_length_s
        return Windows(self.config.window_s, shortest_s) if self.config.window_s else None

    def record(self) -> Record | None:
        """Ids and windows of files, where the source's or those of lists are cut; nothing is written."""
        source = self.config.download.source
        cuts = self.windows
        if cuts and self.own:
            return cut_own(self.own, source, self.state, cuts, strict=self.options.strict)
        with_labels = self.options.labels != NO_LABELS
        return cut_in_windows(source, self.state, cuts, with_labels=with_labels) if cuts else None

    @property
    def labels(self) -> dict[str, tuple[int, str]]:
        """Machine id -> index and display name."""
        return find_labels(self.root / layout.SEGMENTS, self.lists)

    @property
    def ontology(self) -> dict[str, dict]:
        """Machine id -> node, with what stands below it."""
        return find_ontology(self.root / layout.SEGMENTS, self.lists)

    @property
    def pack_config(self) -> PackConfig:
        """What pack writes into a sample's JSON."""
        return PackConfig(self.config.profile, self.labels)

    def stage(self, name: str) -> Stage:
        """The stage `name` of STAGES as a part maker (all but index and publish)."""
        if name.startswith("validate-"):
            manifest = name.removeprefix("validate-")
            return validate.stage(self.root, manifest, self.config.rules, self.config.profile)
        return {
            "download": lambda: download.stage(self.root, self.config.download),
            "extract": lambda: extract.stage(self.root, self.config.profile),
            "pack": lambda: pack.stage(self.root, self.pack_config),
        }[name]()


def resolve(options: BuildOptions) -> Pipeline:
    """The pipeline that `options` ask for. Raises ValueError for what they can't."""
    root = open_root(options.root)
    state = state_folder(root, options.state)
    asked = options
    before = recall(root, state)
    options = with_remembered(options, before)
    source, secrets = without_secrets(options.source or "")
    options = replace(options, source=source or None)
    config = load_preset(options.preset or "standard")
    if options.from_stage and options.from_stage not in STAGES:
        raise ValueError(f"unknown stage {options.from_stage!r}: use one of {', '.join(STAGES)}")
    missing = [path for path in options.segments if not Path(path).is_file()]
    if missing:
        raise ValueError(f"--segments {missing[0]}: no such file")
    options, config = _settled(options, config)
    pipeline = Pipeline(options, config, root, state, datetime.now(UTC), before, secrets)
    _check_choice(pipeline, asked)
    if asked.growth is not None and not 0 < asked.growth < math.inf:
        raise ValueError(f"--growth {asked.growth:g}: it is a share above 0, such as 0.2 for a fifth")
    if pipeline.windows:
        _check_windows(pipeline)
    elif not pipeline.is_studio and not options.segments and not part_numbers(root / layout.SEGMENTS):
        raise ValueError(f"{root} has no segments yet: name a list by --segments")
    return pipeline


def _settled(options: BuildOptions, config: PipelineConfig) -> tuple[BuildOptions, PipelineConfig]:
    """Options and configuration with what follows from each other."""
    own = next(iter(_own(options)), None)
    window_s = options.window or config.window_s
    if own:
        window_s = window_s or config.profile.length_ms / 1000
        beside = in_full(f"folder:{own.parent}")
        # The window is the list's: without the list, the folder is not cut in such.
        options = replace(options, source=options.source or beside, window=None)
    options = replace(
        options,
        preset=options.preset or "standard",
        source=options.source or config.download.source,
        window=None if own else window_s,
    )
    shares = {name: getattr(options, name) for name in OF_OWN_FILES if getattr(options, name) is not None}
    index = replace(config.index, choice=options.choice, **((OF_OWN_FILES if window_s else {}) | shares))
    if not (0 <= index.val_share < 1 and 0 <= index.eval_share < 1 - index.val_share):
        raise ValueError("--val-share and --eval-share are shares from 0, together below 1, such as 0.1")
    download = replace(config.download, source=options.source)
    return options, replace(config, download=download, index=index, window_s=window_s)


def _own(options: BuildOptions) -> list[Path]:
    return [path for path in map(Path, options.segments) if own_lists.is_own(path, options.source)]


def _check_choice(pipeline: Pipeline, asked: BuildOptions) -> None:
    choice = asked.choice
    windows = pipeline.windows
    if any(number is not None and number < 1 for number in (choice.per_class, choice.sample)):
        raise ValueError("--per-class and --sample are numbers of segments, from 1")
    is_asked = not choice.is_all and choice.labels != ALL_LABELS
    if is_asked and not (asked.segments or windows or pipeline.is_studio):
        raise ValueError("--labels, --per-class and --sample choose from lists: name them too, by --segments")


def _check_windows(pipeline: Pipeline) -> None:
    asked = f"--window {pipeline.config.window_s:g}"
    longest_s = pipeline.config.profile.length_ms / 1000
    source = pipeline.config.download.source
    if pipeline.own and not source.startswith("folder:"):
        raise ValueError(
            f"--segments {pipeline.own[0]} names files: their --source is folder:PATH, not {source}"
        )
    if pipeline.published and not pipeline.own:
        raise ValueError(f"{asked}: a list says itself where its segments begin; name either")
    if not source.startswith("folder:"):
        raise ValueError(f"{asked}: only the videos of --source folder:PATH are cut in windows")
    if not pipeline.config.rules.segments.min_length_s <= (pipeline.config.window_s or 0.0) <= longest_s:
        shortest_s = pipeline.config.rules.segments.min_length_s
        raise ValueError(f"{asked}: samples of this preset are {shortest_s:g} to {longest_s:g} s long")


def state_folder(root: Path, asked: str | None) -> Path:
    """Where ledgers, logs and databases lie: always on this machine; as asked, else where it was last built with it.

    Raises ValueError where nobody has said it, or where it is gone.
    """
    state = find_state(root, asked)
    if state is None:
        raise ValueError(f"--root {root}: a root on a store needs a folder here for its state: --state DIR")
    return state


def stages_asked(options: BuildOptions) -> tuple[str, ...]:
    """The stages from `--from` on."""
    return STAGES[STAGES.index(options.from_stage or STAGES[0]) :]


def parts_asked(options: BuildOptions) -> Sequence[int] | None:
    """The numbers in `--parts 3,7-9`; None for all. Raises ValueError."""
    if not options.parts:
        return None
    numbers: list[int] = []
    for piece in options.parts.split(","):
        match = re.fullmatch(r"(\d+)(?:-(\d+))?", piece.strip())
        first, last = (int(match[1]), int(match[2] or match[1])) if match else (1, 0)
        if last < first:
            raise ValueError(f"--parts {options.parts}: write numbers and ranges as 3,7-9")
        numbers += range(first, last + 1)
    return numbers


def plan_all(pipeline: Pipeline) -> dict[str, Plan]:
    """What a run would do, stage by stage, without doing it."""
    with _planned_lists(pipeline) as lists:
        plans = {"index": plan_index(pipeline, lists)}
    # Each is asked for by several stages
    before = plans["index"]
    headers_of = cache(header_of)
    for name in STAGES[1:-1]:
        before = plan_one(pipeline, name, before, headers_of=headers_of)
        if name == "download":
            needs = retention.needs(pipeline.stage(name), pipeline.stage("extract"), headers_of)
            is_asked = pipeline.options.refetch
            before = (
                retention.with_refetch(before, needs.all)
                if is_asked
                else replace(before, note=retention.describe_needs(needs))
            )
        plans[name] = before
    return {**plans, "publish": plan_publish(pipeline, before, headers_of)}


def plan_one(
    pipeline: Pipeline,
    name: str,
    before: Plan | None = None,
    *,
    only: Collection[int] | None = None,
    headers_of: Headers = header_of,
) -> Plan:
    """What a run would do with the parts of one stage, given the plan of the stage before it."""
    stage = pipeline.stage(name)
    planned = plan_stage(stage, before, only, headers_of)
    if name == "extract":
        return with_returned(stage, planned, headers_of)
    return download.with_due(stage, planned, pipeline.now, headers_of) if name == "download" else planned


def plan_index(pipeline: Pipeline, lists: Sequence[Path]) -> Plan:
    """The parts that stand, and those that new lists would open. Raises ValueError for a list that is none."""
    new = index.new_lists(pipeline.root, lists, pipeline.config.index)
    if pipeline.options.strict:
        index.require_well_formed(new)
    fresh = index.deal(pipeline.root, new, pipeline.config.index) if new else []
    done = [PartPlan(part, "done") for part in part_numbers(pipeline.root / layout.SEGMENTS)]
    parts = done + [PartPlan(one.part, "missing", "new segments") for one in fresh]
    return Plan("index", parts, note="\n".join(one.problems for one in new if one.problems))


@contextmanager
def _planned_lists(pipeline: Pipeline):
    """The lists; the studio's and those of windows as they would be written."""
    with TemporaryDirectory(prefix="mcgurk-") as folder:
        if record := pipeline.record():
            yield [record.write(Path(folder)), *pipeline.published]
        elif pipeline.is_studio and not pipeline.options.segments:
            yield studio.lists(Path(folder), pipeline.config.corpus)
        else:
            yield pipeline.lists


def plan_publish(pipeline: Pipeline, before: Plan, headers_of: Headers = header_of) -> Plan:
    """Whether the shards that stand are the latest version, and its page, which is written last, is there."""
    digest = latest_digest(pipeline.root)
    pending = [plan for plan in before.parts if plan.state != "done"]
    if digest is None:
        return Plan("publish", [PartPlan(0, "missing", "no version yet")])
    profile = pipeline.config.profile
    standing = make_version(profile, member_suffixes(profile), packed(pipeline.root, headers_of))
    if pending or standing.digest != digest:
        return Plan("publish", [PartPlan(0, "stale", "the shards change")])
    if not (pipeline.root / "versions" / f"{digest}.html").is_file():
        return Plan("publish", [PartPlan(0, "stale", "its page is missing")])
    if kept_on_card(pipeline.root, digest) != num_kept(pipeline.root, headers_of):
        return Plan("publish", [PartPlan(0, "stale", "its page counts other samples of earlier tools")])
    lists = exclude_path(pipeline.root, digest), duplicates_path(pipeline.root, digest)
    if not all(path.is_file() for path in lists):
        return Plan("publish", [PartPlan(0, "stale", "its duplicates were not looked for")])
    return Plan("publish", [PartPlan(0, "done")])
