"""`mcgurk verify --rebuild`: extracts and packs everything again from the clips, and compares the bytes."""

import logging
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from flows.builds.pipeline import Pipeline
from flows.compute import Map
from schemas.errors import RequestError
from schemas.layout import MEDIA
from schemas.manifest import part_numbers
from schemas.shard import Shard, read_version, tar_path
from schemas.storage import lend, make_folder
from tasks import extract, pack, validate
from tasks.parts import header_of
from tasks.shard_files import packed
from tasks.versions.findings import Difference, Findings
from tasks.versions.verify import compare_tars

log = logging.getLogger(__name__)

SCRATCH = "rebuild-"  # in the state folder
GROUP = 16  # parts that are rebuilt before they are removed again: this bounds the disk space of a rebuild
MADE = ("features", "shards", MEDIA)


def rebuild(pipeline: Pipeline, map_items: Map) -> Findings:
    """Rebuilds every shard of the latest version from the current clips, in a separate root.

    It uses the version's own profile; rules, labels and tools are the current ones.
    """
    version = read_version(pipeline.root)
    found = Findings()
    _check_media(pipeline.root)
    listed = {shard.part: shard for shard in version.shards}
    # The pass rate of the whole manifest is not checked here: the version is published already.
    rules = replace(pipeline.config.rules, min_pass_share=0.0)
    again = replace(pipeline, config=replace(pipeline.config, profile=version.profile, rules=rules))
    parts = part_numbers(pipeline.root / "clips" / "checked")
    with linked_root(pipeline.root, pipeline.state) as scratch:
        for start in range(0, len(parts), GROUP):
            group = parts[start : start + GROUP]
            for name in (f"{MEDIA}/{part:06d}" for part in group):
                lend(pipeline.root / name, scratch / name)
            _make(replace(again, root=scratch), group, map_items)
            found += _compare(pipeline.root, scratch, {part: listed.get(part) for part in group})
            log.info("rebuilt %d of %d parts", start + len(group), len(parts))
            for name in MADE:
                shutil.rmtree(scratch / name, ignore_errors=True)
    return found


def _check_media(root: Path) -> None:
    """Raises RequestError if clips were not kept: there is nothing to rebuild from."""
    headers = (header_of(root, "clips", part) for part in part_numbers(root / "clips"))
    if gone := sum(header.facts.get("num_released", 0) for header in headers if header):
        raise RequestError(f"--rebuild: the media of {gone:,} clip(s) were not kept after their extraction")


@contextmanager
def linked_root(root: Path, state: Path) -> Iterator[Path]:
    """A root in the state folder with the segments and clips that `root` lists, removed after the block."""
    make_folder(state)
    for left in state.glob(f"{SCRATCH}*"):
        shutil.rmtree(left, ignore_errors=True)  # of a run that was killed: only one rebuilds at a time
    with TemporaryDirectory(prefix=SCRATCH, dir=state) as folder:
        for name in ("segments", "clips/checked"):
            lend(root / name, Path(folder) / name)
        yield Path(folder)


def _make(pipeline: Pipeline, parts: Sequence[int], map_items: Map) -> None:
    profile = pipeline.config.profile
    rules = pipeline.config.rules
    extract.run(pipeline.stage("extract"), parts, profile, map_items)
    validate.run(pipeline.stage("validate-features"), parts, rules, profile)
    pack.run(pipeline.stage("pack"), parts, pipeline.pack_config)


def _compare(root: Path, scratch: Path, listed: dict[int, Shard | None]) -> Findings:
    rebuilt = {shard.part: shard for shard in packed(scratch)}
    found = Findings()
    for part, shard in listed.items():
        made = rebuilt.get(part)
        found.checked["rebuilt"] += made is not None
        if (made and made.sha256) == (shard and shard.sha256):
            continue
        if made is None or shard is None:
            names = (f"shards/{shard.name}.tar", "was not rebuilt: no sample is ok") if shard else None
            new = (f"shards/{part:06d}.parquet", "its rebuilt shard is in no version")
            found.differences.append(Difference(*(names or new)))
        elif tar_path(root, shard).is_file():
            found.differences += compare_tars(root, shard, tar_path(scratch, made))
    return found
