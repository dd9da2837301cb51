"""The dataset build as data: what a user's options resolve to, and where the build runs."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

from flows.builds.memory import ALL_LABELS, find_state, in_full, recall, with_remembered
from flows.builds.options import NO_LABELS, BuildOptions
from flows.presets import PipelineConfig, load_preset
from flows.stages import stage_named
from schemas.errors import RequestError
from schemas.layout import SEGMENTS, STAGE_NAMES
from schemas.manifest import part_numbers
from schemas.receipt import Settings, read_receipt, read_settings
from schemas.shard import read_version
from schemas.storage import is_local, is_writable, open_root, require_folder
from tasks import own_lists, windows
from tasks.acquisition.appeals import Reopened, reopened
from tasks.from_receipt import require_same
from tasks.inventory import lost_parts
from tasks.lists.labels import find_labels, find_ontology
from tasks.own_lists import cut_own
from tasks.pack import PackConfig
from tasks.parts import Stage
from tasks.sources import studio
from tasks.transport.templates import without_secrets
from tasks.versions.receipts import kept_path
from tasks.windows import Record, Windows, cut_in_windows

OF_OWN_FILES = {"val_share": 0.1, "eval_share": 0.1}  # no list has set videos apart


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
    )  # that were in the source, by their names in it
    receipt: Path | None = None  # from which the root is built
    accepts_rules: bool = False  # the user has just named a preset or a receipt, and with it the rules

    @property
    def here(self) -> Path:
        """Where reports and runs of experiments go: the root, or the state folder if it is on a store or read-only."""
        return self.root if is_local(self.root) and is_writable(self.root) else self.state

    @property
    def is_studio(self) -> bool:
        """Whether the media are generated."""
        return self.config.download.source == "studio"

    @property
    def has_studio_lists(self) -> bool:
        """Whether the segments come from the lists of the generated scenes."""
        return self.is_studio and not self.options.segments and self.receipt is None

    @property
    def with_media(self) -> bool:
        """Whether the data card may embed frames and sounds: those of third parties only on request."""
        return self.is_studio or self.options.with_media

    @property
    def lists(self) -> list[Path]:
        """The segment lists that the user names, or that the studio has already written."""
        if self.has_studio_lists:
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
        """How files are cut if no list says how."""
        shortest_s = self.config.rules.segments.min_length_s
        return Windows(self.config.window_s, shortest_s) if self.config.window_s else None

    def record(self) -> Record | None:
        """Ids and windows of files, if those of the source or of lists are cut; nothing is written."""
        source = self.config.download.source
        cuts = self.windows
        if cuts and self.own:
            return cut_own(self.own, source, self.state, cuts, strict=self.options.strict)
        with_labels = self.options.labels != NO_LABELS
        return cut_in_windows(source, self.state, cuts, with_labels=with_labels) if cuts else None

    @property
    def reopened(self) -> Reopened:
        """The segments that are tried although they are not due. Raises RequestError for unknown names in `--retry`."""
        return self._reopened

    @cached_property
    def _reopened(self) -> Reopened:
        return reopened(self.root, self.state, self.config.download.source, self.options.retry)

    @property
    def labels(self) -> dict[str, tuple[int, str]]:
        """Machine id -> index and display name."""
        return find_labels(self.root / SEGMENTS, self.lists)

    @property
    def ontology(self) -> dict[str, dict]:
        """Machine id -> node, with the nodes below it."""
        return find_ontology(self.root / SEGMENTS, self.lists)

    @property
    def pack_config(self) -> PackConfig:
        """What pack writes into a sample's JSON."""
        return PackConfig(self.config.profile, self.labels)

    @property
    def settings(self) -> Settings:
        """What the version depends on, besides segments and media."""
        return Settings(self.config.profile, self.config.rules, self.labels, self.options.preset or "")

    def stage(self, name: str) -> Stage:
        """The stage `name` over this root; it must be one that is made part by part."""
        return stage_named(name).over(self)


def resolve(options: BuildOptions) -> Pipeline:
    """The pipeline that `options` describe. Raises RequestError for impossible ones."""
    root = open_root(options.root)
    state = state_folder(root, options.state)
    given = options
    _check_numbers(given)
    before = recall(root, state)
    options = with_remembered(options, before)
    source, secrets = without_secrets(options.source or "")
    options = replace(options, source=source or None)
    receipt = _receipt(root, given)
    options, config = _configured(options, receipt, named_preset=given.preset)
    if options.from_stage and options.from_stage not in STAGE_NAMES:
        raise RequestError(f"unknown stage {options.from_stage!r}: use one of {', '.join(STAGE_NAMES)}")
    missing = [path for path in options.segments if not Path(path).is_file()]
    if missing:
        raise RequestError(f"--segments {missing[0]}: no such file")
    options, config = _with_defaults(options, config)
    now = datetime.now(UTC)
    is_named = given.preset is not None or given.receipt is not None
    pipeline = Pipeline(options, config, root, state, now, before, secrets, receipt, is_named)
    _check_choice(pipeline, given)
    if pipeline.windows:
        _check_windows(pipeline)
    elif not (pipeline.is_studio or receipt or options.segments or _is_indexed(root)):
        raise RequestError(f"{root} has no segments yet: name a list with --segments")
    return pipeline


