"""A segment: one AudioSet row with its slot, and the key that names it everywhere."""

import re

import pyarrow as pa

from schemas.manifest import ROW_FIELDS

SPLITS = ("train", "val", "eval")
MIN_OPEN_MS = 1000
MIN_TELLING = 3  # characters of an id that is searched for by itself
MIN_TELLING_NUMBER = 8  # for an id without a letter: nothing else contains `20260131_120000` by chance
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
        ("row", pa.int32()),  # its slot is (part, row); the part is the file that contains it
        ("csv", pa.string()),  # the name of the list it came from
    ]
)


def is_telling(video_id: str) -> bool:
    """Whether an id names a video wherever it occurs: a short number, or similarly short text, has other meanings too.

    A short one, such as `001`, names a video only if times follow it.
    """
    has_letter = any(char.isalpha() for char in video_id)
    return len(video_id) >= (MIN_TELLING if has_letter else MIN_TELLING_NUMBER)


def segment_key(video_id: str, start_ms: int, end_ms: int) -> str:
    """`{video_id}_{start_ms}_{end_ms}`: never a dot in it, because webdataset splits names at the first."""
    return f"{video_id}_{start_ms}_{end_ms}"
