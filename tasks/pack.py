"""Pack: features -> shards, one WebDataset tar per part with its offset index beside it.

The bytes depend on the samples only: members are sorted, with mtime 0, no owner and no wall-clock values.
"""

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from schemas import layout
from schemas.errors import DataError
from schemas.feature import Profile
from schemas.files import MEND, canonical_json
from schemas.layout import checked, stage_facts
from schemas.manifest import Row
from schemas.outcome import Outcome
from schemas.shard import JSON_SUFFIX, SHARDS
from tasks import features
from tasks.feature_files import digest_of_members, feature_path, open_members, read_sample, spans_by_key
from tasks.parts import Inputs, Stage, commit_part, propagate_failure, read_inputs
from tasks.shard_files import write_shard

log = logging.getLogger(__name__)

VERSION = 1
SCHEMA_VERSION = 1  # of the JSON of a sample
# What a sample's JSON takes from elsewhere than its features.
SEGMENTS = checked(layout.SEGMENTS)
CLIPS = checked(layout.CLIPS)
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
    """What the JSON of a sample contains besides the measures."""

    profile: Profile
    labels: Mapping[str, tuple[int, str]] = field(default_factory=dict)  # machine id -> index, display name


def stage(root: Path, config: PackConfig) -> Stage:
    """The stage `pack` over `root`."""
    facts = stage_facts("pack")
    settings = [config, SCHEMA_VERSION]
    return Stage(facts.name, VERSION, root, facts.reads, facts.writes, SHARDS, settings, (CLIPS, SEGMENTS))


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
    segment = row["joined"][SEGMENTS]
    facts = {name: segment[name] for name in ("video_id", "labels", "split")}
    return {**propagate_failure(stage, row), **facts, "valid_ms": row.get("valid_ms")}


def _samples(root: Path, inputs: Inputs, config: PackConfig) -> Iterator[tuple[str, dict[str, bytes]]]:
    """(key, members by suffix) of every sample of a part, in slot order."""
    names = features.of_profile(config.profile)
    with ExitStack() as stack:
        tables = [stack.enter_context(open_members(feature_path(root, name, inputs.part))) for name in names]
        places = [spans_by_key(table) for table in tables]
        for row in inputs.rows:
            if row["outcome"] == Outcome.OK:
                members = {JSON_SUFFIX: describe(row, config).encode()}
                for name, table, at in zip(names, tables, places, strict=True):
                    made = read_sample(table, at[row["key"]]) if row["key"] in at else {}
                    _require_as_extracted(feature_path(root, name, inputs.part), row, name, made)
                    members |= made
                yield row["key"], members


def _require_as_extracted(path: Path, row: Row, name: str, members: Mapping[str, bytes]) -> None:
    """Raises DataError if the members of a feature file do not match the digest in the row."""
    digest = next(one["digest"] for one in row["features"] if one["name"] == name)
    if digest_of_members(members) != digest:
        raise DataError(
            f"{path} is damaged: its members of {row['key']} are not those that were extracted; {MEND}"
        )


def describe(row: Row, config: PackConfig) -> str:
    """The JSON of a sample, without wall-clock values. `text` and `tag` are the fields that readers of CLAP expect."""
    segment = row["joined"][SEGMENTS]
    clip = row["joined"][CLIPS]
    known = [config.labels.get(label) for label in segment["labels"]]
    names = [found[1] if found else label for found, label in zip(known, segment["labels"], strict=True)]
    facts = {
        "key": row["key"],
        "video_id": segment["video_id"],
        "segment_id": f"{segment['video_id']}_{segment['start_ms']}",  # as in AudioSet's strong labels
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
    return round(value, 4) if isinstance(value, float) else value  # last digits may differ between platforms
