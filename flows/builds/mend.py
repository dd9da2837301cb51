"""`mcgurk verify --mend`: rebuilds every damaged derived file, to the same digest, without a download."""

import logging
import re
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

from flows.builds.pipeline import Pipeline
from flows.compute import Map
from flows.stages import TABLE, BuildStage
from schemas import layout
from schemas.errors import DataError, McgurkError
from schemas.files import read_kept
from schemas.manifest import part_numbers, part_path, read_header, read_part
from schemas.outcome import Outcome
from schemas.receipt import write_receipt
from schemas.shard import (
    Version,
    latest_digest,
    make_version,
    read_version,
    receipt_path,
    write_listing,
    write_version,
)
from schemas.storage import is_whole, lost_files, path_under
from tasks import download, extract, features, index, pack, validate
from tasks.acquisition.retention import DiskBudget
from tasks.download import DownloadContext
from tasks.feature_files import feature_path
from tasks.inventory import LISTS
from tasks.leases import NAMES, lease, remove_partial_writes
from tasks.lists.labels import FILE as LABELS
from tasks.lists.labels import ONTOLOGY
from tasks.lists.labels import REMEDY as LABELS_REMEDY
from tasks.parts import Stage, header_of
from tasks.shard_files import packed
from tasks.versions.card import write_card
from tasks.versions.croissant import problems_of_croissant, write_croissant
from tasks.versions.duplicates import problems_of_lists, write_duplicates
from tasks.versions.findings import Findings
from tasks.versions.mend import from_twin, rows_of_features, unpack
from tasks.versions.receipts import KEPT, make_receipt, problem_of
from tasks.versions.records import measured_facts, mend_records

log = logging.getLogger(__name__)

NEEDS_MEDIA = "its media are not here: `mcgurk build --refetch` requests them from the source"
OF_RECEIPT = "it belongs to an older version: only a copy has it; without it, differences from that version are unknown"
# What the user provided, in segments/, and how to restore it.
GIVEN = {
    LISTS: "a build that names its lists reads them, and adds nothing",
    KEPT: "name the receipt again: `mcgurk build --receipt FILE`",
    **dict.fromkeys((LABELS, ONTOLOGY), LABELS_REMEDY),
}
OF_OTHER_SHARDS = "it lists other shards than those that exist: restore it from a copy, or build and prune"


@dataclass
class Mend:
    """A mend in progress: what is damaged, and why some of it can't be restored.

    Attributes:
        pipeline: of the root.
        map_items: computes extractions.
        damaged: paths under the root.
        left: path -> why, and what could restore it.
    """

    pipeline: Pipeline
    map_items: Map
    damaged: frozenset[str]
    left: dict[str, str] = field(default_factory=dict)

    @property
    def root(self) -> Path:
        """The root."""
        return self.pipeline.root

    def parts(self, folder: str, suffix: str = "parquet") -> list[int]:
        """The damaged parts of a manifest, or those whose file of a feature is damaged."""
        found = (re.fullmatch(rf"{folder}/(\d{{6}})\.{suffix}", name) for name in self.damaged)
        return sorted(int(one[1]) for one in found if one)


def mend(pipeline: Pipeline, found: Findings, map_items: Map) -> dict[str, str]:
    """Rebuilds what `found` says is damaged; returns what can't be rebuilt: path -> why, and what could restore it."""
    at_work = Mend(pipeline, map_items, frozenset(one.where for one in found.differences))
    with lease(pipeline.state, *NAMES):
        remove_partial_writes(pipeline.root, *NAMES)
        _mend_clips(at_work)
        mend_records(pipeline.root, at_work.damaged)
        of_segments = {f"{layout.SEGMENTS}/{name}": why for name, why in GIVEN.items()}
        at_work.left |= {name: why for name, why in of_segments.items() if name in at_work.damaged}
        _mend_index(at_work)
        for row in TABLE:
            if row.make:
                _mend_stage(at_work, row)
        try:
            _mend_versions(at_work)
        except McgurkError as error:
            at_work.left[layout.VERSIONS] = str(error)
    return at_work.left


