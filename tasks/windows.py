"""A folder of videos without a list: each video is cut into consecutive windows, and the list of them is kept.

The state folder records which id stands for which file, and which windows it has. Both are kept when files are added,
and each video is probed once. If all videos lie exactly one folder deep, these folders are their labels.
"""

import csv
import errno
import logging
import math
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from io import StringIO
from pathlib import Path

from schemas.errors import RequestError
from schemas.files import write_text
from schemas.layout import WINDOWS
from schemas.outcome import ItemError
from tasks.files import folders
from tasks.files.suffixes import VIDEO_SUFFIXES
from tasks.lists.formats import labels_of
from tasks.media import sandbox
from tasks.progress import tracked

log = logging.getLogger(__name__)

SEGMENTS = folders.CUT  # the windows of all videos, in AudioSet's format; folder names are the labels
# Errors of a single file; any other error is the machine's.
UNREADABLE = {errno.EACCES, errno.EPERM, errno.ENOENT, errno.EIO}


@dataclass(frozen=True)
class Windows:
    """How videos are cut. The rest at the end is a window too, if it lasts at least `shortest_s`."""

    length_s: float
    shortest_s: float = 1.0

    @property
    def head(self) -> str:
        """The first line of a list of these windows."""
        return f"# windows of {self.length_s:g} s\n"

    def spans(self, duration_s: float) -> list[tuple[float, float]]:
        """The windows of a video, in seconds."""
        count = math.ceil(duration_s / self.length_s)
        spans = ((n * self.length_s, min((n + 1) * self.length_s, duration_s)) for n in range(count))
        return [(start, end) for start, end in spans if end - start >= self.shortest_s]

    def require_those_of(self, text: str) -> None:
        """Raises RequestError if a list has windows of another length, because slots would overlap."""
        if not text.startswith(self.head):
            raise RequestError(
                f"this root was cut in {text.partition(chr(10))[0][2:]}: another length needs another root"
            )


@dataclass(frozen=True)
class Record:
    """The record of a folder: the file of each video, and the text of the list of windows."""

    files: Mapping[str, str]
    text: str
    name: str = SEGMENTS  # of the list

    def write(self, into: Path) -> Path:
        """Writes both; returns the list. The ids are written first: windows without a known file would be useless."""
        write_text(into / folders.LIST, rows_text([("video_id", "file"), *self.files.items()]))
        write_text(into / self.name, self.text)
        return into / self.name


def rows_text(rows: Sequence[Sequence[str]]) -> str:
    """Rows as CSV."""
    table = StringIO()
    csv.writer(table, lineterminator="\n").writerows(rows)
    return table.getvalue()


def segments_of(state: Path) -> Path:
    """The path of the list."""
    return state / WINDOWS / SEGMENTS


def cut_in_windows(spec: str, state: Path, windows: Windows, *, with_labels: bool = True) -> Record:
    """The record in `state`, extended by the windows of videos that it lacks. Writes nothing.

    Raises RequestError for a folder without videos, and for a record with windows of another length.
    """
    files = folders.files_of(spec, state)
    log.info("folder: %s", files.walked.summary)
    videos = {name: file for name, file in files.by_id.items() if _is_video(file)}
    if not videos:
        raise RequestError(f"--source {spec}: there is no video ({files.walked.summary})")
    if num_sounds := len(files.by_id) - len(videos):
        log.info("folder: %s of them have only sound, and no window is cut from them", f"{num_sounds:,}")
    labels = _labels(files.walked.names) if with_labels else {}
    path = segments_of(state)
    text = path.read_text() if path.is_file() else windows.head
    windows.require_those_of(text)
    known = {line.partition(",")[0] for line in text.splitlines()}
    new = {name: file for name, file in videos.items() if name not in known and files.path(file).is_file()}
    durations_s = durations(files, list(new.values()))
    lines = [
        rows_text([(name, f"{start:.3f}", f"{end:.3f}", labels.get(file, "")) for start, end in spans])
        for (name, file), duration_s in zip(new.items(), durations_s, strict=True)
        if (spans := windows_or_none(windows, file, duration_s))
    ]
    if text == windows.head and not lines:
        raise RequestError(
            f"--source {spec}: none of its {len(videos):,} video(s) can be cut; see the lines above"
        )
    cut = known | {line.partition(",")[0] for one in lines for line in one.splitlines()}
    kept = {name: file for name, file in videos.items() if name in cut or files.path(file).is_file()}
    return Record(kept, text + "".join(lines))


def _is_video(name: str) -> bool:
    return os.path.splitext(name)[1].lower() in VIDEO_SUFFIXES  # noqa: PTH122  (a tenth of what a Path costs)


def _labels(names: Sequence[str]) -> dict[str, str]:
    """The folder of each video, if all lie exactly one level deep; otherwise nothing."""
    classes = {name: name.split("/")[0] for name in names if _is_video(name)}
    if not classes or any(name.count("/") != 1 for name in classes):
        return {}
    try:
        labels = {one for label in set(classes.values()) for one in labels_of(label)}
    except ValueError as error:
        log.warning("folder: its folder names can't be used as labels: %s", error)
        return {}
    many = "label" if len(labels) == 1 else "labels"
    log.info("folder: %d %s from folders (--labels none leaves them out)", len(labels), many)
    return classes


def durations(files: folders.Files, names: Sequence[str]) -> list[float | None]:
    """The length of each file according to its header; None if it can't be read, which is logged."""
    paths = [files.path(name) for name in names]
    written_ns = [path.stat().st_mtime_ns for path in paths]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        made = pool.map(_duration_s, names, paths, written_ns)
        return list(tracked(made, len(paths), "probe", log))


@cache  # a build that first says what it will do probes each file for that, and then does it
def _duration_s(name: str, path: Path, written_ns: int) -> float | None:
    """None for a file that can't be cut: it is logged, and tried again next time."""
    del written_ns  # another file by the same name is another call
    try:
        return sandbox.call("probe", {"path": str(path)})[0]["duration_s"] or 0.0
    except ItemError as error:
        log.warning("left out %s: %s", name, error.detail)
    except OSError as error:
        if error.errno not in UNREADABLE:
            raise
        log.warning("left out %s: %s", name, error)
    return None


def windows_or_none(windows: Windows, name: str, duration_s: float | None) -> list[tuple[float, float]]:
    """The windows of a file; none if it is too short, which is logged."""
    spans = windows.spans(duration_s) if duration_s is not None else []
    if duration_s is not None and not spans:
        log.warning(
            "left out %s: %s s long according to its header, too short for a window", name, duration_s
        )
    return spans
