"""Records: the JSON beside the manifests, the history and what points at versions; checked, and mended."""

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
from tasks.inventory import IS_RECEIPT
from tasks.lists.labels import damaged_labels
from tasks.tombstones import FILE as TOMBSTONES
from tasks.tombstones import read_tombstones, write_tombstones
from tasks.versions.findings import Difference, Findings, damage_of
from tasks.versions.origin import FACT, find_origin
from tasks.versions.receipts import KEPT, kept_path

RECORDS = (  # patterns under a root
    f"{layout.SEGMENTS}/*.json",
    f"{layout.VERSIONS}/latest.json",
    f"{layout.VERSIONS}/{HISTORY}",
    f"{layout.VERSIONS}/{SUPERSEDED}/*.json",
    f"{layout.VALIDATION}/*.json",
)


def measured_facts(root: Path, rules: Rules) -> dict[str, Any]:
    """The facts of the version that stands under `root`, as its record has them beside what its digest is of."""
    return {"funnel": measure_funnel(root), "rules": digest_of(rules), FACT: find_origin(root)}


def check_records(root: Path) -> Findings:
    """Checks what stands beside the manifests: records in JSON, the history, and that no part of the index is lost."""
    found = Findings()
    for path in sorted(path for pattern in RECORDS for path in root.glob(pattern)):
        found.checked["records"] += 1
        try:
            read_history(root) if path.name == HISTORY else read_json(path)
        except DataError as error:
            found.differences.append(Difference(path_under(root, path), damage_of(path, error)))
    found.differences += [Difference(name, problem) for name, problem in _lost(root)]
    return found


def _lost(root: Path) -> Iterator[tuple[str, str]]:
    """(file, problem) of what is not there though other files say that it was."""
    folder = root / layout.SEGMENTS
    with suppress(DataError):  # said already
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
    with suppress(McgurkError):  # said already
        later = {shard.part for shard in read_version(root).shards}
    for name in layout.MANIFESTS:  # from the last one
        parts = set(part_numbers(root / name))
        if name != layout.SEGMENTS:  # said above
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
    """What is wrong with the receipt by which a root is built, if it is built by one."""
    path = kept_path(root)
    lists = root / layout.SEGMENTS / inventory.LISTS
    is_built_by = lists.is_file() and any(one.get(IS_RECEIPT) for one in read_json(lists).values())
    if not path.is_file():
        return "is gone" if is_built_by else ""
    try:
        read_receipt(path)
    except (DataError, RequestError) as error:
        return damage_of(path, error)
    return ""


def _lost_pointers(root: Path) -> Iterator[tuple[str, str]]:
    """The same of what points at versions."""
    folder = root / layout.VERSIONS
    standing = standing_digests(root)
    if standing and not (folder / "latest.json").is_file():
        yield f"{layout.VERSIONS}/latest.json", "is gone"
    with suppress(DataError):  # said already
        recorded = {one["digest"] for one in read_history(root)}
        if standing - recorded:
            yield f"{layout.VERSIONS}/{HISTORY}", f"has no line for {len(standing - recorded)} version(s)"


def without_tombstones(root: Path, rows: list[Row]) -> list[Difference]:
    """Videos that were taken down, and whose tombstone is lost: another build could bring them back."""
    taken_down = {row["video_id"] for row in rows if row["outcome"] == Outcome.FORGOTTEN}
    try:
        lost = taken_down - set(read_tombstones(root)) if taken_down else set()
    except DataError:  # check_records says so
        return []
    where = f"{layout.SEGMENTS}/{TOMBSTONES}"
    return (
        [Difference(where, f"has no tombstone of {len(lost)} video(s) that were taken down")] if lost else []
    )


def mend_records(root: Path, damaged: frozenset[str]) -> None:
    """Writes damaged records again from what they record: tombstones, the history, and what `latest` names.

    The inventory and the list of lists are removed: the index writes them again.
    """
    for name in damaged & {
        f"{layout.SEGMENTS}/{file}" for file in (inventory.FILE, inventory.LISTS, TOMBSTONES)
    }:
        # Read first: where that fails, the damaged file is still there to be told.
        forgotten = _taken_down(root) if name.endswith(TOMBSTONES) else set()
        (root / name).unlink(missing_ok=True)
        if forgotten:
            write_tombstones(root, forgotten, {}, is_done=True)
    if f"{layout.VERSIONS}/{HISTORY}" in damaged:
        _mend_history(root)
    if f"{layout.VERSIONS}/latest.json" in damaged:
        (root / layout.VERSIONS / "latest.json").unlink(missing_ok=True)
        write_latest(root, read_version(root, published(root)[-1]))


def _taken_down(root: Path) -> set[str]:
    """The videos whose slots are forgotten."""
    rows = read_manifest(root / layout.SEGMENTS, ("video_id", "outcome"))
    return {row["video_id"] for _, row in rows if row["outcome"] == Outcome.FORGOTTEN}


def _mend_history(root: Path) -> None:
    """Keeps the lines that can be read, and has the latest version as the last one."""
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
