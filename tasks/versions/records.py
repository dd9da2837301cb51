"""Records: the JSON beside the manifests, the history and the pointers to versions; checked, and mended."""

from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from schemas import layout
from schemas.errors import DataError, McgurkError, RequestError
from schemas.files import digest_of, read_json
from schemas.manifest import Row, part_numbers, part_path, read_manifest
from schemas.outcome import Outcome
from schemas.receipt import read_receipt
from schemas.rules import Rules
from schemas.shard import (
    HISTORY,
    LATEST,
    SUPERSEDED,
    latest_digest,
    parsed_line,
    published,
    read_history,
    read_version,
    standing_digests,
    write_history,
    write_latest,
)
from schemas.storage import path_under
from tasks import inventory
from tasks.funnel import measure_funnel
from tasks.lists.labels import damaged_labels
from tasks.tombstones import FILE as TOMBSTONES
from tasks.tombstones import read_tombstones, write_tombstones
from tasks.versions.findings import Difference, Findings, damage_of
from tasks.versions.origin import FACT, find_origin
from tasks.versions.receipts import KEPT, kept_path

RECORDS = (  # patterns under a root
    f"{layout.SEGMENTS}/*.json",
    f"{layout.VERSIONS}/{LATEST}",
    f"{layout.VERSIONS}/{HISTORY}",
    f"{layout.VERSIONS}/{SUPERSEDED}/*.json",
    f"{layout.VALIDATION}/*.json",
)


def measured_facts(root: Path, rules: Rules) -> dict[str, Any]:
    """The facts of the version that exists under `root`, as in its record besides what the digest covers."""
    return {"funnel": measure_funnel(root), "rules": digest_of(rules), FACT: find_origin(root)}


def check_records(root: Path) -> Findings:
    """Checks the files beside the manifests: JSON records, the history, and that no part of the index is lost."""
    found = Findings()
    for path in sorted(path for pattern in RECORDS for path in root.glob(pattern)):
        found.checked["records"] += 1
        try:
            _read(root, path)
        except DataError as error:
            found.differences.append(Difference(path_under(root, path), damage_of(path, error)))
    found.differences += [Difference(name, problem) for name, problem in _lost(root)]
    return found


def _read(root: Path, path: Path) -> None:
    """Reads a record as other code does. Raises DataError for a damaged one."""
    if path.name == HISTORY:
        read_history(root)
    elif path.name == LATEST:
        latest_digest(root)
    else:
        read_json(path)


def _lost(root: Path) -> Iterator[tuple[str, str]]:
    """(file, problem) for each file that is missing although other files refer to it."""
    folder = root / layout.SEGMENTS
    with suppress(DataError):  # reported already
        lost = [part for part in inventory.lost_parts(root) if not part_path(folder, part).is_file()]
        yield from ((path_under(root, part_path(folder, part)), "is gone") for part in lost)
        if part_numbers(folder) and not inventory.read_inventory(root):
            yield f"{layout.SEGMENTS}/{inventory.FILE}", "is gone"
        yield from ((f"{layout.SEGMENTS}/{name}", what) for name, what in damaged_labels(folder).items())
        if problem := _problem_of_receipt(root):
            yield f"{layout.SEGMENTS}/{KEPT}", problem
        dealt = {sha256 for one in inventory.read_inventory(root).values() for sha256 in one.lists}
        if dealt and not (folder / inventory.LISTS).is_file():
            yield f"{layout.SEGMENTS}/{inventory.LISTS}", "is gone"
    later: set[int] = set()
    with suppress(McgurkError):  # reported already
        later = {shard.part for shard in read_version(root).shards}
    for name in layout.MANIFESTS:  # from the last one
        parts = set(part_numbers(root / name))
        if name != layout.SEGMENTS:  # reported above
            yield from (
                (path_under(root, part_path(root / name, part)), "is gone") for part in sorted(later - parts)
            )
        later |= parts
    for name in layout.JUDGED[:-1]:
        if (
            part_numbers(root / layout.checked(name))
            and not (root / layout.VALIDATION / f"{name}.json").is_file()
        ):
            yield f"{layout.VALIDATION}/{name}.json", "is gone"
    yield from _lost_pointers(root)


def _problem_of_receipt(root: Path) -> str:
    """What is wrong with the receipt from which a root is built, if it is built from one."""
    path = kept_path(root)
    if not path.is_file():
        return "is gone" if inventory.is_by_receipt(root) else ""
    try:
        read_receipt(path)
    except (DataError, RequestError) as error:
        return damage_of(path, error)
    return ""


def _lost_pointers(root: Path) -> Iterator[tuple[str, str]]:
    """The same for the pointers to versions."""
    folder = root / layout.VERSIONS
    standing = standing_digests(root)
    if standing and not (folder / LATEST).is_file():
        yield f"{layout.VERSIONS}/{LATEST}", "is gone"
    with suppress(DataError):  # reported already
        recorded = {one["digest"] for one in read_history(root)}
        if standing - recorded:
            yield f"{layout.VERSIONS}/{HISTORY}", f"has no line for {len(standing - recorded)} version(s)"


def without_tombstones(root: Path, rows: list[Row]) -> list[Difference]:
    """Videos that were taken down, and whose tombstone is lost: another build could bring them back."""
    taken_down = {row["video_id"] for row in rows if row["outcome"] == Outcome.FORGOTTEN}
    try:
        lost = taken_down - set(read_tombstones(root)) if taken_down else set()
    except DataError:  # reported by check_records
        return []
    where = f"{layout.SEGMENTS}/{TOMBSTONES}"
    return (
        [Difference(where, f"has no tombstone for {len(lost)} video(s) that were taken down")] if lost else []
    )


def mend_records(root: Path, damaged: frozenset[str]) -> None:
    """Rewrites damaged records from what they record: tombstones, the history, and what `latest` points at.

    The inventory and the list of lists are removed: the index rewrites them.
    """
    for name in damaged & {
        f"{layout.SEGMENTS}/{file}" for file in (inventory.FILE, inventory.LISTS, TOMBSTONES)
    }:
        # Read first: if that fails, the damaged file still exists and can be reported.
        forgotten = _taken_down(root) if name.endswith(TOMBSTONES) else set()
        (root / name).unlink(missing_ok=True)
        if forgotten:
            write_tombstones(root, forgotten, {}, is_done=True)
    if f"{layout.VERSIONS}/{HISTORY}" in damaged:
        _mend_history(root)
    if f"{layout.VERSIONS}/{LATEST}" in damaged:
        (root / layout.VERSIONS / LATEST).unlink(missing_ok=True)
        write_latest(root, read_version(root, published(root)[-1]))


def _taken_down(root: Path) -> set[str]:
    """The videos whose slots are forgotten."""
    rows = read_manifest(root / layout.SEGMENTS, ("video_id", "outcome"))
    return {row["video_id"] for _, row in rows if row["outcome"] == Outcome.FORGOTTEN}


def _mend_history(root: Path) -> None:
    """Keeps the lines that can be read, and makes the latest version the last one."""
    path = root / layout.VERSIONS / HISTORY
    lines = []
    for line in path.read_bytes().splitlines() if path.is_file() else ():
        with suppress(ValueError):
            lines.append(parsed_line(line))
    with suppress(DataError):
        if (latest := latest_digest(root)) and latest not in [one["digest"] for one in lines]:
            now = datetime.now(UTC).isoformat()
            lines.append({"digest": latest, "published_at": now, "replaces": None})
    write_history(root, lines)
