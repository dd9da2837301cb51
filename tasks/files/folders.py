"""The files of a folder and their ids. A file whose name is not a valid id gets one that is derived from it.

Once videos have been cut into windows, the state folder permanently records which id stands for which file.
"""

import csv
import hashlib
import os
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from schemas.errors import MissingError, RequestError
from schemas.layout import WINDOWS
from schemas.segment import VIDEO_ID
from tasks.files.walk import Walked, walk

LIST = (
    "videos.csv"  # of which id stands for which file: a person's own in the folder, ours in the state folder
)
CUT = "windows.csv"  # beside it: the windows of the videos of a folder
LISTED = "listed.csv"  # and the segments of a person's own lists
READABLE_CHARS = 40  # of a file's name in an id derived from it
HASH_CHARS = 10  # of its sha1 there


@dataclass(frozen=True)
class Files:
    """The files in a folder by their ids, as names relative to it; an absolute name stands for itself."""

    base: Path
    by_id: Mapping[str, str]
    walked: Walked = field(default_factory=Walked)  # empty if a list says which files there are

    def path(self, name: str) -> Path:
        """The path of a file."""
        return self.base / name


def files_of(spec: str, state: Path) -> Files:
    """The files that `folder:PATH` names, by id. Raises RequestError if it names none, or nothing is there."""
    path = path_of(spec)
    listing = path if path.is_file() else path / LIST
    if listing.is_file():
        return Files(listing.parent, recorded(state) | dict(_rows(listing)))
    if not path.is_dir():
        raise MissingError(f"--source {spec}: no such folder")
    walked = walk(path)
    return Files(path, with_ids(walked.names, recorded(state)), walked)


def path_of(spec: str) -> Path:
    """The path that `folder:PATH` names. Raises RequestError if it names none."""
    name = spec.partition(":")[2]
    if not name:
        raise RequestError(f"--source {spec}: name the folder as folder:PATH")
    return Path(name).expanduser()


def recorded(state: Path) -> dict[str, str]:
    """The file of each id on record: no id ever stands for a second file."""
    record = state / WINDOWS / LIST
    return dict(_rows(record)) if record.is_file() else {}


def uncut(state: Path) -> dict[str, str]:
    """The file of each id on record that no list of segments mentions; empty if no folder was cut."""
    if not (state / WINDOWS / CUT).is_file():
        return {}
    left = recorded(state)
    for path in (state / WINDOWS / name for name in (CUT, LISTED)):
        if path.is_file():
            with path.open(newline="", encoding="utf-8") as lines:
                for row in csv.reader(lines):
                    left.pop(row[0] if row else "", None)
    return left


def with_ids(names: Iterable[str], known: Mapping[str, str]) -> dict[str, str]:
    """The file of each id, including those `known`; of two files with the same stem, the first one gets it."""
    by_id = dict(known)
    has_id = set(known.values())
    for name in names:
        if name not in has_id:
            by_id[_id_of(name, by_id)] = name
            has_id.add(name)
    return by_id


def _id_of(name: str, taken: Collection[str]) -> str:
    """The name without folders and suffix if that is a valid id and not taken, else one derived from the whole name."""
    stem = stem_of(name)
    if VIDEO_ID.fullmatch(stem) and stem not in taken:
        return stem
    readable = re.sub(r"[^A-Za-z0-9_-]+", "-", stem)[:READABLE_CHARS].strip("-")
    return f"{readable}-{hashlib.sha1(os.fsencode(name), usedforsecurity=False).hexdigest()[:HASH_CHARS]}"


def stem_of(name: str) -> str:
    """The name without folders and suffix."""
    return name.rpartition("/")[2].rpartition(".")[0]


def _rows(listing: Path) -> Iterator[tuple[str, str]]:
    with listing.open(newline="", encoding="utf-8-sig") as lines:
        rows = csv.DictReader(lines)
        if not {"video_id", "file"} <= set(rows.fieldnames or ()):
            raise RequestError(f"{listing}: its first line must name the columns video_id,file")
        for row in rows:
            if not row["file"]:
                raise RequestError(f"{listing}:{rows.line_num}: {row['video_id']!r} has no file")
            yield row["video_id"], row["file"]
