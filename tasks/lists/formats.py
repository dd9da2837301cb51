"""Segment lists in people's formats -> one table of segments each; rows that can't be read are counted and shown.

The dialect and the columns of a list are determined from its content: `tasks.lists.dialects`.
"""

# pyarrow.compute makes its functions when it is imported: a type checker cannot see them.
# pyright: reportAttributeAccessIssue=false

import logging
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from schemas.errors import DataError
from schemas.files import sha256_of_file
from schemas.segment import SEGMENTS, VIDEO_ID, segment_key
from tasks.lists.audioset import read_whole
from tasks.lists.dialects import CLIP, MACHINE_IDS, SECONDS, SPLITS
from tasks.lists.records import Columns, Record, Value, open_records

log = logging.getLogger(__name__)

HEADER = re.compile(r"#\s*num_ytids=(\d+),\s*num_segs=(\d+)")
STRONG_ID = re.compile(r"(.*)_([0-9]{1,9})")  # YTID_startms
MS = 1000
CLIP_MS = 10_000  # for lists that name only starts, such as VGGSound and AudioSet-Strong
LABEL_CHARS = 100  # a class name of a few words
KNOWN_CHARS = 512  # of labels that are cached: most rows repeat those of others
PRINTED = ("['", '["')  # the beginning of a list as Python prints it
SHOWN = 100  # of what was not read
# The published eval list stays untouched; it is known by its name: eval_segments.csv, audioset_eval_strong.tsv.
EVAL_NAME = re.compile(r"(audioset_)?eval")
# For VGGSound's lists of clips and AVE's: test.csv, trainSet.txt, valSet.txt, testSet.txt.
SPLIT_NAME = re.compile(r"(train|val|test)(?:set)?\.(?:csv|txt)", re.IGNORECASE)
BATCH_ROWS = 1 << 16
READ = pa.schema(
    [SEGMENTS.field(name) for name in ("key", "video_id", "start_ms", "end_ms", "is_open", "labels", "csv")]
    + [pa.field("split", pa.string())]  # train, val or eval; empty if the list does not say
)


@dataclass(frozen=True)
class SegmentList:
    """A list as read: its segments (schema READ), how many rows could not be read, and the first of those."""

    path: Path
    sha256: str
    table: pa.Table
    num_unread: int = 0
    unread: list[str] = field(default_factory=list)  # "file:line: reason"

    @property
    def problems(self) -> str:
        """What could not be read, in a sentence with an example; empty if everything could."""
        return Unread(self.path.name, self.num_unread, self.unread).summary(self.table.num_rows)


class Entry(NamedTuple):
    """The content of one row. Rows of a list of files need no ids, and no times if they mean whole files."""

    video_id: str
    file: str
    times_ms: tuple[int, int] | None
    labels: tuple[str, ...]
    split: str
    is_open: bool  # it names only a start: the segment ends with its video, but at most 10 s later


@dataclass
class Unread:
    """Counts the rows that could not be read, and keeps the first of them."""

    name: str
    count: int = 0
    examples: list[str] = field(default_factory=list)

    def add(self, number: int, reason: str) -> None:
        """Counts one more, with the number of its line or row."""
        self.count += 1
        if len(self.examples) < SHOWN:
            self.examples.append(f"{self.name}:{number}: {reason}")

    def summary(self, num_read: int) -> str:
        """How many rows were not read, with the first of them; empty if all were."""
        if not self.count:
            return ""
        rows = self.count + num_read
        return f"{self.name}: {self.count:,} of {rows:,} rows were not read; the first: {self.examples[0]}"


def read_list(path: Path) -> SegmentList:
    """Reads a list; rows that are not segments are counted and left out. Raises DataError if it is not a table."""
    unread = Unread(path.name)
    if whole := read_whole(path):
        table = _of_whole(whole[0], path.name)
        remarks = whole[1]
    else:
        columns, rows, remarks = open_records(path)
        entries = _timed(entries_of(columns, rows, unread), unread)
        is_strong = "segment_id" in columns and "video_id" not in columns
        split = split_of_list(path.name, columns)
        table = _table(_merged(entries) if is_strong else entries, path.name, split)
    promised = HEADER.search(remarks)
    if promised and int(promised[2]) != table.num_rows + unread.count:
        counts = int(promised[2]), table.num_rows + unread.count
        log.warning("%s: its header promises %d segments, it has %d", path.name, *counts)
    return SegmentList(path, sha256_of_file(path), table, unread.count, unread.examples)


