"""Segment lists as people publish them -> one table of segments each, with what was malformed told line by line."""

# pyarrow.compute makes its functions when it is imported: a type checker cannot see them.
# pyright: reportAttributeAccessIssue=false

import logging
import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import csv

from schemas.manifest import sha256_of_file
from schemas.segment import SEGMENTS, VIDEO_ID

log = logging.getLogger(__name__)

HEADER = re.compile(r"#\s*num_ytids=(\d+),\s*num_segs=(\d+)")
HEAD_CHARS = 1000  # in which that header stands
# YTID, start_seconds, end_seconds, "labels": spaces after commas are the published form, and optional.
SECONDS = r"\d{1,6}(\.\d{1,6})?"
LABELS = r"/[a-z]/[0-9a-z_]+(,/[a-z]/[0-9a-z_]+)*"
LINE = re.compile(r'([^,"]*),([^,"]*),([^,"]*),"([^"]*)"')
_TEXTS = ("video_id", "start", "end", "labels")
READ = pa.schema(
    [SEGMENTS.field(name) for name in ("key", "video_id", "start_ms", "end_ms", "labels", "csv")]
    + [pa.field("is_eval", pa.bool_())]
)


@dataclass(frozen=True)
class SegmentList:
    """One list as read: its segments, and what was wrong with it."""

    name: str
    sha256: str
    table: pa.Table
    malformed: list[str]  # "file:line: reason"


def read_list(path: Path) -> SegmentList:
    """Reads one list; malformed lines are left out and told with file, line number and reason."""
    text = path.read_text(encoding="utf-8-sig", errors="replace").replace(", ", ",")
    texts, malformed = _parse_whole(text), []
    if texts is None:  # something in it is malformed: line by line, to say what and where
        texts, malformed = _parse_lines(text, path.name)
    header = HEADER.search(text[:HEAD_CHARS])
    if header and int(header[2]) != texts.num_rows + len(malformed):
        promised, found = int(header[2]), texts.num_rows + len(malformed)
        log.warning("%s: its header promises %d segments, it has %d", path.name, promised, found)
    return SegmentList(path.name, sha256_of_file(path), _typed(texts, path.name), malformed)


def _parse_whole(text: str) -> pa.Table | None:
    """The texts of a list without a single malformed line; None for any other (much faster than by line)."""
    body = re.sub(r"\A(#[^\n]*\n)*", "", text).encode()
    types = csv.ConvertOptions(column_types=dict.fromkeys(_TEXTS, pa.string()), strings_can_be_null=False)
    names = csv.ReadOptions(column_names=list(_TEXTS))
    try:
        table = csv.read_csv(pa.BufferReader(body), read_options=names, convert_options=types)
    except pa.ArrowInvalid:
        return None
    patterns = (VIDEO_ID.pattern, SECONDS, SECONDS, LABELS)
    with ThreadPoolExecutor() as threads:
        whole = list(threads.map(_all_match, (table[name] for name in _TEXTS), patterns))
    if not all(whole) or pc.any(pc.less_equal(_ms(table["end"]), _ms(table["start"]))).as_py():
        return None
    return table


def _all_match(texts: pa.ChunkedArray, pattern: str) -> bool:
    return pc.all(pc.match_substring_regex(texts, f"^({pattern})$")).as_py() is not False


def _parse_lines(text: str, name: str) -> tuple[pa.Table, list[str]]:
    rows, malformed = [], []
    for number, line in enumerate(text.splitlines(), 1):
        if line.startswith("#") or not line.strip():
            continue
        match, reason = LINE.fullmatch(line.strip()), _fault(line.strip())
        if match is None or reason:
            malformed.append(f"{name}:{number}: {reason}")
        else:
            rows.append(dict(zip(_TEXTS, match.groups(), strict=True)))
    return pa.Table.from_pylist(rows, pa.schema([(column, pa.string()) for column in _TEXTS])), malformed


def _fault(line: str) -> str:
    """Why a line is malformed; empty for a good one."""
    match = LINE.fullmatch(line)
    if match is None:
        return f'not of the form `id, start, end, "labels"`: {line[:80]!r}'
    video_id, start, end, labels = match.groups()
    if VIDEO_ID.fullmatch(video_id) is None:
        return f"unsafe video id {video_id[:80]!r}"
    if not (re.fullmatch(SECONDS, start) and re.fullmatch(SECONDS, end)):
        return f"not seconds: {start[:20]!r}, {end[:20]!r}"
    if float(end) <= float(start):
        return f"it ends at {end} s, not after its start at {start} s"
    if re.fullmatch(LABELS, labels) is None:
        return f"malformed labels {labels[:80]!r}"
    return ""


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
        # The published eval list stays untouched; it is known by its name, eval_segments.csv.
        "is_eval": pa.repeat(name.startswith("eval"), texts.num_rows),
    }
    return pa.table(columns).cast(READ)


def _ms(seconds: pa.ChunkedArray) -> pa.ChunkedArray:
    return pc.cast(pc.round(pc.multiply(pc.cast(seconds, pa.float64()), 1000.0)), pa.int64())
