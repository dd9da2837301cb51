"""Media on disk: `folder:PATH`, files named by video id or segment, or listed in a CSV `video_id,file`.

A file whose name is no id has one derived from it. What stands for what is on record in the state folder once
the videos were cut in windows, and stays so.
"""

import csv
import hashlib
import os
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from schemas.outcome import ItemError, Outcome
from schemas.segment import VIDEO_ID
from tasks.files.stems import Stems
from tasks.files.walk import Walked, walk
from tasks.sources import Fetch
from tasks.transport.policy import Access

LIST = "videos.csv"
# In the state folder: the list of which id stands for which file of PATH, and of their windows.
RECORD = "windows"
PIECES = "pieces"  # in the folder that a video is fetched to: links to the files of its segments
READABLE_CHARS = 40  # of a file's name in an id derived from it
HASH_CHARS = 10  # of its sha1 there


@dataclass(frozen=True)
class Files:
    """The files below a folder by their ids, as names below it; a name that is absolute stands for itself."""

    base: Path
    by_id: Mapping[str, str]
    walked: Walked = field(default_factory=Walked)  # nothing, where a list says which files there are

    def path(self, name: str) -> Path:
        """Where a file lies."""
        return self.base / name


@contextmanager
def open_source(spec: str, state: Path, access: Access) -> Iterator[Fetch]:
    """Yields `fetch` over the files under PATH, or listed in PATH itself or in PATH/videos.csv."""
    del access
    files = files_of(spec, state)
    on_record = recorded(state)
    named = sorted((_stem(name), place, name) for place, name in enumerate(files.walked.names))
    stems = Stems(len(named), lambda row: named[row][0])

    def fetch(video_id: str, folder: Path) -> Path:
        whole = files.by_id.get(video_id)
        if whole is not None and files.path(whole).is_file():
            return files.path(whole)  # the files are the user's own: read where they lie
        rows = {} if video_id in on_record else stems.of(video_id)
        # A file of that very name has another id here: this one stood for a file that has gone.
        found = {key: named[row][2] for key, row in rows.items() if named[row][0] != video_id}
        if not found:
            raise ItemError(Outcome.UNAVAILABLE, "removed", f"no file for {video_id} in {spec}")
        return _linked(found, files, folder / PIECES)

    yield fetch


def _linked(found: Mapping[str, str], files: Files, pieces: Path) -> Path:
    """A folder of links to files, each by the name of the segment or the video that it holds."""
    pieces.mkdir(exist_ok=True)
    for stem, name in found.items():
        link = pieces / f"{stem}{Path(name).suffix.lower()}"
        if not link.is_symlink():
            link.symlink_to(files.path(name).absolute())
    return pieces


def files_of(spec: str, state: Path) -> Files:
    """The files by their ids. Raises ValueError for a spec without a path, or with one where nothing is."""
    path = path_of(spec)
    listing = path if path.is_file() else path / LIST
    if listing.is_file():
        return Files(listing.parent, recorded(state) | dict(_rows(listing)))
    if not path.is_dir():
        raise ValueError(f"--source {spec}: no such folder")
    walked = walk(path)
    return Files(path, with_ids(walked.names, recorded(state)), walked)


def path_of(spec: str) -> Path:
    """The path that `folder:PATH` names. Raises ValueError where it names none."""
    name = spec.partition(":")[2]
    if not name:
        raise ValueError(f"--source {spec}: name the folder as folder:PATH")
    return Path(name).expanduser()


def recorded(state: Path) -> dict[str, str]:
    """The file of each id that is on record: none ever stands for a second file."""
    record = state / RECORD / LIST
    return dict(_rows(record)) if record.is_file() else {}


def with_ids(names: Iterable[str], known: Mapping[str, str]) -> dict[str, str]:
    """The file of each id, with those that are `known`; of two files with the same stem the first one gets it."""
    by_id = dict(known)
    has_id = set(known.values())
    for name in names:
        if name not in has_id:
            by_id[_id_of(name, by_id)] = name
            has_id.add(name)
    return by_id


def _id_of(name: str, taken: Collection[str]) -> str:
    """The name without folders and suffix where that is an id and not taken, else one derived from all of it."""
    stem = _stem(name)
    if VIDEO_ID.fullmatch(stem) and stem not in taken:
        return stem
    readable = re.sub(r"[^A-Za-z0-9_-]+", "-", stem)[:READABLE_CHARS].strip("-")
    return f"{readable}-{hashlib.sha1(os.fsencode(name), usedforsecurity=False).hexdigest()[:HASH_CHARS]}"


def _stem(name: str) -> str:
    return name.rpartition("/")[2].rpartition(".")[0]


def _rows(listing: Path) -> Iterator[tuple[str, str]]:
    with listing.open(newline="", encoding="utf-8-sig") as lines:
        rows = csv.DictReader(lines)
        if not {"video_id", "file"} <= set(rows.fieldnames or ()):
            raise ValueError(f"{listing}: its first line must name the columns video_id,file")
        for row in rows:
            if not row["file"]:
                raise ValueError(f"{listing}:{rows.line_num}: {row['video_id']!r} has no file")
            yield row["video_id"], row["file"]
