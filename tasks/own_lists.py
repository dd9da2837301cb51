"""Lists of a user's own files: `file[,start,end][,label][,split]` -> a list of segments, with an id for each file.

The state folder records which id stands for which file, and the length of each file that was cut as a whole: later
lists change neither.
"""

import csv
import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from schemas.errors import RequestError
from schemas.files import write_text
from schemas.layout import WINDOWS
from tasks.files import folders
from tasks.lists.formats import Entry, Unread, entries_of, require_some, split_of_list
from tasks.lists.records import open_records
from tasks.windows import Record, Windows, durations, rows_text, windows_or_none

log = logging.getLogger(__name__)

FOLDER = "folder:"  # the source of files
SEGMENTS = folders.LISTED  # beside the windows of a folder: the segments of all such lists
LENGTHS = "lengths.csv"
COLUMNS = ("video_id", "start", "end", "label", "split")


def is_own(path: Path, source: str | None = None) -> bool:
    """Whether a list names files. One that also names videos and times counts as such only for `folder:`."""
    try:
        columns = set(open_records(path).columns)
    except ValueError:
        return False  # the code that reads it reports the error
    is_of_folder = source is None or source.startswith(FOLDER)
    return "file" in columns and (is_of_folder or not {"video_id", "start"} <= columns)


def segments_of(state: Path) -> Path:
    """The path of the list of segments."""
    return state / WINDOWS / SEGMENTS


@dataclass(frozen=True)
class OwnRecord(Record):
    """A record that also holds the lengths of the files that were cut as a whole."""

    lengths_s: Mapping[str, float] = field(default_factory=dict)

    def write(self, into: Path) -> Path:
        """Writes all of it; returns the list."""
        rows = [("file", "length_s"), *((name, repr(length)) for name, length in self.lengths_s.items())]
        write_text(into / LENGTHS, rows_text(rows))
        return super().write(into)


def cut_own(
    paths: Sequence[Path], spec: str, state: Path, windows: Windows, *, strict: bool = False
) -> OwnRecord:
    """The record of the files that the lists name, relative to the folder of the source or to the list. Writes nothing.

    A file without times is cut into windows. Raises RequestError if a list has no file that exists, if the recorded
    windows have another length, and, if `strict`, for any malformed row.
    """
    base = folders.path_of(spec)
    base = base.parent if base.is_file() else base
    before = segments_of(state)
    if before.is_file():
        with before.open(encoding="utf-8") as file:
            windows.require_those_of(file.readline())
    entries = [one for path in paths for one in _there(path, base, strict=strict)]
    recorded = folders.recorded(state)
    recorded = {video_id: _name(name, base, base) or name for video_id, name in recorded.items()}
    known = _with_given(entries, recorded, base)
    by_id = folders.with_ids([one.file for one in entries if not one.video_id], known)
    ids = {name: video_id for video_id, name in by_id.items()}
    lengths_s = _lengths_s(entries, folders.Files(base, by_id), state)
    rows = [row for one in entries for row in _rows(one, one.video_id or ids[one.file], windows, lengths_s)]
    if not rows:
        raise RequestError(f"--segments {paths[0]}: none of its files can be cut; see the lines above")
    text = windows.head + rows_text([COLUMNS, *rows])
    return OwnRecord(by_id, text, SEGMENTS, lengths_s)


def _with_given(entries: Sequence[Entry], recorded: Mapping[str, str], base: Path) -> dict[str, str]:
    """The file of each id, recorded or given by a list. Raises RequestError if an id stands for two files."""
    known = {video_id: name for video_id, name in recorded.items() if (base / name).is_file()}
    for one in entries:
        if one.video_id and known.setdefault(one.video_id, one.file) != one.file:
            raise RequestError(
                f"video id {one.video_id} stands for {known[one.video_id]} and for {one.file}: "
                "give each file its own id"
            )
    return {**recorded, **known}


def _there(path: Path, base: Path, *, strict: bool) -> list[Entry]:
    """The rows of a list whose files exist, with names relative to `base`; the others are counted and logged."""
    columns, records, _ = open_records(path)
    unread = Unread(path.name)
    found = []
    said = split_of_list(path.name, columns)
    for number, one in entries_of(columns, records, unread):
        name = _name(one.file, path.parent, base)
        if name is None:
            unread.add(number, f"no such file: {one.file[:200]!r}")
        elif not name.isprintable():
            unread.add(number, f"its name cannot be printed: {one.file[:200]!r}")
        else:
            found.append(one._replace(file=name, split=one.split or said))
    if strict and unread.count:
        raise RequestError(f"{unread.count:,} malformed line(s); the first: {unread.examples[0]}")
    require_some(path, len(found), unread.count, unread.examples)
    if summary := unread.summary(len(found)):
        log.warning("%s", summary)
    return found


def _name(file: str, beside: Path, base: Path) -> str | None:
    """A file's name relative to `base`, or in full if it lies beside the list; None if there is no such file."""
    try:
        found = next(path for path in (base / file, beside / file) if path.is_file())
        return _below(_plain(found.absolute()), _plain(base.absolute()))
    except (OSError, ValueError, StopIteration):  # too long for a name, or with a zero byte in it
        return None


def _plain(path: Path) -> Path:
    """The path without `.` and `..`: a file has one id, in whatever ways lists name it."""
    plain = Path(os.path.normpath(path))
    return plain if plain.exists() and plain.samefile(path) else path  # `..` behind a link leads elsewhere


def _below(path: Path, folder_of: Path) -> str:
    return str(path.relative_to(folder_of)) if path.is_relative_to(folder_of) else str(path)


def _lengths_s(entries: Sequence[Entry], files: folders.Files, state: Path) -> dict[str, float]:
    """The length of each file that is cut as a whole: the recorded one, else the one in its header."""
    path = state / WINDOWS / LENGTHS
    known: dict[str, float] = {}
    if path.is_file():
        with path.open(newline="", encoding="utf-8") as lines:
            known = {row["file"]: float(row["length_s"]) for row in csv.DictReader(lines)}
    new = [
        name for name in dict.fromkeys(one.file for one in entries if not one.times_ms) if name not in known
    ]
    measured = zip(new, durations(files, new), strict=True)
    return known | {name: length_s for name, length_s in measured if length_s is not None}


def _rows(
    entry: Entry, video_id: str, windows: Windows, lengths_s: Mapping[str, float]
) -> Iterator[tuple[str, ...]]:
    said = "|".join(entry.labels), entry.split
    if entry.times_ms:
        start_ms, end_ms = entry.times_ms
        end = "" if entry.is_open else f"{end_ms / 1000:.3f}"
        yield video_id, f"{start_ms / 1000:.3f}", end, *said
    elif entry.file in lengths_s:
        for start_s, end_s in windows_or_none(windows, entry.file, lengths_s[entry.file]):
            yield video_id, f"{start_s:.3f}", f"{end_s:.3f}", *said
