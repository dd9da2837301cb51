"""A clip: a segment as media on disk, with the facts its header states."""

import pyarrow as pa

from schemas.manifest import ROW_FIELDS

CLOCK = "ms"  # time stamps of a file, each rounded to the millisecond; in a cut, all minus one offset

CLIPS = pa.schema(
    [
        *ROW_FIELDS,
        ("video_id", pa.string()),
        ("packets", pa.string()),  # digest of those of the segment: `tasks/media/cut.py`; null in older rows
        ("path", pa.string()),  # relative to the root
        ("size_bytes", pa.int64()),
        ("sha256", pa.string()),
        # Where the segment begins inside the file, on the presentation clock that a decoder reports.
        ("begins_s", pa.float64()),
        (
            "clock",
            pa.string(),
        ),  # which clock: CLOCK; null in older cuts, whose streams may be shifted against each other
        ("length_s", pa.float64()),  # of the segment
        ("covered_s", pa.float64()),  # how much of the segment the file's longest stream covers
        ("container", pa.string()),
        ("has_video", pa.bool_()),
        ("has_audio", pa.bool_()),
        ("video_codec", pa.string()),
        ("width_px", pa.int32()),
        ("height_px", pa.int32()),
        ("frame_rate_hz", pa.float64()),
        ("audio_codec", pa.string()),
        ("sample_rate_hz", pa.int32()),
        ("channels", pa.int32()),
        # Sound minus picture. A large gap between the spans means that they drift apart.
        ("start_gap_ms", pa.float64()),
        ("span_gap_ms", pa.float64()),
        ("source", pa.string()),
        # The fold of the attempts ledger, with the evidence of the last attempt. None of it enters a fingerprint.
        ("attempts", pa.int32()),  # failures that were the video's own fault, on different days
        ("setbacks", pa.int32()),  # failures in a row that were the world's fault
        ("charged_at", pa.string()),  # ISO time of the last failure that counted
        ("tried_at", pa.string()),
        ("lane", pa.string()),
        ("tool", pa.string()),
        ("status", pa.int32()),  # the HTTP status
        ("next_attempt_at", pa.string()),  # ISO time; a part is due when a row is due
        (
            "stamp",
            pa.string(),
        ),  # of the local file that was judged, to recognise a different file; null for a host's
    ]
)
