"""Mend: stored bytes that `verify` found damaged are rebuilt from other stored bytes, without any media.

A manifest is restored from its validated twin, which has the same columns. A feature file is restored from the tar that
holds the same members. Records are restored from what they record.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from schemas import layout
from schemas.files import read_kept
from schemas.manifest import Row, part_path
from schemas.outcome import Outcome
from tasks.feature_files import digest_of_members, feature_path, write_members
from tasks.parts import Stage, commit_part, header_of, read_inputs
from tasks.versions.verify import read_samples


def from_twin(stage: Stage, part: int, files: Mapping[Path, int], made_by: str = "") -> bool:
    """Restores a part of `stage` from its validated twin; False if the twin is damaged too, or has other rows.

    A part with rows that were not made by `made_by` stays stale, as before.
    """
    twin = read_kept(part_path(stage.root / layout.checked(stage.writes), part))
    rows = twin.to_pylist() if twin is not None else []
    inputs = read_inputs(stage, part)
    if not rows or [row["key"] for row in rows] != [row["key"] for row in inputs.rows]:
        return False
    made = [_before_judging(stage, row, given) for row, given in zip(rows, inputs.rows, strict=True)]
    is_current = all(row.get("made_by") in (None, made_by) and row["fingerprint"] for row in made)
    commit_part(stage, inputs if is_current else replace(inputs, fingerprint=""), made, files)
    return True


def _before_judging(stage: Stage, row: Row, given: Row) -> Row:
    """A row as it was before it was validated. A row kept from an earlier build has no current fingerprint."""
    fingerprint = "" if row.get("is_kept") else stage.row_fingerprint(given)
    was_rejected = row["outcome"] == Outcome.QUARANTINED and row["digest"]
    ok = {"outcome": Outcome.OK.value, "reason": "", "detail": ""} if was_rejected else {}
    return {**row, **ok, "fingerprint": fingerprint}


def unpack(root: Path, part: int, name: str, suffixes: Collection[str], rows: Sequence[Row]) -> bool:
    """Restores the feature `name` of a part from the members of its tar; False if they are not what was extracted.

    `rows` are those of the manifest `features`.
    """
    listed = {row["key"]: _digest_of(row, name) for row in rows if row["outcome"] == Outcome.OK}
    tar = _tar_of(root, part)
    found = read_samples(tar) if tar and tar.is_file() else {}
    samples = {}
    for key, digest in listed.items():
        members = {one: found[key][one][1] for one in sorted(suffixes) if one in found.get(key, {})}
        if digest_of_members(members) != digest:
            return False
        samples[key] = members
    write_members(feature_path(root, name, part), samples)
    return True


def _digest_of(row: Row, name: str) -> str:
    return next(one["digest"] for one in row["features"] if one["name"] == name)


def _tar_of(root: Path, part: int) -> Path | None:
    """The tar that the manifest `shards` names for a part."""
    header = header_of(root, layout.SHARDS, part)
    stem = header.facts.get("shard") if header else None
    return root / layout.SHARDS / f"{stem}.tar" if stem else None


def rows_of_features(root: Path, part: int) -> list[Row]:
    """The rows of a part of `features`, from its validated twin if it is damaged itself; empty if both are."""
    for manifest in (layout.FEATURES, layout.checked(layout.FEATURES)):
        if (table := read_kept(part_path(root / manifest, part))) is not None:
            return table.to_pylist()
    return []