def _timed(entries: Iterator[tuple[int, Entry]], unread: Unread) -> Iterator[Entry]:
    for number, entry in entries:
        if entry.times_ms is None or not entry.video_id:
            unread.add(number, "it names a file but no times of a video: use --source folder:PATH")
        else:
            yield entry


def _of_whole(columns: pa.Table, name: str) -> pa.Table:
    stamps = (pc.cast(columns[at], pa.string()) for at in ("start_ms", "end_ms"))
    added = {
        "key": pc.binary_join_element_wise(columns["video_id"], *stamps, "_"),
        "is_open": pa.repeat(pa.scalar(False), columns.num_rows),
        "csv": pa.repeat(name, columns.num_rows),
        "split": pa.repeat("eval" if EVAL_NAME.match(name) else "", columns.num_rows),
    }
    whole = {**added, **{one: columns[one] for one in columns.column_names}}
    return pa.table(whole).select(READ.names).cast(READ)


def read_segments(path: Path) -> SegmentList:
    """The same. Raises DataError if no row could be read as a segment."""
    found = read_list(path)
    require_some(path, found.table.num_rows, found.num_unread, found.unread)
    return found


def require_some(path: Path, num_rows: int, num_unread: int, unread: Sequence[str]) -> None:
    """Raises DataError if a list has no row that could be read."""
    if not num_rows:
        said = f"the first of {num_unread:,} rows: {unread[0]}" if num_unread else "it has no rows"
        raise DataError(f"{path} is not a list of segments: no row could be read as a segment; {said}")


def entries_of(columns: Columns, rows: Iterator[Record], unread: Unread) -> Iterator[tuple[int, Entry]]:
    """The entries of the rows, with their numbers; rows that can't be read are counted."""
    read = _reader(columns)
    for number, values, fault in rows:
        if fault:
            unread.add(number, fault)
            continue
        try:
            yield number, read(values)
        except ValueError as error:
            unread.add(number, str(error))


def _reader(columns: Columns) -> Callable[[Sequence[Value]], Entry]:
    """A function that turns the values of a row into an entry; it raises DataError with what is wrong with them."""
    places = {name: place for place, name in enumerate(columns) if name}
    starts_only = not places.keys() & {"end", "end_ms", "duration"}

    def text(values: Sequence[Value], name: str) -> str:
        found = values[places[name]] if name in places else ""
        if isinstance(found, tuple):
            raise DataError(f"several values of {name}: {found!r}"[:120])
        return found.strip()

    def seconds(values: Sequence[Value], name: str) -> str:
        return text(values, name) or _seconds(text(values, f"{name}_ms"))

    def read(values: Sequence[Value]) -> Entry:
        video_id = text(values, "video_id")
        start = seconds(values, "start")
        file = text(values, "file")
        end = seconds(values, "end") or _end(start, text(values, "duration"))
        labels = labels_of(values[places["labels"]]) if "labels" in places else ()
        is_open = starts_only or not end
        if "clip" in places:
            video_id, start = _clip(text(values, "clip"))
        if "segment_id" in places and not video_id:
            video_id, times_ms = _strong(text(values, "segment_id"), start, end)
            return Entry(video_id, "", times_ms, labels, "", is_open=True)
        if not file or video_id:
            _check_id(video_id)
        split = _split(text(values, "split"))
        times_ms = None if file and not (start or end) else _times(start, end, is_open=is_open)
        return Entry(video_id, file, times_ms, labels, split, times_ms is not None and is_open)

    return read


def _seconds(text: str) -> str:
    """Milliseconds as text, in seconds."""
    return f"{milliseconds(text) / MS**2:.6f}" if text else ""


def _end(start: str, duration: str) -> str:
    """The end of a segment of that duration; empty without a start: then it is the duration of the whole file."""
    if not (start and duration):
        return ""
    return f"{(milliseconds(start) + milliseconds(duration)) / MS:.3f}"


def _times(start: str, end: str, *, is_open: bool) -> tuple[int, int]:
    if not start:
        raise DataError("it has no start")
    start_ms = milliseconds(start)
    if is_open:
        return start_ms, start_ms + CLIP_MS
    end_ms = milliseconds(end)
    if end_ms <= start_ms:
        raise DataError(f"it ends at {end} s, not after its start at {start} s")
    return start_ms, end_ms


