"""Lists of a user's own files: `file[,start,end][,label][,split]` -> a list of segments, with an id for each file.

The state folder records which id stands for which file, and how long each file was that was cut as a whole: later lists
change neither.
"""

import csv
import logging
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
SEGMENTS = "listed.csv"  # beside the windows of a folder: the segments of all such lists
LENGTHS = "lengths.csv"
COLUMNS = ("video_id", "start", "end", "label", "split")


def is_own(path: Path, source: str | None = None) -> bool:
    """Whether a list names files. One that also names videos and times counts as such only for `folder:`."""
    try:
        columns = set(open_records(path).columns)
    except ValueError:
        return False  # whoever reads it says so
    is_of_folder = source is None or source.startswith(FOLDER)
    return "file" in columns and (is_of_folder or not {"video_id", "start"} <= columns)


def segments_of(state: Path) -> Path:
    """Where the list of segments lies."""
    return state / WINDOWS / SEGMENTS


@dataclass(frozen=True)
class OwnRecord(Record):
    """A record with the lengths of the files that were cut as a whole."""

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

    A file without times is cut into windows. Raises RequestError for a list without a file that exists, for windows of
    another length than those on record, and if `strict` for any malformed row.
    """
    base = folders.path_of(spec)
    base = base.parent if base.is_file() else base
    before = segments_of(state)
    if before.is_file():
        with before.open(encoding="utf-8") as file:
            windows.require_those_of(file.readline())
    entries = [one for path in paths for one in _there(path, base, strict=strict)]
    known = _with_given(entries, folders.recorded(state), base)
    by_id = folders.with_ids([one.file for one in entries if not one.video_id], known)
    ids = {name: video_id for video_id, name in by_id.items()}
    lengths_s = _lengths_s(entries, folders.Files(base, by_id), state)
    rows = [row for one in entries for row in _rows(one, one.video_id or ids[one.file], windows, lengths_s)]
    if not rows:
        raise RequestError(f"--segments {paths[0]}: none of its files can be cut; see the lines above")
    text = windows.head + rows_text([COLUMNS, *rows])
    return OwnRecord(by_id, text, SEGMENTS, lengths_s)


def _with_given(entries: Sequence[Entry], recorded: Mapping[str, str], base: Path) -> dict[str, str]:
    """The file of each id on record, and of each that a list gives itself. Raises RequestError for one of two files."""
    known = {video_id: name for video_id, name in recorded.items() if (base / name).is_file()}
    for one in entries:
        if one.video_id and known.setdefault(one.video_id, one.file) != one.file:
            raise RequestError(
                f"video id {one.video_id} stands for {known[one.video_id]} and for {one.file}: "
                "give each file its own id"
            )
    return {**recorded, **known}


def _there(path: Path, base: Path, *, strict: bool) -> list[Entry]:
    """The rows of a list whose files are there, by names below `base`; the others are counted and logged."""
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
    """A file's name below `base`, or in full where it lies beside the list; None where there is none."""
    try:
        if (base / file).is_file():
            return file if not Path(file).is_absolute() else _below(Path(file), base)
        other = (beside / file).absolute()
        return _below(other, base) if other.is_file() else None
    except (OSError, ValueError):  # too long for a name, or with a zero byte in it
        return None


def _below(path: Path, base: Path) -> str:
    folder_of = base.absolute()
    return str(path.relative_to(folder_of)) if path.is_relative_to(folder_of) else str(path)


def _lengths_s(entries: Sequence[Entry], files: folders.Files, state: Path) -> dict[str, float]:
    """The length of each file that is cut as a whole: as on record, else by its header."""
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
