"""Media on disk: `folder:PATH`, files named by video id or listed in a CSV `video_id,file`.

A file whose name is no id has one derived from it. What stands for what is on record in the state folder once
the videos were cut in windows, and stays so.
"""

import csv
import hashlib
import logging
import os
import re
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

from schemas.outcome import ItemError, Outcome
from schemas.segment import VIDEO_ID
from tasks.access import Access
from tasks.sources import Fetch

log = logging.getLogger(__name__)

LIST = "videos.csv"
# In the state folder: the list of which id stands for which file of PATH, and of their windows.
RECORD = "windows"
# Beside a video lie thumbnails, subtitles and descriptions of the same name.
VIDEO_SUFFIXES = {
    ".mp4", ".m4v", ".mov", ".3gp", ".mkv", ".webm", ".mpg", ".mpeg", ".m2v", ".ts", ".m2ts", ".mts", ".vob", ".avi",
    ".flv", ".ogg", ".ogv", ".wmv", ".asf", ".h264",
}  # fmt: skip
AUDIO_SUFFIXES = {".m4a", ".mka", ".oga", ".opus", ".wma", ".wav", ".mp3", ".aac", ".flac"}
MEDIA_SUFFIXES = VIDEO_SUFFIXES | AUDIO_SUFFIXES
READABLE_CHARS = 40  # of a file's name in an id derived from it
HASH_CHARS = 10  # of its sha1 there


@contextmanager
def open_source(spec: str, state: Path, access: Access) -> Iterator[Fetch]:
    """Yields `fetch` over the files under PATH, or listed in PATH itself or in PATH/videos.csv."""
    del access
    files = files_of(spec, state)

    def fetch(video_id: str, folder: Path) -> Path:
        del folder  # the files are the user's own: read where they lie
        if video_id not in files or not files[video_id].is_file():
            raise ItemError(Outcome.UNAVAILABLE, "removed", f"no file for {video_id} in {spec}")
        return files[video_id]

    yield fetch


def files_of(spec: str, state: Path) -> dict[str, Path]:
    """Video id -> file. Raises ValueError for a spec without a path, or with one where nothing is."""
    _, _, name = spec.partition(":")
    if not name:
        raise ValueError(f"--source {spec}: name the folder as folder:PATH")
    path = Path(name).expanduser()
    listing = path if path.is_file() else path / LIST
    if listing.is_file():
        return _listed(listing)
    if not path.is_dir():
        raise ValueError(f"--source {spec}: no such folder")
    ids = _recorded_ids(state)
    taken = set(ids.values())
    for name in _media_names(path):
        if name not in ids:
            ids[name] = _id_of(name, taken)
            taken.add(ids[name])
    return {video_id: path / name for name, video_id in ids.items()}


def _recorded_ids(state: Path) -> dict[str, str]:
    """The id of each file that is on record, by its name: none ever stands for a second file."""
    record = state / RECORD / LIST
    return {file: video_id for video_id, file in _rows(record)} if record.is_file() else {}


def _media_names(path: Path) -> list[str]:
    """Pictures before sounds: of two files with the same stem the first one gets it as its id."""
    suffixes = ((one.suffix.lower(), one.name) for one in path.iterdir() if one.is_file())
    media = sorted((suffix in AUDIO_SUFFIXES, name) for suffix, name in suffixes if suffix in MEDIA_SUFFIXES)
    for _, name in media:
        if not name.isprintable():  # no list could hold it
            log.warning("left out %r: its name cannot be printed", name)
    return [name for _, name in media if name.isprintable()]


def _id_of(name: str, taken: Collection[str]) -> str:
    """The name without its suffix where that is an id and not taken, else one derived from it."""
    stem = Path(name).stem
    if VIDEO_ID.fullmatch(stem) and stem not in taken:
        return stem
    readable = re.sub(r"[^A-Za-z0-9_-]+", "-", stem)[:READABLE_CHARS].strip("-")
    return f"{readable}-{hashlib.sha1(os.fsencode(name), usedforsecurity=False).hexdigest()[:HASH_CHARS]}"


def _listed(listing: Path) -> dict[str, Path]:
    return {video_id: listing.parent / file for video_id, file in _rows(listing)}


def _rows(listing: Path) -> Iterator[tuple[str, str]]:
    with listing.open(newline="", encoding="utf-8-sig") as lines:
        rows = csv.DictReader(lines)
        if not {"video_id", "file"} <= set(rows.fieldnames or ()):
            raise ValueError(f"{listing}: its first line must name the columns video_id,file")
        for row in rows:
            if not row["file"]:
                raise ValueError(f"{listing}:{rows.line_num}: {row['video_id']!r} has no file")
            yield row["video_id"], row["file"]
