"""Segment lists as people publish them -> one table of segments each, with what was malformed told line by line.

Which form a list has is seen from its content: AudioSet's CSV, VGGSound's CSV, or AudioSet-Strong's TSV.
"""

# pyarrow.compute makes its functions when it is imported: a type checker cannot see them.
# pyright: reportAttributeAccessIssue=false

import logging
import re
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import csv

from schemas.manifest import sha256_of_file
from schemas.segment import SEGMENTS, VIDEO_ID, segment_key

log = logging.getLogger(__name__)

HEADER = re.compile(r"#\s*num_ytids=(\d+),\s*num_segs=(\d+)")
FIRST_BYTES = 1 << 16  # in which a file that is no text shows it
HEAD_CHARS = 1000  # in which that header stands
LOOKED_AT = 20  # lines that tell the form: one of them is well-formed
SECONDS = r"[0-9]{1,6}(\.[0-9]{1,6})?"
LABEL = r"/[a-z]/[0-9a-z_]+"
LABELS = rf"{LABEL}(,{LABEL})*"
# YTID, start_seconds, end_seconds, "labels": spaces after commas are the published form, and optional.
AUDIOSET = re.compile(r'([^,"]*),([^,"]*),([^,"]*),"([^"]*)"')
# ytid,start,label,split; a label with commas is quoted.
VGGSOUND = re.compile(r'([^,"]*),([^,"]*),("[^"]*"|[^,"]*),([^,"]*)')
VGGSOUND_HEADER = re.compile(r"\A\w+,\w+,\w+,split[ \t\r]*$", re.M)  # the published list has none
VGGSOUND_SPLITS = ("train", "test")
VGGSOUND_LABEL_CHARS = 100  # a class name of a few words
STRONG_HEADER = "segment_id\tstart_time_seconds\tend_time_seconds\tlabel"
STRONG_ID = re.compile(r"(.*)_([0-9]{1,9})")  # YTID_startms
CLIP_MS = 10_000  # of VGGSound and AudioSet-Strong, which name starts only
# The published eval list stays untouched; it is known by its name: eval_segments.csv, audioset_eval_strong.tsv.
EVAL_NAME = re.compile(r"(audioset_)?eval")
_TEXTS = ("video_id", "start", "end", "labels")
READ = pa.schema(
    [SEGMENTS.field(name) for name in ("key", "video_id", "start_ms", "end_ms", "labels", "csv")]
    + [pa.field("is_eval", pa.bool_())]
)


@dataclass(frozen=True)
class SegmentList:
    """One list as read: its segments (schema READ), and what was wrong with it."""

    path: Path
    sha256: str
    table: pa.Table
    malformed: list[str]  # "file:line: reason"


class Entry(NamedTuple):
    """What one line says."""

    video_id: str
    start_ms: int
    end_ms: int
    labels: tuple[str, ...]
    is_eval: bool = False


def read_list(path: Path) -> SegmentList:
    """Reads one list; malformed lines are left out and told with file, line number and reason."""
    text = path.read_text(encoding="utf-8-sig", errors="replace")
    table, malformed = _form(text)(text, path.name)
    return SegmentList(path, sha256_of_file(path), table, malformed)


def read_segments(path: Path) -> SegmentList:
    """The same; raises ValueError where not one line is a segment: it is no list, or of a form that nobody knows."""
    with path.open("rb") as file:
        head = file.read(FIRST_BYTES)
    if b"\0" in head:  # a film of some gigabytes is not read as a text to say that it is none
        text = head.decode(errors="replace")
        _require_segments(path, *_form(text)(text, path.name))
    found = read_list(path)
    _require_segments(path, found.table, found.malformed)
    return found


def _require_segments(path: Path, table: pa.Table, malformed: list[str]) -> None:
    if not table.num_rows:
        said = f"the first of {len(malformed):,} lines: {malformed[0]}" if malformed else "it has no lines"
        raise ValueError(f"{path} is no list of segments: not one line is a segment; {said}")


