"""Prune: removes shards that nothing references any more, and retires their versions."""

import logging
from collections.abc import Collection, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from schemas import layout
from schemas.errors import OperationalError
from schemas.manifest import PART_NAME, part_numbers, part_path, read_header
from schemas.shard import (
    drop_superseded,
    index_path,
    latest_digest,
    published,
    read_version,
    retire,
    shorten_history,
    tar_path,
)
from schemas.storage import path_under
from tasks.leases import lease, remove_partial_writes, unread

log = logging.getLogger(__name__)

KEEP = 2  # versions: the latest, and the one to go back to


@dataclass
class Pruned:
    """Which versions were kept and why, which were retired, and the removed files with their sizes."""

    kept: dict[str, str] = field(default_factory=dict)
    retired: list[str] = field(default_factory=list)
    removed: dict[str, int] = field(default_factory=dict)


def prune(root: Path, state: Path, keep: int = KEEP) -> Pruned:
    """Removes the shards that neither the last `keep` versions, a running training nor a manifest references.

    Waits for a build that is packing. Raises RequestError if there is no version.
    """
    read_version(root)
    pruned = Pruned()
    with lease(state, "features", "tars"), ExitStack() as until_removed:
        order = published(root)
        for digest in order:
            if digest == latest_digest(root):
                pruned.kept[digest] = "the latest version"
            elif digest in order[-keep:]:
                pruned.kept[digest] = f"one of the last {keep} versions"
            # Held until all is removed: a training or an export that starts meanwhile finds either its version or
            # nothing.
            elif not until_removed.enter_context(unread(state, digest)):
                pruned.kept[digest] = "a training or an export is reading it"
            else:
                pruned.retired.append(digest)
        named = set(_named(root, pruned.kept))
        for digest in pruned.retired:
            retire(root, digest)  # first: the tars of a listed version must exist
        for path in _shard_files(root):
            if path not in named:
                pruned.removed[path_under(root, path)] = path.stat().st_size
                path.unlink()
        remove_partial_writes(root, "features")
    log.info("prune: %d versions kept, %d retired", len(pruned.kept), len(pruned.retired))
    return pruned


def drop_records(root: Path, state: Path, needed: Collection[str]) -> list[str]:
    """Removes the remaining records of retired versions, except the digests `needed`; returns the digests removed.

    A record tells which shards a model was trained on, so a version that no training has read needs none. The history
    keeps its last lines.
    """
    with lease(state, "tars"):
        dropped = drop_superseded(root, needed)
        shorten_history(root)
    log.info("prune: the records of %d retired version(s) removed", len(dropped))
    return dropped


def _named(root: Path, kept: dict[str, str]) -> Iterator[Path]:
    """The tars and sidecars that the kept versions and the manifest `shards` name."""
    for digest in kept:
        for shard in read_version(root, digest).shards:
            yield from (tar_path(root, shard), index_path(root, shard))
    for part in part_numbers(root / layout.SHARDS):
        header = read_header(part_path(root / layout.SHARDS, part))
        if header is None:
            raise OperationalError(
                f"{layout.SHARDS}/{part:06d}.parquet is not readable: build first, then prune"
            )
        yield from (root / name for name in header.files)


def _shard_files(root: Path) -> list[Path]:
    """All tars and sidecars, referenced or not."""
    paths = sorted((root / layout.SHARDS).glob("*-*.*"))
    return [
        path
        for path in paths
        if path.suffix in (".tar", ".parquet")
        and not path.name.startswith(".")
        and not PART_NAME.fullmatch(path.name)
    ]