def _receipt(root: Path, given: BuildOptions) -> Path | None:
    """The receipt that is named, else the one `root` is built from. Raises RequestError if other segments are named."""
    kept = kept_path(root)
    if given.receipt is None:
        return kept if kept.is_file() else None
    others = {"--segments": given.segments, "--window": given.window, "--labels": given.labels}
    others |= {"--per-class": given.per_class, "--sample": given.sample}
    if named := next((name for name, value in others.items() if value), None):
        raise RequestError(f"--receipt {given.receipt} says which segments there are: leave {named} out")
    path = Path(given.receipt)
    require_same(root, read_receipt(path))
    return path


def _configured(
    options: BuildOptions, receipt: Path | None, named_preset: str | None
) -> tuple[BuildOptions, PipelineConfig]:
    """The options with their preset, and its configuration; a receipt, if there is one, sets profile and rules.

    Raises RequestError for a preset whose samples differ from the receipt's.
    """
    if receipt is None:
        return options, load_preset(options.preset or "standard")
    settings = read_settings(receipt)
    preset = options.preset or settings.preset or "standard"
    config = load_preset(preset)
    if named_preset and config.profile != settings.profile:
        raise RequestError(
            f"--preset {named_preset}: its samples differ from those of {receipt}, whose profile is "
            f"{settings.profile.name}: leave it out, or build into another root"
        )
    return replace(options, preset=preset), replace(config, profile=settings.profile, rules=settings.rules)


def resolve_indexed(root: str, state: str | None) -> Pipeline:
    """The pipeline of a root that has segments, published or not. Raises RequestError for any other root."""
    if not _is_indexed(open_root(root)):
        raise RequestError(f"{root} has no segments: nothing was changed")
    return resolve(BuildOptions(root, state=state))


def _is_indexed(root: Path) -> bool:
    """Whether the index has parts, or has lost them."""
    return bool(part_numbers(root / SEGMENTS) or lost_parts(root))


def resolve_published(root: str, state: str | None) -> Pipeline:
    """The pipeline of a root that has a version. Raises RequestError for any other root."""
    read_version(open_root(root))
    return resolve(BuildOptions(root, state=state))


def _with_defaults(options: BuildOptions, config: PipelineConfig) -> tuple[BuildOptions, PipelineConfig]:
    """Options and configuration, each completed by what follows from the other."""
    own = next(iter(_own(options)), None)
    window_s = options.window or config.window_s
    if own:
        window_s = window_s or config.profile.length_ms / 1000
        beside = in_full(f"folder:{own.parent}")
        # The window belongs to the list: without the list, the folder is not cut into such windows.
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
        raise RequestError("--val-share and --eval-share are shares from 0, together below 1, such as 0.1")
    download = replace(config.download, source=options.source)
    return options, replace(config, download=download, index=index, window_s=window_s)


def _own(options: BuildOptions) -> list[Path]:
    return [path for path in map(Path, options.segments) if own_lists.is_own(path, options.source)]


def _check_numbers(given: BuildOptions) -> None:
    _ = given.part_numbers
    if given.growth is not None and not 0 < given.growth < math.inf:
        raise RequestError(f"--growth {given.growth:g}: it must be a share above 0, such as 0.2 for a fifth")
    if given.window is not None and not 0 < given.window < math.inf:  # 0 would pass for no window
        raise RequestError(f"--window {given.window:g}: it must be a length in seconds above 0")


def _check_choice(pipeline: Pipeline, given: BuildOptions) -> None:
    choice = given.choice
    windows = pipeline.windows
    if any(number is not None and number < 1 for number in (choice.per_class, choice.sample)):
        raise RequestError("--per-class and --sample are numbers of segments, from 1")
    is_chosen = not choice.is_all and choice.labels != ALL_LABELS
    if is_chosen and not (given.segments or windows or pipeline.is_studio):
        raise RequestError(
            "--labels, --per-class and --sample choose from lists: name them too, with --segments"
        )


def _check_windows(pipeline: Pipeline) -> None:
    window = f"--window {pipeline.config.window_s:g}"
    longest_s = pipeline.config.profile.length_ms / 1000
    source = pipeline.config.download.source
    if pipeline.own and not source.startswith("folder:"):
        raise RequestError(
            f"--segments {pipeline.own[0]} names files: their --source must be folder:PATH, not {source}"
        )
    if pipeline.published and not pipeline.own:
        raise RequestError(f"{window}: a list already says where its segments begin: name one of the two")
    if not source.startswith("folder:"):
        raise RequestError(f"{window}: only the videos of --source folder:PATH are cut into windows")
    if not pipeline.config.rules.segments.min_length_s <= (pipeline.config.window_s or 0.0) <= longest_s:
        shortest_s = pipeline.config.rules.segments.min_length_s
        raise RequestError(f"{window}: samples of this preset are {shortest_s:g} to {longest_s:g} s long")


def state_folder(root: Path, named: str | None) -> Path:
    """The folder of ledgers, logs and databases, always on this machine: as named, else that of the last build.

    Raises RequestError if none was ever named, if it is gone, or if it or the root can't be a folder.
    """
    require_folder(root, "--root")
    state = find_state(root, named)
    if state is None:
        raise RequestError(
            f"--root {root}: a root on a store needs a local folder for its state: --state DIR"
        )
    require_folder(state, "--state")
    return state
