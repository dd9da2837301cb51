"""AudioSet's own format, read as a whole: several times as fast as row by row, for lists of 2 M regular rows.

Any other list, and any list with an irregular row, is left to the general reader, which reads them the same way.
"""

# pyarrow.compute makes its functions when it is imported: a type checker cannot see them.
# pyright: reportAttributeAccessIssue=false

import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import csv

from schemas.segment import VIDEO_ID
from tasks.lists.dialects import MACHINE_ID

MAX_BYTES = 1 << 28  # held in memory as a whole: the published list of 2 M segments has 100 MB
REMARKS = re.compile(rb"(?:#[^\n]*\n)*")
HEAD_BYTES = 1 << 16
BEGINS = re.compile(REMARKS.pattern + rb'[A-Za-z0-9_-]{1,64}, ?[0-9.]+, ?[0-9.]+, ?"?/')
SECONDS = r"[0-9]{1,6}(\.[0-9]{1,6})?"
FORMS = {
    "video_id": VIDEO_ID.pattern,
    "start": SECONDS,
    "end": SECONDS,
    "labels": rf"{MACHINE_ID}(,{MACHINE_ID})*",
}


def read_whole(path: Path) -> tuple[pa.Table, str] | None:
    """The columns of FORMS with times in ms (`start_ms`, `end_ms`), and the remarks before them; None for any other."""
    if not 0 < path.stat().st_size <= MAX_BYTES:
        return None
    with path.open("rb") as file:
        if not BEGINS.match(file.read(HEAD_BYTES)):
            return None  # too large to hold in memory just to find out
    text = path.read_bytes().replace(b", ", b",")
    remarks = REMARKS.match(text)
    begins = remarks.end() if remarks else 0
    types = csv.ConvertOptions(column_types=dict.fromkeys(FORMS, pa.string()), strings_can_be_null=False)
    names = csv.ReadOptions(column_names=list(FORMS))
    try:
        body = pa.BufferReader(pa.py_buffer(text)[begins:])
        texts = csv.read_csv(body, read_options=names, convert_options=types)
    except pa.ArrowInvalid:
        return None
    with ThreadPoolExecutor() as threads:
        if not all(threads.map(_all_match, (texts[name] for name in FORMS), FORMS.values())):
            return None
    start_ms = _ms(texts["start"])
    end_ms = _ms(texts["end"])
    if not texts.num_rows or pc.any(pc.less_equal(end_ms, start_ms)).as_py():
        return None
    columns = {"video_id": texts["video_id"], "start_ms": start_ms, "end_ms": end_ms}
    labels = pc.split_pattern(texts["labels"], ",")
    return pa.table({**columns, "labels": labels}), text[:begins].decode(errors="replace")


def _all_match(texts: pa.ChunkedArray, pattern: str) -> bool:
    return pc.all(pc.match_substring_regex(texts, f"^({pattern})$")).as_py() is not False


def _ms(seconds: pa.ChunkedArray) -> pa.ChunkedArray:
    return pc.cast(pc.round(pc.multiply(pc.cast(seconds, pa.float64()), 1000.0)), pa.int64())