def _form(text: str) -> Callable[[str, str], tuple[pa.Table, list[str]]]:
    head = [line for _, line in islice(_lines(text[: LOOKED_AT * HEAD_CHARS]), LOOKED_AT)]
    if any(line.startswith(STRONG_HEADER) for line in head):
        return _read_strong
    found = (VGGSOUND.fullmatch(line) for line in head)
    return _read_vggsound if any(one and one[4] in VGGSOUND_SPLITS for one in found) else _read_audioset


def _lines(text: str) -> Iterator[tuple[int, str]]:
    """The numbered lines that are neither empty nor comments."""
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip() and not line.startswith("#"):
            yield number, line.strip()


def _read_audioset(text: str, name: str) -> tuple[pa.Table, list[str]]:
    text, malformed = text.replace(", ", ","), []
    table = _parse_whole(text, name)
    if table is None:  # something in it is malformed: line by line, to say what and where
        table, malformed = _parse_lines(text, name, _audioset_entry)
    header = HEADER.search(text[:HEAD_CHARS])
    if header and int(header[2]) != table.num_rows + len(malformed):
        promised, found = int(header[2]), table.num_rows + len(malformed)
        log.warning("%s: its header promises %d segments, it has %d", name, promised, found)
    return table, malformed


def _parse_whole(text: str, name: str) -> pa.Table | None:
    """AudioSet's form without a single malformed line; None for any other (much faster than by line)."""
    body = re.sub(r"\A(#[^\n]*\n)*", "", text).encode()
    types = csv.ConvertOptions(column_types=dict.fromkeys(_TEXTS, pa.string()), strings_can_be_null=False)
    names = csv.ReadOptions(column_names=list(_TEXTS))
    try:
        texts = csv.read_csv(pa.BufferReader(body), read_options=names, convert_options=types)
    except pa.ArrowInvalid:
        return None
    patterns = (VIDEO_ID.pattern, SECONDS, SECONDS, LABELS)
    with ThreadPoolExecutor() as threads:
        whole = list(threads.map(_all_match, (texts[column] for column in _TEXTS), patterns))
    if not all(whole) or pc.any(pc.less_equal(_ms(texts["end"]), _ms(texts["start"]))).as_py():
        return None
    return _typed(texts, name)


def _all_match(texts: pa.ChunkedArray, pattern: str) -> bool:
    return pc.all(pc.match_substring_regex(texts, f"^({pattern})$")).as_py() is not False


def _typed(texts: pa.Table, name: str) -> pa.Table:
    start_ms, end_ms = _ms(texts["start"]), _ms(texts["end"])
    stamps = (pc.cast(start_ms, pa.string()), pc.cast(end_ms, pa.string()))
    columns = {
        "key": pc.binary_join_element_wise(texts["video_id"], *stamps, "_"),
        "video_id": texts["video_id"],
        "start_ms": start_ms,
        "end_ms": end_ms,
        "labels": pc.split_pattern(texts["labels"], ","),
        "csv": pa.repeat(name, texts.num_rows),
        "is_eval": pa.repeat(_is_eval(name), texts.num_rows),
    }
    return pa.table(columns).cast(READ)


def _ms(seconds: pa.ChunkedArray) -> pa.ChunkedArray:
    return pc.cast(pc.round(pc.multiply(pc.cast(seconds, pa.float64()), 1000.0)), pa.int64())


def _is_eval(name: str) -> bool:
    return EVAL_NAME.match(name) is not None


def _read_vggsound(text: str, name: str) -> tuple[pa.Table, list[str]]:
    return _parse_lines(VGGSOUND_HEADER.sub("#", text), name, _vggsound_entry)


