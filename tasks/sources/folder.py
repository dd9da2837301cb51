"""Media on disk: `folder:PATH`, files named by video id or listed in a CSV `video_id,file`."""

import csv
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from schemas.outcome import ItemError, Outcome
from tasks.access import Access
from tasks.sources import Fetch

LIST = "videos.csv"
# Beside a video lie thumbnails, subtitles and descriptions of the same name.
MEDIA_SUFFIXES = {
    ".mp4", ".m4v", ".m4a", ".mov", ".3gp", ".mkv", ".mka", ".webm", ".mpg", ".mpeg", ".m2v", ".ts", ".m2ts", ".mts",
    ".vob", ".avi", ".flv", ".ogg", ".ogv", ".oga", ".opus", ".wmv", ".wma", ".asf", ".wav", ".mp3", ".aac", ".h264",
}  # fmt: skip


@contextmanager
def open_source(spec: str, state: Path, access: Access) -> Iterator[Fetch]:
    """Yields `fetch` over the files under PATH, or listed in PATH itself or in PATH/videos.csv."""
    del state, access
    _, _, path = spec.partition(":")
    if not path:
        raise ValueError(f"--source {spec}: name the folder as folder:PATH")
    files = _files(Path(path).expanduser())

    def fetch(video_id: str, folder: Path) -> Path:
        del folder  # the files are the user's own: read where they lie
        if video_id not in files or not files[video_id].is_file():
            raise ItemError(Outcome.UNAVAILABLE, "removed", f"no file for {video_id} in {spec}")
        return files[video_id]

    yield fetch


def _files(path: Path) -> dict[str, Path]:
    listing = path if path.is_file() else path / LIST
    if listing.is_file():
        return _listed(listing)
    if not path.is_dir():
        raise ValueError(f"--source folder:{path}: no such folder")
    found = (file for file in sorted(path.iterdir()) if file.suffix.lower() in MEDIA_SUFFIXES)
    return {file.stem: file for file in found if file.is_file()}


def _listed(listing: Path) -> dict[str, Path]:
    files = {}
    with listing.open(newline="", encoding="utf-8-sig") as lines:
        rows = csv.DictReader(lines)
        if not {"video_id", "file"} <= set(rows.fieldnames or ()):
            raise ValueError(f"{listing}: its first line must name the columns video_id,file")
        for row in rows:
            if not row["file"]:
                raise ValueError(f"{listing}:{rows.line_num}: {row['video_id']!r} has no file")
            files[row["video_id"]] = listing.parent / row["file"]
    return files
