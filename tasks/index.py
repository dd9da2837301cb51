"""Index: segment lists in AudioSet's CSV format -> the segments manifest, where every segment has its slot.

Slots are append-only: a segment that is known keeps its slot, those that arrive later are ordered among
themselves and open new parts.
"""

# pyarrow.compute makes its functions when it is imported: a type checker cannot see them.
# pyright: reportAttributeAccessIssue=false

import hashlib
import json
import logging
import re
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyarrow import csv

from schemas.manifest import PartHeader, part_numbers, part_path, sha256_of_file, write_table, write_text
from schemas.segment import SEGMENTS, SPLITS, VIDEO_ID
from schemas.storage import readable
from tasks.labels import keep_labels
from tasks.tombstones import obeyed, read_tombstones

log = logging.getLogger(__name__)

FOLDER = "segments"
WRITERS = (
    4  # parts under way at once: most of a write waits for the disk or runs outside the interpreter's lock
)
LISTS = "lists.json"  # which lists were read, with their digests
HEADER = re.compile(r"#\s*num_ytids=(\d+),\s*num_segs=(\d+)")
HEAD_CHARS = 1000  # in which that header stands
# YTID, start_seconds, end_seconds, "labels": spaces after commas are the published form, and optional.
SECONDS = r"\d{1,6}(\.\d{1,6})?"
LABELS = r"/[a-z]/[0-9a-z_]+(,/[a-z]/[0-9a-z_]+)*"
LINE = re.compile(r'([^,"]*),([^,"]*),([^,"]*),"([^"]*)"')
_TEXTS = ("video_id", "start", "end", "labels")
_READ = pa.schema(
    [SEGMENTS.field(name) for name in ("key", "video_id", "start_ms", "end_ms", "labels", "csv")]
    + [pa.field("is_eval", pa.bool_())]
)


@dataclass(frozen=True)
class IndexConfig:
    """How segments are dealt into parts."""

    part_size: int = 512  # a shard of about 100 to 250 MB
    eval_part_size: int = 128  # so that 64 loader workers all get an eval shard of AudioSet
    val_share: float = 0.02  # of the training videos, by the hash of the video id


@dataclass(frozen=True)
class SegmentList:
    """One list as read: its segments, and what was wrong with it."""

    name: str
    sha256: str
    table: pa.Table
    malformed: list[str]  # "file:line: reason"


@dataclass(frozen=True)
class NewPart:
    """A part that the lists open: its number and its table (schema SEGMENTS)."""

    part: int
    table: pa.Table


def index(root: Path, paths: Sequence[Path], config: IndexConfig, *, strict: bool = False) -> dict[str, int]:
    """Reads the lists that are new to this root and opens parts for their new segments; returns counts.

    Raises ValueError at a malformed line if `strict`, otherwise counts and reports them.
    """
    known = recorded_lists(root)
    lists = [read_list(path) for path in paths if sha256_of_file(path) not in known]
    malformed = [line for one in lists for line in one.malformed]
    if strict and malformed:
        raise ValueError(f"{len(malformed)} malformed line(s); the first: {malformed[0]}")
    for line in malformed[:10]:
        log.warning("skipped %s", line)
    parts = deal(root, lists, config)
    forgotten = set(read_tombstones(root))
    with ThreadPoolExecutor(WRITERS) as writers:
        for _ in writers.map(lambda part: _write(root / FOLDER, part, forgotten), parts):
            pass  # raises what a writer raised
    keep_labels(root / FOLDER, paths)
    if lists:
        known |= {one.sha256: {"file": one.name, "malformed": one.malformed} for one in lists}
        write_text(root / FOLDER / LISTS, json.dumps(known, indent=1, sort_keys=True) + "\n")
    new = sum(part.table.num_rows for part in parts)
    return {"lists": len(lists), "segments": new, "parts": len(parts), "malformed": len(malformed)}


def _write(folder: Path, part: NewPart, forgotten: set[str]) -> None:
    """Commits a part; its slots of videos that were taken down before are `forgotten` from the start."""
    table = part.table
    if forgotten and not forgotten.isdisjoint(table["video_id"].to_pylist()):
        rows = [obeyed(row) if row["video_id"] in forgotten else row for row in table.to_pylist()]
        table = pa.Table.from_pylist(rows, SEGMENTS)
    write_table(part_path(folder, part.part), table, PartHeader("index", "", {}))


def recorded_lists(root: Path) -> dict[str, dict]:
    """The lists that were read into this root: sha256 -> file name and malformed lines."""
    path = root / FOLDER / LISTS
    return json.loads(path.read_text()) if path.is_file() else {}


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
    return pa.table(columns).cast(_READ)


