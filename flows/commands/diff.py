"""`mcgurk diff`: what differs between two versions, segment by segment, and why."""

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

from flows.arguments import Json, Option, Root
from schemas.errors import RequestError
from schemas.receipt import Receipt, read_receipt
from schemas.shard import Version, receipt_path
from schemas.storage import open_root
from tasks.versions.differences import CAUSES, Differences, differences
from tasks.versions.listing import find_version
from tasks.versions.sidecars import differences_of_shards

EXAMPLE = "mcgurk diff previous latest --root data"
IS_LONG = False
SHOWN = 40  # segments on the console
NO_NAME = "(its name is gone)"
WIDTH = 12
VERSION = "the beginning of a version's digest, latest, previous, or a receipt's file"


@dataclass(frozen=True)
class Options:
    """Which two versions, of which root."""

    first: Annotated[str, Option(VERSION, "V1", is_positional=True)]
    second: Annotated[str, Option(VERSION, "V2", is_positional=True)]
    root: Root
    json: Json = False


def run(options: Options) -> int:
    """Prints what differs: the totals, and each segment."""
    found = _differences(open_root(options.root), (options.first, options.second))
    if options.json:
        print(json.dumps(asdict(found)))
        return 0
    print("\n".join([*differences_text(found), *_segments_text(found)]))
    return 0


def _differences(root: Path, names: tuple[str, str]) -> Differences:
    """What differs by both receipts; by the shards if a version here has no receipt, as retired ones have none."""
    versions = [None if name.endswith(".parquet") else find_version(root, name) for name in names]
    first, second = versions
    has_receipts = all(one is None or receipt_path(root, one.digest).is_file() for one in versions)
    if first and second and not has_receipts:
        return differences_of_shards(root, first, second)
    receipts = (_receipt(root, name, one) for name, one in zip(names, versions, strict=True))
    return differences(*receipts)


def _receipt(root: Path, name: str, version: Version | None) -> Receipt:
    """The receipt in a file, or of a version here. Raises RequestError if the version has none."""
    if version is None:
        return read_receipt(Path(name))
    path = receipt_path(root, version.digest)
    if not path.is_file():
        raise RequestError(
            f"{path}: this version has no receipt: it was published before there were any, was retired, or lost it. A "
            "build writes that of the latest version; two versions that are both here are compared without receipts"
        )
    return read_receipt(path)


def differences_text(found: Differences) -> list[str]:
    """What differs in total, one line per cause."""
    lines = [f"{found.before[:WIDTH]} -> {found.after[:WIDTH]}", *_whole(found)]
    lines += [f"{count:>9,} {CAUSES[cause]}" for cause, count in found.counts.items()]
    if found.num_hidden:
        lines.append(f"{found.num_hidden:>9,} taken down before the first was published")
    lines += [f"other {name}" for name in found.settings]
    for keys, what in ((found.excluded, "newly on"), (found.included, "no longer on")):
        lines += [f"{len(keys):>9,} {what} the list of samples excluded from training"] if keys else []
    return [*lines, *(f"not known: {one}" for one in found.untold)]


def _whole(found: Differences) -> list[str]:
    if found.before == found.after:
        return [f"the same version, byte by byte: {found.num_same:,} samples in {found.num_shards:,} shards"]
    return [
        f"{found.num_same:>9,} samples have the same bytes",
        f"{found.num_same_shards:>9,} of {found.num_shards:,} shards do",
    ]


def _segments_text(found: Differences) -> Iterator[str]:
    """The segments that differ, as many as fit on a screen."""
    for one in found.segments[:SHOWN]:
        yield f"{one.cause:<16} {one.key or NO_NAME}  {one.detail}".rstrip()
    if more := len(found.segments) - SHOWN:
        yield from [f"and {more:,} more: --json has all"] if more > 0 else []
