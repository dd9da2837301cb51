"""The dialect of a table of segments, found from its first lines: the separator, and the meaning of each column.

Columns are recognised by the names in their header, or, without a header, by their positions in the published formats.
"""

import csv
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import takewhile

from schemas.errors import DataError
from schemas.segment import VIDEO_ID
from tasks.lists.lines import Line

DELIMITERS = (",", "\t", ";", "&", "|")
SECONDS = re.compile(r"(?:[0-9]{1,9}(?:[.,][0-9]*)?|[.,][0-9]+)(?:[eE][-+]?[0-9]{1,2})?")
MACHINE_ID = r"/[a-z]/[0-9a-z_]+"
MACHINE_IDS = re.compile(rf"{MACHINE_ID}(?:(?:[,;] ?| ){MACHINE_ID})*")
EXCEL = re.compile(r'"?sep=."?')  # Excel's first line if the separator is not that of its locale
# VGGSound's ID_000030.mp4
CLIP = re.compile(r"(?:[^,;&|\t]*[/\\])?([A-Za-z0-9_-]{1,64})_([0-9]{6})(?:\.[A-Za-z0-9]{1,5})?")
SPLITS = {
    "train": "train", "training": "train", "val": "val", "valid": "val", "validate": "val", "validation": "val",
    "dev": "val",
    "test": "eval", "testing": "eval", "eval": "eval", "evaluation": "eval", "": "",
}  # fmt: skip
# Names of columns, in order of precedence if a table has several. `id` may be a mere number.
NAMES = {
    "video_id": (
        "ytid", "youtube_id", "yt_id", "video_id", "videoid", "vid", "youtube_video_id", "video", "id",
    ),
    "start": ("start_seconds", "start", "start_s", "start_sec", "start_time", "starttime", "start_time_seconds",
              "time_start", "begin"),
    "end": ("end_seconds", "end", "end_s", "end_sec", "end_time", "endtime", "end_time_seconds", "time_end", "stop"),
    "start_ms": ("start_ms", "start_time_ms", "start_milliseconds", "begin_ms"),
    "end_ms": ("end_ms", "end_time_ms", "end_milliseconds", "stop_ms"),
    "duration": ("duration", "duration_s", "duration_sec", "duration_seconds", "segment_duration", "clip_duration"),
    "labels": ("positive_labels", "labels", "label", "category", "class", "class_name"),
    "split": ("split", "set", "subset", "partition"),
    "file": ("file", "path", "filename", "file_name", "filepath", "file_path", "video_path", "video_file"),
    "segment_id": ("segment_id", "segmentid"),
}  # fmt: skip


@dataclass(frozen=True)
class Dialect:
    """What each column holds (a name of NAMES or `clip`, None if it is not used), and where the rows begin."""

    columns: tuple[str | None, ...]
    delimiter: str = ","
    first_row: int = 1  # the number of the line
    has_header: bool = False  # then nothing after it is a comment: a file may be called `#1.mp4`

    @property
    def shown(self) -> str:
        """The form of a line, for people."""
        between = "<tab>" if self.delimiter == "\t" else self.delimiter
        return between.join(one or "..." for one in self.columns)

    def fields(self, line: str) -> list[str]:
        """The fields of a line. Raises DataError if a quote is not closed or if there are not as many as columns."""
        try:
            found = next(csv.reader((line,), delimiter=self.delimiter, skipinitialspace=True, strict=True))
        except csv.Error:
            raise DataError(f"its quotes are not closed: {line[:80]!r}") from None
        missing = len(self.columns) - len(found)
        if missing == 0:
            return found
        if self.columns[-1] == "labels":
            if missing < 0 and all(
                map(MACHINE_IDS.fullmatch, map(str.strip, found[len(self.columns) - 1 :]))
            ):
                last = len(self.columns) - 1
                return [
                    *found[:last],
                    ",".join(one.strip() for one in found[last:]),
                ]  # with missing quotes
            if missing == 1 and not self.has_header:
                return [*found, ""]
        raise DataError(f"not of the form `{self.shown}`: {line[:80]!r}")


