"""A folder of videos without a list: each is cut in consecutive windows, and a list of them is kept.

Which id stands for which file and which windows it has is on record in the state folder: both stay, whatever files
are added, and a video is probed once.
"""

import csv
import errno
import logging
import math
import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache, partial
from io import StringIO
from pathlib import Path

from schemas.manifest import write_text
from schemas.outcome import ItemError
from tasks import isolation
from tasks.progress import tracked
from tasks.sources import folder

log = logging.getLogger(__name__)

SEGMENTS = "windows.csv"  # the windows of all videos, as a list in AudioSet's form, without labels
# Of one file; any other error is the machine's.
UNREADABLE = {errno.EACCES, errno.EPERM, errno.ENOENT, errno.EIO}


@dataclass(frozen=True)
class Windows:
    """How videos are cut: what is left at an end is a window too, if it is as long as `shortest_s`."""

    length_s: float
    shortest_s: float = 1.0

    def lines(self, video_id: str, duration_s: float) -> list[str]:
        """The windows of a video, as lines of a list."""
        count = math.ceil(duration_s / self.length_s)
        spans = ((n * self.length_s, min((n + 1) * self.length_s, duration_s)) for n in range(count))
        return [
            f'{video_id}, {start:.3f}, {end:.3f}, ""\n'
            for start, end in spans
            if end - start >= self.shortest_s
        ]


@dataclass(frozen=True)
class Record:
    """What is kept of a folder: the name of each video's file, and the text of its list."""

    files: Mapping[str, str]
    text: str

    def write(self, into: Path) -> Path:
        """Writes both; returns the list. The ids first: windows of which nobody knows the file are worth nothing."""
        table = StringIO()
        csv.writer(table, lineterminator="\n").writerows([("video_id", "file"), *self.files.items()])
        write_text(into / folder.LIST, table.getvalue())
        write_text(into / SEGMENTS, self.text)
        return into / SEGMENTS


def segments_of(state: Path) -> Path:
    """Where the list lies."""
    return state / folder.RECORD / SEGMENTS


def cut_in_windows(spec: str, state: Path, windows: Windows) -> Record:
    """The record in `state` with the windows of the videos that are not on it. Writes nothing.

    Raises ValueError for a folder without videos, and for a record of other windows: slots would overlap.
    """
    files, head = folder.files_of(spec, state), f"# windows of {windows.length_s:g} s\n"
    videos = {name: file for name, file in files.items() if file.suffix.lower() in folder.VIDEO_SUFFIXES}
    if not videos:
        raise ValueError(f"--source {spec}: there is no video")
    path = segments_of(state)
    text = path.read_text() if path.is_file() else head
    if not text.startswith(head):
        raise ValueError(
            f"this root was cut in {text.partition(chr(10))[0][2:]}: another length needs another root"
        )
    known = {line.partition(",")[0] for line in text.splitlines()}
    new = {name: file for name, file in videos.items() if name not in known and file.is_file()}
    written_ns = [file.stat().st_mtime_ns for file in new.values()]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        made = pool.map(partial(_lines, windows), new, new.values(), written_ns)
        lines = [line for of_video in tracked(made, len(new), "probe", log) for line in of_video]
    if text == head and not lines:
        raise ValueError(
            f"--source {spec}: none of its {len(videos):,} video(s) can be cut; see the lines above"
        )
    return Record({name: file.name for name, file in videos.items()}, text + "".join(lines))


@cache  # a build that says what it will do looks at each file for that, and then does it
def _lines(windows: Windows, video_id: str, file: Path, written_ns: int) -> list[str]:
    """None for a file that cannot be cut: it is told, and looked at again the next time."""
    del written_ns  # another file by the same name is another call
    try:
        facts, _ = isolation.call("probe", {"path": str(file)})
    except ItemError as error:
        log.warning("left out %s: %s", file.name, error.detail)
        return []
    except OSError as error:
        if error.errno not in UNREADABLE:
            raise
        log.warning("left out %s: %s", file.name, error)
        return []
    lines = windows.lines(video_id, facts["duration_s"] or 0.0)
    if not lines:
        log.warning("left out %s: %s s by its header", file.name, facts["duration_s"])
    return lines
