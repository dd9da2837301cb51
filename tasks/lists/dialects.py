"""The dialect of a table of segments, found from its first lines: the separator, and the meaning of each column.

Columns are known by the names in their header, or without a header by their positions in the published formats.
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
MACHINE_IDS = re.compile(rf"{MACHINE_ID}(?:, ?{MACHINE_ID})*")
# VGGSound's ID_000030.mp4
CLIP = re.compile(r"(?:[^,;&|\t]*[/\\])?([A-Za-z0-9_-]{1,64})_([0-9]{6})(?:\.[A-Za-z0-9]{1,5})?")
SPLITS = {
    "train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val", "dev": "val",
    "test": "eval", "testing": "eval", "eval": "eval", "evaluation": "eval", "": "",
}  # fmt: skip
# Names of columns, in the order in which they are believed where a table has several. `id` may be a mere number.
NAMES = {
    "video_id": (
        "ytid", "youtube_id", "yt_id", "video_id", "videoid", "vid", "youtube_video_id", "video", "id",
    ),
    "start": ("start_seconds", "start", "start_s", "start_sec", "start_time", "starttime", "start_time_seconds",
              "time_start", "begin"),
    "end": ("end_seconds", "end", "end_s", "end_sec", "end_time", "endtime", "end_time_seconds", "time_end", "stop"),
    "labels": ("positive_labels", "labels", "label", "category", "class", "class_name"),
    "split": ("split", "set", "subset", "partition"),
    "file": ("file", "path", "filename", "file_name", "filepath", "file_path", "video_path", "video_file"),
    "segment_id": ("segment_id", "segmentid"),
}  # fmt: skip


@dataclass(frozen=True)
class Dialect:
    """What each column holds (a name of NAMES or `clip`, None for what is not used), and where the rows begin."""

    columns: tuple[str | None, ...]
    delimiter: str = ","
    first_row: int = 1  # number of the line
    has_header: bool = False  # then nothing after it is a comment: a file may be called `#1.mp4`

    @property
    def shown(self) -> str:
        """The form of a line, for people."""
        between = "<tab>" if self.delimiter == "\t" else self.delimiter
        return between.join(one or "..." for one in self.columns)

    def fields(self, line: str) -> list[str]:
        """The fields of a line. Raises DataError for one that is not closed, or of another number than columns."""
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
                ]  # whose quotes are missing
            if missing == 1 and not self.has_header:
                return [*found, ""]
        raise DataError(f"not of the form `{self.shown}`: {line[:80]!r}")


# Without a header: AVE's, VGGSound's test.csv, AudioSet's, vggsound.csv. No row is of two of them, but for one of
# AudioSet's whose only label is called `train`.
AUDIOSET = Dialect(("video_id", "start", "end", "labels"))
FORMS = (
    ("labels", "video_id", None, "start", "end"),
    ("clip", "labels"),
    AUDIOSET.columns,
    ("video_id", "start", "labels", "split"),
)


def dialect_of(head: Sequence[Line]) -> Dialect:
    """The dialect of a table that begins with `head`; AudioSet's where nothing in it is well-formed."""
    remarks = [*takewhile(lambda line: _is_remark(line.text), head)]
    begun = [line for line in head[len(remarks) :] if line.text.strip()]
    if not begun:
        return AUDIOSET
    first = begun[0]
    if found := _by_header(first.text, first.number + 1):
        return found
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
    """What each of the columns of these names holds; None where they name no segments."""
    plain = [re.sub(r"[\W_]+", "_", name.lower()).strip("_") for name in names]
    held: dict[int, str] = {}
    for column, known in NAMES.items():
        place = next((plain.index(name) for name in known if name in plain), None)
        if place is not None:
            held[place] = column
    found = set(held.values())
    if not ("file" in found or "segment_id" in found or {"video_id", "start"} <= found):
        return None
    return tuple(held.get(place) for place in range(len(names)))


def _is_remark(text: str) -> bool:
    return not text.strip() or text.startswith("#")


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