# Columns with times in an unknown unit or form, if a header has a video id but no known start.
OF_TIMES = re.compile(r"(?:^|_)(?:start|begin|end|stop|from|to|onset|offset|frame|time|timestamp)s?(?:_|$)")

# Without a header: AVE's, VGGSound's test.csv, AudioSet's, vggsound.csv. No row matches two of them, except one of
# AudioSet's whose only label is called `train`.
AUDIOSET = Dialect(("video_id", "start", "end", "labels"))
FORMS = (
    ("labels", "video_id", None, "start", "end"),
    ("clip", "labels"),
    AUDIOSET.columns,
    ("video_id", "start", "labels", "split"),
)


def dialect_of(head: Sequence[Line]) -> Dialect:
    """The dialect of a table that begins with `head`; AudioSet's if nothing in it is well-formed.

    Raises DataError for a header whose times are in an unknown unit: they would be read as seconds.
    """
    remarks = [*takewhile(lambda line: _is_remark(line.text), head)]
    begun = [line for line in head[len(remarks) :] if line.text.strip()]
    if not begun:
        return AUDIOSET
    first = begun[0]
    if found := _by_header(first.text, first.number + 1):
        return found
    _require_known_times(first.text)
    said = [line.text.lstrip("# \t") for line in remarks if line.text.strip()]
    by_remark = _by_header(said[-1], first.number) if said else None
    candidates = [
        Dialect(columns, delimiter, first.number)
        for delimiter in DELIMITERS
        for columns in ([by_remark.columns] if by_remark and by_remark.delimiter == delimiter else [])
        + [*FORMS]
    ]
    rows = [line.text for line in begun if not _is_remark(line.text)]
    counts = [sum(_is_row(one, row) for row in rows) for one in candidates]
    return candidates[counts.index(max(counts))] if any(counts) else replace(AUDIOSET, first_row=first.number)


def columns_named(names: Sequence[str]) -> tuple[str | None, ...] | None:
    """What each column of these names holds; None if they name no segments."""
    plain = [_plain(name) for name in names]
    held: dict[int, str] = {}
    for column, known in NAMES.items():
        place = next((plain.index(name) for name in known if name in plain), None)
        if place is not None:
            held[place] = column
    found = set(held.values())
    has_start = "start" in found or "start_ms" in found
    if not ("file" in found or "segment_id" in found or ("video_id" in found and has_start)):
        return None
    return tuple(held.get(place) for place in range(len(names)))


def _plain(name: str) -> str:
    return re.sub(r"[\W_]+", "_", name.lower()).strip("_")


def _require_known_times(header: str) -> None:
    names = [_plain(name) for name in re.split(r"[,;&|\t]", header)]
    times = [name for name in names if OF_TIMES.search(name)]
    if times and any(name in NAMES["video_id"] for name in names):
        raise DataError(
            f"its header has times in a form that is not known ({', '.join(times)}): name them start and end in "
            "seconds, or start_ms and end_ms"
        )


def _is_remark(text: str) -> bool:
    return not text.strip() or text.startswith("#") or EXCEL.fullmatch(text.strip()) is not None


def _by_header(text: str, first_row: int) -> Dialect | None:
    for delimiter in DELIMITERS:
        try:
            names = next(csv.reader((text,), delimiter=delimiter, skipinitialspace=True))
        except csv.Error:
            continue
        if columns := columns_named(names):
            return Dialect(columns, delimiter, first_row, has_header=True)
    return None


IS_WELL_FORMED = {
    "video_id": VIDEO_ID.fullmatch,
    "start": SECONDS.fullmatch,
    "end": SECONDS.fullmatch,
    "clip": CLIP.fullmatch,
    "split": lambda text: bool(text) and text.lower() in SPLITS,
}


def _is_row(dialect: Dialect, text: str) -> bool:
    try:
        fields = dialect.fields(text)
    except ValueError:
        return False
    pairs = zip(dialect.columns, fields, strict=True)
    return all(IS_WELL_FORMED[column](field.strip()) for column, field in pairs if column in IS_WELL_FORMED)