def _read_strong(text: str, name: str) -> tuple[pa.Table, list[str]]:
    """One segment for all its events; its labels are theirs, whatever the order of the lines."""
    entries, malformed = _entries(text.replace(STRONG_HEADER, "#", 1), name, _strong_entry)
    labels: dict[Entry, set[str]] = {}
    for one in entries:
        labels.setdefault(one._replace(labels=()), set()).update(one.labels)
    return _table(
        [one._replace(labels=tuple(sorted(found))) for one, found in labels.items()], name
    ), malformed


def _parse_lines(text: str, name: str, entry: Callable[[str], Entry]) -> tuple[pa.Table, list[str]]:
    entries, malformed = _entries(text, name, entry)
    return _table(entries, name), malformed


def _entries(text: str, name: str, entry: Callable[[str], Entry]) -> tuple[list[Entry], list[str]]:
    entries, malformed = [], []
    for number, line in _lines(text):
        try:
            entries.append(entry(line))
        except ValueError as error:
            malformed.append(f"{name}:{number}: {error}")
    return entries, malformed


def _table(entries: list[Entry], name: str) -> pa.Table:
    rows = [
        {"key": segment_key(*one[:3]), "csv": name, **one._asdict(), "is_eval": one.is_eval or _is_eval(name)}
        for one in entries
    ]
    return pa.Table.from_pylist(rows, READ)


def _audioset_entry(line: str) -> Entry:
    """Raises ValueError with the reason, as the other two do."""
    video_id, start, end, labels = _matched(AUDIOSET, line, 'id, start, end, "labels"')
    start_ms, end_ms = _seconds_ms(start), _seconds_ms(end)
    if end_ms <= start_ms:
        raise ValueError(f"it ends at {end} s, not after its start at {start} s")
    if labels and re.fullmatch(LABELS, labels) is None:  # one's own videos have none
        raise ValueError(f"malformed labels {labels[:80]!r}")
    return Entry(video_id, start_ms, end_ms, tuple(labels.split(",")) if labels else ())


def _vggsound_entry(line: str) -> Entry:
    video_id, start, label, split = _matched(VGGSOUND, line, "id,start,label,split")
    label, start_ms = label.strip('"'), _seconds_ms(start)
    if not (label.strip() and label.isprintable() and len(label) <= VGGSOUND_LABEL_CHARS):
        raise ValueError(f"malformed label {label[:80]!r}")
    if split not in VGGSOUND_SPLITS:
        raise ValueError(f"split {split[:20]!r} is none of {', '.join(VGGSOUND_SPLITS)}")
    return Entry(video_id, start_ms, start_ms + CLIP_MS, (label,), split == "test")


def _strong_entry(line: str) -> Entry:
    fields = line.split("\t")
    found = STRONG_ID.fullmatch(fields[0])
    if len(fields) != len(STRONG_HEADER.split("\t")) or found is None:
        raise ValueError(f"not of the form id_startms, start, end, label with tabs between: {line[:80]!r}")
    _check_id(found[1])
    if _seconds_ms(fields[2]) < _seconds_ms(fields[1]):
        raise ValueError(f"its event ends at {fields[2]} s, before its start at {fields[1]} s")
    if re.fullmatch(LABEL, fields[3]) is None:
        raise ValueError(f"malformed label {fields[3][:80]!r}")
    start_ms = int(found[2])
    return Entry(found[1], start_ms, start_ms + CLIP_MS, (fields[3],))


def _matched(form: re.Pattern[str], line: str, shown: str) -> tuple[str, ...]:
    found = form.fullmatch(line)
    if found is None:
        raise ValueError(f"not of the form `{shown}`: {line[:80]!r}")
    _check_id(found[1])
    return found.groups()


def _check_id(video_id: str) -> None:
    if VIDEO_ID.fullmatch(video_id) is None:
        raise ValueError(f"unsafe video id {video_id[:80]!r}")


def _seconds_ms(seconds: str) -> int:
    if re.fullmatch(SECONDS, seconds) is None:
        raise ValueError(f"not seconds: {seconds[:20]!r}")
    return round(float(seconds) * 1000)
