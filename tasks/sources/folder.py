"""Media on disk: `folder:PATH`, files named by video id or listed in a CSV `video_id,file`."""

import csv
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from schemas.outcome import ItemError, Outcome
from tasks.sources import Fetch

LIST = "videos.csv"


@contextmanager
def open_source(spec: str, state: Path) -> Iterator[Fetch]:
    """Yields `fetch` over the files under PATH, or listed in PATH itself or in PATH/videos.csv."""
    del state
    files = _files(Path(spec.split(":", 1)[1]).expanduser())

    def fetch(video_id: str, folder: Path) -> Path:
        del folder  # the files are the user's own: read where they lie
        if video_id not in files or not files[video_id].is_file():
            raise ItemError(Outcome.UNAVAILABLE, "removed", f"no file for {video_id} in {spec}")
        return files[video_id]

    yield fetch


def _files(path: Path) -> dict[str, Path]:
    listing = path if path.is_file() else path / LIST
    if listing.is_file():
        with listing.open(newline="", encoding="utf-8") as lines:
            rows = csv.DictReader(lines)
            if not {"video_id", "file"} <= set(rows.fieldnames or ()):
                raise ValueError(f"{listing}: its first line must name the columns video_id,file")
            return {row["video_id"]: listing.parent / row["file"] for row in rows}
    if not path.is_dir():
        raise ValueError(f"--source folder:{path}: no such folder")
    return {file.stem: file for file in sorted(path.iterdir()) if file.is_file()}
