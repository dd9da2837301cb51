"""A segment: one AudioSet row with its slot, and the key that names it everywhere."""

import re

import pyarrow as pa

from schemas.manifest import ROW_FIELDS

SPLITS = ("train", "val", "eval")
MIN_OPEN_MS = 1000
# A video id becomes part of file names and URLs: letters, digits, `-` and `_` only, and so never a dot.
VIDEO_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")

SEGMENTS = pa.schema(
    [
        *ROW_FIELDS,  # the digest is the list of labels: all that is not in the key
        ("video_id", pa.string()),
        ("start_ms", pa.int64()),
        ("end_ms", pa.int64()),
        # Its list names a start only: it may end with its video, at least MIN_OPEN_MS long. Null in older parts: no.
        ("is_open", pa.bool_()),
        ("labels", pa.list_(pa.string())),  # machine ids, as /m/09x0r
        ("split", pa.string()),
        ("row", pa.int32()),  # its slot is (part, row); the part is the file it stands in
        ("csv", pa.string()),  # the name of the list it came from
    ]
)


def segment_key(video_id: str, start_ms: int, end_ms: int) -> str:
    """`{video_id}_{start_ms}_{end_ms}`: never a dot in it, because webdataset splits names at the first."""
    return f"{video_id}_{start_ms}_{end_ms}"