def _mend_clips(at_work: Mend) -> None:
    """Removes media whose bytes differ from those that were fetched: an extraction would take them for the clip."""
    for name in sorted(one for one in at_work.damaged if one.startswith(f"{layout.MEDIA}/")):
        (at_work.root / name).unlink(missing_ok=True)
        at_work.left[name] = "only a new download restores it: the next build requests it; its sample stays"


def _mend_index(at_work: Mend) -> None:
    pipeline = at_work.pipeline
    lost = at_work.parts(layout.SEGMENTS)
    for part in lost:
        part_path(pipeline.root / layout.SEGMENTS, part).unlink(missing_ok=True)
    try:
        index.index(pipeline.root, pipeline.lists, pipeline.config.index)
    except DataError as error:
        at_work.left |= {f"{layout.SEGMENTS}/{part:06d}.parquet": str(error) for part in lost}


def _mend_stage(at_work: Mend, row: BuildStage) -> None:
    try:
        stage = row.over(at_work.pipeline)
        _MENDERS.get(row.name, _mend_verdicts)(at_work, stage)
    except McgurkError as error:
        at_work.left[layout.stage_facts(row.name).writes] = str(error)


def _mend_verdicts(at_work: Mend, stage: Stage) -> None:
    """Judges a manifest again whose verdicts or report are damaged."""
    config = at_work.pipeline.config
    report = f"{layout.VALIDATION}/{stage.reads}.json"
    parts = at_work.parts(stage.writes)
    for name in [*(f"{stage.writes}/{part:06d}.parquet" for part in parts), *({report} & at_work.damaged)]:
        (at_work.root / name).unlink(missing_ok=True)
    if parts or report in at_work.damaged:
        # The pass rate of the whole manifest is not checked again: its verdicts had been accepted.
        rules = replace(config.rules, min_pass_share=0.0)
        validate.run(stage, parts, rules, config.profile)


def _mend_download(at_work: Mend, stage: Stage) -> None:
    """Restores clips' rows from their twin and from the ledger of attempts. Fetches nothing: the budget is zero."""
    pipeline = at_work.pipeline
    parts = [part for part in at_work.parts(stage.writes) if not _is_readable(part_path(stage.target, part))]
    for part in parts:
        part_path(stage.target, part).unlink(missing_ok=True)
        from_twin(stage, part, {})
    if parts:
        budget = DiskBudget(lambda: 0.0)
        context = DownloadContext(pipeline.now, pipeline.state, budget=budget)
        download.run(stage, parts, pipeline.config.download, context)
    for part in parts:
        if read_header(part_path(stage.target, part)) is None:
            name = f"{stage.writes}/{part:06d}.parquet"
            at_work.left[name] = (
                "its twin and its ledger are lost too: the next build requests its clips again"
            )


def _is_readable(path: Path) -> bool:
    """Whether a part is intact; its files may be lost even so."""
    return read_kept(path) is not None and read_header(path) is not None


def _mend_extract(at_work: Mend, stage: Stage) -> None:
    """Restores feature files from the tar with the same members, their rows from the twin; else both from the clips."""
    names = features.of_profile(at_work.pipeline.config.profile)
    of_files = (part for name in names for part in at_work.parts(f"{stage.writes}/{name}", "arrow"))
    for part in sorted({*at_work.parts(stage.writes), *of_files}):
        damaged = [name for name in names if _is_damaged(at_work, stage, name, part)]
        if not _is_put_back(at_work, stage, part, damaged):
            _extract_again(at_work, stage, part)


def _is_damaged(at_work: Mend, stage: Stage, name: str, part: int) -> bool:
    path = feature_path(stage.root, name, part)
    header = header_of(stage.root, stage.writes, part)
    where = f"{stage.writes}/{name}/{part:06d}.arrow"
    is_lost = header is not None and where in lost_files(stage.root, header.files)
    return where in at_work.damaged or is_lost or (header is None and not path.is_file())


def _is_put_back(at_work: Mend, stage: Stage, part: int, damaged: Collection[str]) -> bool:
    """Whether the feature files `damaged` of a part, and its rows, could be restored from other files."""
    profile = at_work.pipeline.config.profile
    rows = rows_of_features(stage.root, part)
    names = features.of_profile(profile)
    if not rows or not all(
        unpack(stage.root, part, name, names[name].suffixes(profile), rows) for name in damaged
    ):
        return False
    if part not in at_work.parts(stage.writes):
        return True
    paths = [feature_path(stage.root, name, part) for name in names]
    sizes = {path: path.stat().st_size for path in paths}
    return from_twin(stage, part, sizes, extract.made_by(profile))