def _clip(name: str) -> tuple[str, str]:
    found = CLIP.fullmatch(name)
    if found is None:
        raise DataError(f"not a clip name like ID_000030.mp4: {name[:80]!r}")
    return found[1], found[2]


def _strong(segment_id: str, start: str, end: str) -> tuple[str, tuple[int, int]]:
    """Video and times of the segment that an event belongs to; the event's own times are checked, not kept."""
    found = STRONG_ID.fullmatch(segment_id)
    if found is None:
        raise DataError(f"not a segment id like YTID_30000: {segment_id[:80]!r}")
    _check_id(found[1])
    if milliseconds(end) < milliseconds(start):
        raise DataError(f"its event ends at {end} s, before its start at {start} s")
    return found[1], (int(found[2]), int(found[2]) + CLIP_MS)


def _check_id(video_id: str) -> None:
    if VIDEO_ID.fullmatch(video_id) is None:
        raise DataError(f"unsafe video id {video_id[:80]!r}")


@lru_cache(maxsize=1 << 16)
def milliseconds(seconds: str) -> int:
    """A number of seconds as text, in milliseconds. Raises DataError for anything else."""
    if SECONDS.fullmatch(seconds) is None:
        raise DataError(f"not a number of seconds: {seconds[:20]!r}")
    return round(float(seconds.replace(",", ".")) * MS)


def labels_of(value: Value) -> tuple[str, ...]:
    """Labels: machine ids separated by commas, or names separated by `|` (names contain commas). Raises DataError."""
    return _known_labels(value) if len(value) <= KNOWN_CHARS else _labels(value)


@lru_cache(maxsize=1 << 16)
def _known_labels(value: Value) -> tuple[str, ...]:
    return _labels(value)


def _labels(value: Value) -> tuple[str, ...]:
    if isinstance(value, tuple):
        named = value
    elif MACHINE_IDS.fullmatch(value.strip()):
        named = re.split("[,; ]+", value.strip())
    else:
        named = value.split("|") if value.strip() else ()
    labels = tuple(dict.fromkeys(one.strip() for one in named))
    for one in labels:
        if (
            not (one and one.isprintable() and len(one) <= LABEL_CHARS)
            or one.startswith(PRINTED)
            or "|" in one
        ):
            raise DataError(f"malformed label {one[:80]!r}")
    return labels


def _split(text: str) -> str:
    if text.lower() not in SPLITS:
        raise DataError(f"split {text[:20]!r} is not one of {', '.join(name for name in SPLITS if name)}")
    return SPLITS[text.lower()]


def split_of_list(name: str, columns: Columns) -> str:
    """The split that the name of a list gives all its segments; empty if it gives none."""
    if EVAL_NAME.match(name):
        return "eval"
    found = SPLIT_NAME.fullmatch(name)
    is_meant = "clip" in columns or "file" in columns or columns[:2] == ("labels", "video_id")
    return SPLITS[found[1].lower()] if found and is_meant else ""


def _merged(entries: Iterator[Entry]) -> Iterator[Entry]:
    """One segment for all its events, with the labels of all of them, whatever the order of the rows."""
    labels: dict[Entry, set[str]] = {}
    for one in entries:
        labels.setdefault(one._replace(labels=()), set()).update(one.labels)
    return (one._replace(labels=tuple(sorted(found))) for one, found in labels.items())


def _table(entries: Iterator[Entry], name: str, split: str) -> pa.Table:
    tables = [READ.empty_table()]
    rows = []
    for one in entries:
        rows.append(one)
        if len(rows) == BATCH_ROWS:
            tables.append(table_of(rows, name, split))
            rows = []
    return pa.concat_tables([*tables, table_of(rows, name, split)]).combine_chunks()


def table_of(entries: Sequence[Entry], name: str, split: str = "") -> pa.Table:
    """Entries with ids and times as segments of the list `name`; `split` applies to entries without one."""
    times = [one.times_ms for one in entries if one.times_ms]
    columns = {
        "key": [segment_key(one.video_id, *at) for one, at in zip(entries, times, strict=True)],
        "video_id": [one.video_id for one in entries],
        "start_ms": [start for start, _ in times],
        "end_ms": [end for _, end in times],
        "is_open": [one.is_open for one in entries],
        "labels": [one.labels for one in entries],
        "csv": [name] * len(entries),
        "split": ["eval" if split == "eval" else one.split or split for one in entries],
    }
    return pa.table(columns, READ)