def _ms(seconds: pa.ChunkedArray) -> pa.ChunkedArray:
    return pc.cast(pc.round(pc.multiply(pc.cast(seconds, pa.float64()), 1000.0)), pa.int64())


def deal(root: Path, lists: Sequence[SegmentList], config: IndexConfig) -> list[NewPart]:
    """The parts that the new segments of `lists` open under `root`; nothing is written."""
    table = pa.concat_tables([_READ.empty_table(), *(one.table for one in lists)])
    # Where two lists disagree about a video, the eval set stays whole.
    of_eval = set(table.filter(table["is_eval"])["video_id"].to_pylist())
    fresh, splits = _unknown(root, table)
    table = _in_slot_order(_with_splits(fresh, dict.fromkeys(of_eval, "eval") | splits, config))
    first = max(part_numbers(root / FOLDER), default=-1) + 1
    return [NewPart(first + n, part) for n, part in enumerate(_cut(table, config))]


def _unknown(root: Path, table: pa.Table) -> tuple[pa.Table, dict[str, str]]:
    """The rows whose key has no slot yet; and the split of every video that has one."""
    known, splits = _known(root)
    return (table.filter(pc.invert(pc.is_in(table["key"], known))) if len(known) else table), splits


def _known(root: Path) -> tuple[pa.Array, dict[str, str]]:
    parts = (pq.ParquetFile(readable(part_path(root / FOLDER, n))) for n in part_numbers(root / FOLDER))
    tables = [part.read(columns=["key", "video_id", "split"]) for part in parts]
    if not tables:
        return pa.array([], pa.string()), {}
    table = pa.concat_tables(tables)
    return table["key"].combine_chunks(), dict(
        zip(*(table[c].to_pylist() for c in ("video_id", "split")), strict=True)
    )


def _with_splits(table: pa.Table, splits: dict[str, str], config: IndexConfig) -> pa.Table:
    """Adds each row's video as a number, its split (by `splits` where that knows it) and the hash that orders it."""
    videos = table["video_id"].combine_chunks().dictionary_encode()
    names = videos.dictionary.cast(pa.binary()).to_pylist()
    hashes = b"".join([hashlib.sha1(name, usedforsecurity=False).digest()[:8] for name in names])
    order = np.frombuffer(hashes, ">u8").astype(np.uint64)
    # The last bytes decide: the first ones order the slots, and val must not be one end of that order.
    is_val = (order & np.uint64(2**32 - 1)) < config.val_share * 2**32
    at = pc.index_in(videos.dictionary, pa.array(list(splits), pa.string()))
    known = pa.array(list(splits.values()), pa.string()).take(at)
    columns = {"split": pc.coalesce(known, pc.if_else(is_val, "val", "train")), "order": pa.array(order)}
    for name, column in columns.items():
        table = table.append_column(name, column.take(videos.indices))
    return table.append_column("video", videos.indices)


def _in_slot_order(table: pa.Table) -> pa.Table:
    """By split, then by the hash of the video, then by time; the first row of every key."""
    rank = pc.index_in(table["split"], pa.array(SPLITS)).to_numpy()
    end, start, video, order = (table[name].to_numpy() for name in ("end_ms", "start_ms", "video", "order"))
    rows = np.lexsort((end, start, video, order, rank))  # numbers only: texts take several times as long
    again = np.zeros(len(rows), bool)
    again[1:] = np.all([np.diff(one[rows]) == 0 for one in (video, start, end)], axis=0)
    places = pa.array(rows[~again])
    with ThreadPoolExecutor() as threads:
        columns = list(threads.map(lambda column: column.take(places), table.columns))
    return pa.table(columns, table.column_names)


def _cut(table: pa.Table, config: IndexConfig) -> Iterator[pa.Table]:
    """Parts of fixed size, each of one split."""
    for split in SPLITS:
        of_split = table.filter(pc.equal(table["split"], split))
        size = config.part_size if split == "train" else config.eval_part_size
        constant = {"outcome": "ok", "reason": "", "detail": "", "fingerprint": ""}
        columns = {name: pa.repeat(value, of_split.num_rows) for name, value in constant.items()}
        columns["row"] = pa.array(np.arange(of_split.num_rows) % size)
        columns["digest"] = pc.binary_join(of_split["labels"], ",")
        whole = pa.table({**columns, **{name: of_split[name] for name in of_split.column_names}})
        whole = whole.select(SEGMENTS.names).cast(SEGMENTS).combine_chunks()
        for start in range(0, whole.num_rows, size):
            yield whole.slice(start, size)
