"""Pack: features -> shards, one WebDataset tar a part with its offset index beside it; and dataset versions.

The bytes depend on the samples only: members sorted, mtime 0, no owner, no wall clock.
"""

import hashlib
import io
import logging
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

from schemas.feature import Profile
from schemas.manifest import (
    SHARD_COLUMNS,
    PartHeader,
    Row,
    canonical_json,
    part_numbers,
    write_part,
)
from schemas.outcome import Outcome
from schemas.shard import JSON_SUFFIX, SHARDS, Shard, shard_name, without_forgotten
from schemas.storage import SCRATCH, place, scratch_beside
from tasks import features
from tasks.members import feature_path, members_by_key, open_members, read_sample
from tasks.parts import Headers, Inputs, Stage, carried, commit_part, header_of, read_inputs

log = logging.getLogger(__name__)

VERSION = 1
SCHEMA_VERSION = 1  # of the JSON of a sample
SOURCE_FACTS = (
    "container", "video_codec", "audio_codec", "width_px", "height_px", "frame_rate_hz", "sample_rate_hz",
    "channels", "sha256",
)  # fmt: skip
CHECKS = (
    "rms_db", "peak", "clipped_share", "luma_max", "frozen_share", "start_skew_ms", "audio_short_ms",
    "decoder",
)  # fmt: skip


@dataclass(frozen=True)
class PackConfig:
    """What a sample's JSON says besides what was measured."""

    profile: Profile
    labels: Mapping[str, tuple[int, str]] = field(default_factory=dict)  # machine id -> index, display name


def stage(root: Path, config: PackConfig) -> Stage:
    """The stage `pack` over `root`."""
    joins = ("clips/checked", "segments/checked")
    settings = [config, SCHEMA_VERSION]
    return Stage("pack", VERSION, root, "features/checked", "shards", SHARDS, settings, joins)


def run(stage: Stage, parts: Sequence[int], config: PackConfig) -> None:
    """Writes the tars of `parts`, their indexes and their rows of the manifest `shards`."""
    for part in parts:
        inputs = read_inputs(stage, part)
        rows = [_row(stage, row) for row in inputs.rows]
        files = write_shard(stage.target, part, _samples(stage.root, inputs, config), rows)
        commit_part(stage, inputs, rows, files)
        log.info(
            "pack: part %d, %d of %d samples", part, sum(r["outcome"] == Outcome.OK for r in rows), len(rows)
        )


def _row(stage: Stage, row: Row) -> Row:
    segment = row["joined"]["segments/checked"]
    facts = {name: segment[name] for name in ("video_id", "labels", "split")}
    return {**carried(stage, row), **facts, "valid_ms": row.get("valid_ms")}


def _samples(root: Path, inputs: Inputs, config: PackConfig) -> Iterator[tuple[str, dict[str, bytes]]]:
    """(key, members by suffix) of every sample of a part, in slot order."""
    names = features.of_profile(config.profile)
    with ExitStack() as stack:
        tables = [stack.enter_context(open_members(feature_path(root, name, inputs.part))) for name in names]
        places = [members_by_key(table) for table in tables]
        for row in inputs.rows:
            if row["outcome"] == Outcome.OK:
                members = {JSON_SUFFIX: describe(row, config).encode()}
                for table, at in zip(tables, places, strict=True):
                    members |= read_sample(table, at[row["key"]])
                yield row["key"], members


