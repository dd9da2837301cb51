"""Forget: removes a video from manifests, media, features, shards and every version that contained it.

It works in place and only on these slots, whatever else is stale: each part ends up as a build would write it. It
proceeds from the last manifest to the first, so that a kill leaves stale parts, never rows that contradict each other.
"""

import logging
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path

import pyarrow as pa

from schemas import layout
from schemas.errors import RequestError
from schemas.files import digest_of
from schemas.manifest import (
    CONTENT_COLUMNS,
    PartHeader,
    Row,
    digest_of_table,
    part_path,
    read_header,
    read_manifest,
    read_part,
    write_part,
)
from schemas.outcome import Outcome
from schemas.segment import SEGMENTS
from schemas.shard import Shard, published, read_superseded, read_version, without_forgotten
from schemas.storage import path_under, remove, remove_folder
from tasks.acquisition import ledger
from tasks.feature_files import drop_members, feature_files
from tasks.parts import Stage, propagate_failure
from tasks.shard_files import write_shard
from tasks.tombstones import MARK, forgotten_row
from tasks.versions.verify import read_samples

log = logging.getLogger(__name__)

Slots = Mapping[int, Collection[str]]  # part -> keys
SHARD_FACTS = ("shard", "shard_sha256", "shard_size_bytes")
# The columns of a slot that are kept.
FACTS = ("video_id", "start_ms", "end_ms", "is_open", "split", "row", "csv", *SHARD_FACTS)


def slots_of(root: Path, video_ids: Collection[str]) -> dict[int, list[str]]:
    """The slots of the videos. Raises RequestError if a video has none."""
    slots: dict[int, list[str]] = {}
    unknown = set(video_ids)
    for part, row in read_manifest(root / layout.SEGMENTS, ("key", "video_id")):
        if row["video_id"] in video_ids:
            slots.setdefault(part, []).append(row["key"])
            unknown.discard(row["video_id"])
    if unknown:
        raise RequestError(f"no segment of {', '.join(sorted(unknown))} under {root}; nothing was changed")
    return slots


def versions_that_held(root: Path, slots: Slots) -> dict[str, bool]:
    """The versions with a sample of `slots`: True if this is certain, False if the shard is gone."""
    held: dict[str, bool] = {}
    versions = [*read_superseded(root), *(read_version(root, digest) for digest in published(root))]
    for version in versions:
        for shard in version.shards:
            keys = slots.get(shard.part, ())
            found = _holds(root / layout.SHARDS, shard.name, keys) if keys else False
            if found is not False:
                held[version.digest] = held.get(version.digest, False) or found is True
    return held


def _holds(folder: Path, name: str, keys: Collection[str]) -> bool | None:
    """Whether a shard has a sample of `keys`, according to its sidecar, else its tar; None if both are gone."""
    tar = folder / f"{name}.tar"
    sidecar = folder / f"{name}.parquet"
    if read_header(sidecar) is not None:
        rows = read_part(sidecar, ("key", "outcome"))
        return any(row["key"] in keys and row["outcome"] == Outcome.OK for row in rows)
    return bool(read_samples(tar).keys() & set(keys)) if tar.is_file() else None


def write_without(root: Path, stage: Stage, slots: Slots) -> dict[str, Shard | None]:
    """Rewrites each shard that has a sample of `slots` without it: name -> the shard that replaces it.

    The new shards are not referenced yet, and the old ones stay. None if no sample is left. If a shard has no such
    sample, only its index mentions the slot, and is marked in place.
    """
    written: dict[str, Shard | None] = {}
    for part, keys in slots.items():
        for tar in sorted((root / layout.SHARDS).glob(f"*-{part:06d}-*.tar")):
            sidecar = tar.with_suffix(".parquet")
            header = read_header(sidecar)
            if header is None:
                continue  # from a killed pack: nothing refers to it
            rows = read_part(sidecar)
            marked = [_marked(stage, row, keys) for row in rows]
            if _holds(root / layout.SHARDS, tar.stem, keys):
                written[tar.stem] = _write(root, part, marked, read_samples(tar))
            elif (published_rows := without_forgotten(marked)) != rows:
                write_part(sidecar, published_rows, stage.schema, header)
    return written


def _write(root: Path, part: int, rows: list[Row], samples: Mapping) -> Shard | None:
    for row in rows:
        row |= dict.fromkeys(SHARD_FACTS)
    ok = [row for row in rows if row["outcome"] == Outcome.OK]
    kept = ((one["key"], {suffix: made[1] for suffix, made in samples[one["key"]].items()}) for one in ok)
    if not write_shard(root / layout.SHARDS, part, kept, rows):
        return None
    one = rows[0]
    return Shard(one["shard"], one["split"], part, one["shard_sha256"], one["shard_size_bytes"], len(ok))


def mark_manifests(stages: Sequence[Stage], slots: Slots, written: Mapping[str, Shard | None]) -> None:
    """Marks the rows of `slots` `forgotten` in every manifest that has them; `stages` are in order."""
    root = stages[0].root
    for part, keys in slots.items():
        for stage in reversed(stages):
            _mark_part(stage, part, keys, written)
        path = part_path(root / layout.SEGMENTS, part)
        rows = [forgotten_row(row) if row["key"] in keys else row for row in read_part(path)]
        write_part(path, rows, SEGMENTS, read_header(path) or PartHeader("index", "", {}))