def _extract_again(at_work: Mend, stage: Stage, part: int) -> None:
    clips = read_part(part_path(stage.root / layout.CLIPS, part), ("outcome", "path", "size_bytes"))
    ok = [row for row in clips if row["outcome"] == Outcome.OK]
    if not all(row["path"] and is_whole(stage.root / row["path"], row["size_bytes"]) for row in ok):
        at_work.left[f"{stage.writes}/{part:06d}.parquet"] = NEEDS_MEDIA
        return
    part_path(stage.target, part).unlink(missing_ok=True)
    for name in features.of_profile(at_work.pipeline.config.profile):
        feature_path(stage.root, name, part).unlink(missing_ok=True)
    extract.run(stage, [part], at_work.pipeline.config.profile, at_work.map_items)


def _mend_pack(at_work: Mend, stage: Stage) -> None:
    """Rebuilds shards from their features: the tar, its sidecar and its part."""
    due = sorted(_packs(at_work, stage) & set(part_numbers(stage.source)))
    lacking = [part for part in due if f"{layout.FEATURES}/{part:06d}.parquet" in at_work.left]
    at_work.left |= {f"{stage.writes}/{part:06d}.parquet": "its features are not here" for part in lacking}
    pack.run(stage, [part for part in due if part not in lacking], at_work.pipeline.pack_config)


def _packs(at_work: Mend, stage: Stage) -> set[int]:
    """The parts whose tar, sidecar or part file is damaged; only the newest tar can be rebuilt."""
    found = set(at_work.parts(stage.writes))
    for part in part_numbers(stage.target):
        header = header_of(stage.root, stage.writes, part)
        stem = header.facts.get("shard") if header else None
        if {f"{stage.writes}/{stem}.{kind}" for kind in ("tar", "parquet")} & at_work.damaged:
            found.add(part)
    return found


_MENDERS = {"download": _mend_download, "extract": _mend_extract, "pack": _mend_pack}


def _mend_versions(at_work: Mend) -> None:
    """Restores the latest version's record from its shards, and for any version what follows from its record."""
    root = at_work.root
    config = at_work.pipeline.config
    made = make_version(config.profile, features.member_suffixes(config.profile), packed(root))
    for digest in _digests(at_work.damaged):
        name = f"{layout.VERSIONS}/{digest}.json"
        version = _standing(root, digest)
        if version is None and (digest != made.digest or digest != latest_digest(root)):
            at_work.left[name] = OF_OTHER_SHARDS
            continue
        _write_version(at_work.pipeline, version or made, is_lost=version is None)
        if problem_of(root, digest):
            at_work.left[path_under(root, receipt_path(root, digest))] = OF_RECEIPT


def _digests(damaged: Collection[str]) -> list[str]:
    found = (re.fullmatch(rf"{layout.VERSIONS}/([0-9a-f]{{64}})\.json", name) for name in damaged)
    return sorted(one[1] for one in found if one)


def _standing(root: Path, digest: str) -> Version | None:
    """The version, if its record is readable and has the digest in its name."""
    with suppress(McgurkError):
        version = read_version(root, digest)
        if make_version(version.profile, version.fields, version.shards).digest == digest:
            return version
    return None


def _write_version(pipeline: Pipeline, version: Version, *, is_lost: bool) -> None:
    root = pipeline.root
    is_latest = version.digest == latest_digest(root)
    if is_lost:
        (root / layout.VERSIONS / f"{version.digest}.json").unlink(missing_ok=True)
        write_version(root, version, measured_facts(root, pipeline.config.rules))
        write_card(root, version, pipeline.labels, with_media=pipeline.with_media)
    write_listing(root, version)
    if problems_of_lists(root, version.digest):
        write_duplicates(root, version)
    if problems_of_croissant(root, version):
        write_croissant(root, version)
    if is_latest and problem_of(root, version.digest):
        write_receipt(receipt_path(root, version.digest), make_receipt(root, version, pipeline.settings))