def describe(row: Row, config: PackConfig) -> str:
    """The JSON of a sample, without wall-clock values. `text` and `tag` are what CLAP's readers look for."""
    segment, clip = row["joined"]["segments/checked"], row["joined"]["clips/checked"]
    known = [config.labels.get(label) for label in segment["labels"]]
    names = [found[1] if found else label for found, label in zip(known, segment["labels"], strict=True)]
    facts = {
        "key": row["key"],
        "video_id": segment["video_id"],
        "segment_id": f"{segment['video_id']}_{segment['start_ms']}",  # as AudioSet's strong labels name it
        "split": segment["split"],
        "start_ms": segment["start_ms"],
        "end_ms": segment["end_ms"],
        "valid_ms": row["valid_ms"],
        "labels": segment["labels"],
        "label_indices": [found[0] for found in known if found],
        "tag": names,
        "text": [", ".join(names)],
        "profile": config.profile.name,
        "frame_rate_hz": config.profile.frame_rate_hz,
        "sample_rate_hz": config.profile.sample_rate_hz,
        "source": {name: _rounded(clip[name]) for name in SOURCE_FACTS},
        "checks": {name: _rounded(row[name]) for name in CHECKS},
        "schema_version": SCHEMA_VERSION,
    }
    return canonical_json(facts)


def _rounded(value: object) -> object:
    return round(value, 4) if isinstance(value, float) else value  # what a platform's last digits may change


class _Hashed(io.RawIOBase):
    """A file that knows the sha256 of what was written to it."""

    def __init__(self, file: io.BufferedIOBase) -> None:
        self._file, self.sha256, self.size = file, hashlib.sha256(), 0

    def write(self, data) -> int:
        """Writes and counts."""
        self.sha256.update(data)
        self.size += len(data)
        return self._file.write(data)


def write_shard(
    folder: Path, part: int, samples: Iterator[tuple[str, dict[str, bytes]]], rows: Sequence[Row]
) -> dict[Path, int]:
    """Writes tar and sidecar, fills `members` and sizes into `rows`; no files where no sample is ok.

    Returns the size of each file in bytes.
    """
    by_key = {row["key"]: row for row in rows}
    with TemporaryDirectory(prefix=SCRATCH, dir=scratch_beside(folder)) as scratch:
        temporary = Path(scratch) / "shard.tar"
        with (
            temporary.open("wb") as raw,
            _Hashed(raw) as file,
            tarfile.open(fileobj=file, mode="w|", format=tarfile.USTAR_FORMAT) as tar,
        ):
            for key, members in samples:
                by_key[key] |= _add_sample(tar, key, members)
        sha256, size = file.sha256.hexdigest(), file.size
        if not any(row["outcome"] == Outcome.OK for row in rows):
            return {}
        name = shard_name(rows[0]["split"], part, sha256)
        target = folder / f"{name}.tar"
        place(temporary, target)
    for row in rows:
        row |= {"shard": name, "shard_sha256": sha256, "shard_size_bytes": size}
    sidecar = folder / f"{name}.parquet"
    write_part(sidecar, without_forgotten(rows), SHARDS, PartHeader("pack", sha256, {}))
    return {target: size, sidecar: sidecar.stat().st_size}


def _add_sample(tar: tarfile.TarFile, key: str, members: dict[str, bytes]) -> Row:
    """Adds the members of a sample, sorted; returns what its row says of them."""
    placed, digest = [], hashlib.sha256()
    for suffix in sorted(members):
        info = tarfile.TarInfo(f"{key}.{suffix}")
        info.size, info.mode = len(members[suffix]), 0o444
        offset = tar.offset + tarfile.BLOCKSIZE
        tar.addfile(info, io.BytesIO(members[suffix]))
        placed.append({"suffix": suffix, "offset": offset, "size_bytes": info.size})
        digest.update(members[suffix])
    size = sum(member["size_bytes"] for member in placed)
    return {"members": placed, "size_bytes": size, "digest": digest.hexdigest()}


def packed(root: Path, headers_of: Headers = header_of) -> list[Shard]:
    """The shards that the manifest `shards` names."""
    found = []
    for part in part_numbers(root / "shards"):
        header = headers_of(root, "shards", part)
        if header and header.facts["num_ok"]:
            name, split, sha256, size = (header.facts[column] for column in SHARD_COLUMNS)
            found.append(Shard(name, split, part, sha256, size, header.facts["num_ok"]))
    return found