def _mark_part(stage: Stage, part: int, keys: Collection[str], written: Mapping[str, Shard | None]) -> None:
    path = part_path(stage.target, part)
    header = read_header(path)
    if header is None:
        return
    is_current = header.fingerprint == stage.part_fingerprint(part)
    fingerprint = (
        stage.fingerprint_of(_contents_after(stage, part, keys)) if is_current else header.fingerprint
    )
    rows = [_marked(stage, row, keys) for row in read_part(path)]
    files = {name: size for name, size in header.files.items() if Path(name).stem not in keys}  # media
    if stage.writes == layout.FEATURES:
        made = {file: drop_members(file, keys) for file in feature_files(stage.root, part)}
        files = {path_under(stage.root, file): size for file, size in made.items()}
    if stage.writes == layout.SHARDS:
        rows, files = _repacked(stage, rows, files, written)
    write_part(path, rows, stage.schema, PartHeader(header.stage, fingerprint, files))


def _contents_after(stage: Stage, part: int, keys: Collection[str]) -> list[str]:
    """The content digests of the stage's inputs once all of them are marked."""
    tables = []
    for name in (stage.reads, *stage.joins):
        rows = read_part(part_path(stage.root / name, part), CONTENT_COLUMNS)
        marked = [{**row, **MARK} if row["key"] in keys else row for row in rows]
        tables.append(pa.table({column: [row[column] for row in marked] for column in CONTENT_COLUMNS}))
    return [digest_of_table(table) for table in tables]


def _marked_input(stage: Stage, row: Row) -> Row:
    """The input row of a slot as `read_inputs` will return it once everything it joins is marked."""
    return {**row, **MARK, "digest": digest_of("", *("" for _ in stage.joins)) if stage.joins else ""}


def _marked(stage: Stage, row: Row, keys: Collection[str]) -> Row:
    """A row of the stage's manifest, as the stage writes it for a slot that was forgotten before."""
    if row["key"] not in keys or row["outcome"] == Outcome.FORGOTTEN:
        return row
    facts = {name: row[name] for name in FACTS if name in row} if "split" in stage.schema.names else {}
    labels = {"labels": []} if facts else {}
    empty = dict.fromkeys(stage.schema.names)
    return {**empty, **facts, **labels, **propagate_failure(stage, _marked_input(stage, row))}


def _repacked(
    stage: Stage, rows: list[Row], files: dict[str, int], written: Mapping[str, Shard | None]
) -> tuple[list[Row], dict[str, int]]:
    """Rows and files of a part of `shards` whose shard was rewritten."""
    stems = {Path(name).stem for name in files}
    old = next((stem for stem in stems if stem in written), None)
    if old is None:
        paths = {name: stage.root / name for name in files}  # the size of a marked index has changed
        return rows, {n: p.stat().st_size if p.is_file() else files[n] for n, p in paths.items()}
    new = written[old]
    if new is None:
        return [{**row, **dict.fromkeys(SHARD_FACTS)} for row in rows], {}
    made = [stage.target / f"{new.name}.{kind}" for kind in ("tar", "parquet")]
    sizes = {path_under(stage.root, path): path.stat().st_size for path in made}
    # The index is published, and so names no slot that was taken down: the manifest does.
    names = [{"key": row["key"], "video_id": row["video_id"]} for row in rows]
    return [{**row, **name} for row, name in zip(read_part(made[1]), names, strict=True)], sizes


def remove_files(root: Path, state: Path, slots: Slots, written: Collection[str]) -> dict[str, int]:
    """Removes old shards, media, and partial writes of killed runs; returns the removed files with their bytes.

    No run may write at the same time: a scratch folder does not record whose media it holds.
    """
    for part, keys in slots.items():
        ledger.remove(state, part, keys)
    removed = {}
    for base, found in ((root, _files_of(root, slots, written)), (state, _leavings(state))):
        paths = list(found)
        removed |= {path_under(base, path): path.stat().st_size for path in paths}
        remove(*paths)  # from the disk: once done, no power loss may undo it
    for folder in _scratch(state):
        remove_folder(folder)
    return removed


def _files_of(root: Path, slots: Slots, written: Collection[str]) -> Iterator[Path]:
    for part, keys in slots.items():
        media = root / layout.MEDIA / f"{part:06d}"
        yield from (path for path in sorted(media.glob("*")) if path.name.lstrip(".").split(".")[0] in keys)
        yield from sorted((root / layout.FEATURES).glob(f"*/.{part:06d}-*.arrow"))  # fragments
        for tar in sorted((root / layout.SHARDS).glob(f"*-{part:06d}-*.tar")):
            if tar.stem in written or _holds(root / layout.SHARDS, tar.stem, keys):
                yield tar
        for sidecar in sorted((root / layout.SHARDS).glob(f"*-{part:06d}-*.parquet")):
            # Its tar was removed just now, or before a kill.
            if not sidecar.with_suffix(".tar").is_file() or sidecar.stem in written:
                yield sidecar


def _leavings(state: Path) -> list[Path]:
    return [path for folder in _scratch(state) for path in sorted(folder.rglob("*")) if path.is_file()]


def _scratch(state: Path) -> list[Path]:
    found = [*(state / layout.SCRATCH).glob("*"), *state.glob(f"{layout.REBUILD}*")]
    return [path for path in found if path.is_dir()]
