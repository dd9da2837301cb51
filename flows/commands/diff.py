"""`mcgurk diff`: what differs between two versions, segment by segment, and why."""

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

from flows.arguments import Json, Option, Root
from schemas import layout
from schemas.errors import RequestError
from schemas.receipt import Receipt, read_receipt
from schemas.shard import latest_digest, published, receipt_path
from schemas.storage import open_root
from tasks.versions.differences import CAUSES, Differences, differences

EXAMPLE = "mcgurk diff previous latest --root data"
IS_LONG = False
SHOWN = 40  # segments on the console
MIN_DIGITS = 4  # of a digest that is named by its beginning
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
    """Prints what differs: what it comes to, and each segment."""
    root = open_root(options.root)
    found = differences(_named(root, options.first), _named(root, options.second))
    if options.json:
        print(json.dumps(asdict(found)))
        return 0
    print("\n".join([*differences_text(found), *_segments_text(found)]))
    return 0


def _named(root: Path, name: str) -> Receipt:
    """The receipt of a version. Raises RequestError for none, or several."""
    if name.endswith(".parquet"):
        return read_receipt(Path(name))
    path = receipt_path(root, _digest(root, name))
    if not path.is_file():
        raise RequestError(
            f"{path}: this version has no receipt: it was published before there were any, or lost it. A build writes "
            "that of the latest version"
        )
    return read_receipt(path)


def _digest(root: Path, name: str) -> str:
    """The digest that a name stands for."""
    there = published(root)
    latest = latest_digest(root)
    if name == "latest" and latest:
        return latest
    if name == "previous" and there[-2:-1]:
        return there[-2]
    found = [digest for digest in there if digest.startswith(name)] if len(name) >= MIN_DIGITS else []
    if len(found) != 1:
        shown = ", ".join(digest[:WIDTH] for digest in there) or "none"
        problem = "stands for several versions" if found else "is no version here"
        raise RequestError(
            f"{name!r} {problem}; there are, the oldest first: {shown} ({root / layout.VERSIONS})"
        )
    return found[0]


def differences_text(found: Differences) -> list[str]:
    """What differs in all, a line a cause."""
    lines = [f"{found.before[:WIDTH]} -> {found.after[:WIDTH]}", *_whole(found)]
    lines += [f"{count:>9,} {CAUSES[cause]}" for cause, count in found.counts.items()]
    if found.num_hidden:
        lines.append(f"{found.num_hidden:>9,} taken down before the first was published")
    lines += [f"other {name}" for name in found.settings]
    for keys, what in ((found.excluded, "newly on"), (found.included, "no longer on")):
        lines += [f"{len(keys):>9,} {what} the list of what not to train on"] if keys else []
    return lines


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
        yield f"{one.cause:<16} {one.key}  {one.detail}".rstrip()
    if more := len(found.segments) - SHOWN:
        yield from [f"and {more:,} more: --json has all"] if more > 0 else []
