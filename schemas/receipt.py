"""A receipt: a dataset version without its media, from which others rebuild it and learn what differs, and why.

It has a row for each slot: id, times, split, labels, outcome, and the digests of its clip's packets, of its features
and of its sample. The file's metadata hold the version's settings and its shards. A video that was taken down appears
only as a mark: a salt and the hash of salt and id.
"""

# pyarrow.compute makes its functions when it is imported: a type checker cannot see them.
# pyright: reportAttributeAccessIssue=false

import hashlib
import json
import math
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from schemas.errors import DataError, MissingError, RequestError
from schemas.feature import Profile, stored_profile
from schemas.files import (
    DIGEST,
    canonical_json,
    digest_of,
    encoded_table,
    open_table,
    read_table,
    telling_damage,
    write_bytes,
)
from schemas.outcome import Outcome
from schemas.rules import ClipRules, FeatureRules, Rules, SegmentRules
from schemas.segment import SPLITS, VIDEO_ID
from schemas.shard import Shard, Version, make_version
from schemas.storage import readable

FORMAT = 1
METADATA_KEY = b"mcgurk-receipt"
DIGEST_BYTES = 16  # of each sha256: enough to tell 2 M clips apart, and halves the file
SALT_BYTES = 8
TAKEN_DOWN = (
    "forgotten-"  # followed by a mark in hex: the id of a hidden video, in a root built from a receipt
)
HIDDEN_ID = re.compile(rf"{TAKEN_DOWN}([0-9a-f]{{{2 * (SALT_BYTES + DIGEST_BYTES)}}})")
MAGIC = b"PAR1"  # of Parquet
TEXT = "BYTE_ARRAY"  # Parquet's name for texts
MOST_SEGMENTS = 10_000_000  # five times AudioSet; a row of nulls takes no space in the file, but much memory
MOST_BYTES = 1 << 31  # of unpacked pages; that many of our segments take 0.9 GB
BATCH_ROWS = 1000
MOST_PARTS = 1_000_000  # a part number has six digits
MOST_MS = 10**10  # into a video: about four months
NAME = re.compile(r"[\w .+-]{1,64}")  # of a profile: it is shown on pages and in YAML
# Of a profile: limits that no film, screen or ear exceeds.
BOUNDS = {
    "length_ms": (1, 600_000),
    "frame_rate_hz": (1e-3, 240),
    "frame_short_side_px": (1, 4320),
    "jpeg_quality": (1, 100),
    "sample_rate_hz": (1, 384_000),
    "channels": (1, 2),
}
NO_RECEIPT = "is not a receipt: name a file such as versions/DIGEST.receipt.parquet"
REMEDY = "get it again from its source"
_DIGEST = pa.binary(DIGEST_BYTES)
RECEIPT = pa.schema(
    [
        ("part", pa.int32()),
        ("row", pa.int32()),
        ("video_id", pa.string()),  # null, like all other names, if it was taken down
        ("start_ms", pa.int64()),
        ("end_ms", pa.int64()),
        ("is_open", pa.bool_()),
        ("split", pa.string()),
        ("labels", pa.list_(pa.string())),
        ("csv", pa.string()),  # the name of the list that it came from
        ("outcome", pa.string()),
        ("reason", pa.string()),
        (
            "packets",
            _DIGEST,
        ),  # of its clip, as computed by `tasks/media/cut.py`; null in rows from before there were any
        ("features", pa.list_(pa.struct([("name", pa.string()), ("digest", _DIGEST)]))),
        ("sample", _DIGEST),  # of all its members
        ("made_by", pa.string()),  # code and tools of its features
        ("is_excluded", pa.bool_()),  # is on the version's exclusion list
        ("mark", pa.binary(SALT_BYTES + DIGEST_BYTES)),  # of a video that was taken down
    ]
)
# Columns with few distinct values; a dictionary of digests or ids would only be a second copy of them.
REPEATED = (
    "split",
    "labels.list.element",
    "csv",
    "outcome",
    "reason",
    "features.list.element.name",
    "made_by",
)


@dataclass(frozen=True)
class Settings:
    """What a version is made with, besides its segments and their media."""

    profile: Profile
    rules: Rules = field(default_factory=Rules)
    labels: Mapping[str, tuple[int, str]] = field(default_factory=dict)  # machine id -> index, display name
    preset: str = ""


@dataclass(frozen=True)
class Receipt:
    """A version, its settings, and a row for each of its slots (schema RECEIPT, by part and row)."""

    version: Version
    settings: Settings
    table: pa.Table

    @property
    def keys(self) -> pa.Array:
        """The key of each slot; null if its video was taken down."""
        times = (self.table[name].cast(pa.string()) for name in ("start_ms", "end_ms"))
        return pc.binary_join_element_wise(self.table["video_id"], *times, "_").combine_chunks()

    @property
    def marks(self) -> set[bytes]:
        """The marks of the videos that were taken down."""
        return set(self.table["mark"].drop_null().to_pylist())


def mark_of(video_id: str, salt: bytes) -> bytes:
    """The mark that replaces a video that was taken down: it can be checked against a known id, but not read."""
    return salt + hashlib.sha256(salt + video_id.encode()).digest()[:DIGEST_BYTES]


def marked_among(marks: Collection[bytes], video_ids: Iterable[str]) -> set[str]:
    """The videos among `video_ids` that the marks stand for, including those that are named by their mark."""
    wanted = set(marks)
    salts = {mark[:SALT_BYTES] for mark in wanted}
    named = {f"{TAKEN_DOWN}{mark.hex()}" for mark in wanted}
    return {one for one in video_ids if one in named or any(mark_of(one, salt) in wanted for salt in salts)}


def salt_of(digest: str) -> bytes:
    """The salt of the marks in a version's receipt: derived from the version, so that the bytes are reproducible."""
    return bytes.fromhex(digest[: 2 * SALT_BYTES])


def write_receipt(path: Path, receipt: Receipt) -> None:
    """Writes a receipt completely or not at all."""
    settings = receipt.settings
    stored = {
        "format": FORMAT,
        "version": asdict(receipt.version),
        "rules": asdict(settings.rules),
        "labels": settings.labels,
        "preset": settings.preset,
    }
    plain = json.loads(canonical_json(stored))
    metadata = {METADATA_KEY: canonical_json({DIGEST: digest_of(plain), **plain}).encode()}
    table = receipt.table.replace_schema_metadata(metadata)
    write_bytes(path, encoded_table(table, compression="zstd", use_dictionary=list(REPEATED)))


def read_settings(path: Path) -> Settings:
    """The settings of a receipt's version; reads no rows."""
    _require_parquet(path)
    return _parsed(path, open_table(path, REMEDY).schema_arrow.metadata)[1]


def read_receipt(path: Path) -> Receipt:
    """A receipt. Raises MissingError if it is missing, RequestError if it is no receipt, DataError if it is damaged."""
    _require_parquet(path)
    _require_small(path)
    table = read_table(path, remedy=REMEDY)
    version, settings = _parsed(path, table.schema.metadata)
    table = table.replace_schema_metadata(None)
    if not table.schema.equals(RECEIPT):
        raise RequestError(f"{path}: its columns are not those of a receipt; {REMEDY}")
    receipt = Receipt(version, settings, table)
    if problem := _problem(receipt):
        raise RequestError(f"{path}: {problem}; {REMEDY}")
    return receipt


def _require_parquet(path: Path) -> None:
    if not path.is_file():
        raise MissingError(f"{path}: there is no such receipt")
    with path.open("rb") as file:
        if file.read(len(MAGIC)) != MAGIC:
            raise RequestError(f"{path} {NO_RECEIPT}")


def _require_small(path: Path) -> None:
    """Raises RequestError for a file that would not fit into memory, even if the file itself is small."""
    metadata = open_table(path, REMEDY).metadata
    groups = [metadata.row_group(number) for number in range(metadata.num_row_groups)]
    columns = [one.column(at) for one in groups for at in range(one.num_columns)]
    rows = max((metadata.num_rows, *(one.num_values for one in columns)))
    size_bytes = sum(one.total_byte_size for one in groups)
    if rows <= MOST_SEGMENTS and size_bytes <= MOST_BYTES:
        texts = {
            one.path_in_schema for one in columns if one.physical_type == TEXT and one.has_dictionary_page
        }
        size_bytes += sum(_text_bytes(path, name) for name in sorted(texts))
    if rows > MOST_SEGMENTS or size_bytes > MOST_BYTES:
        raise RequestError(
            f"{path} has {rows:,} values and {size_bytes:,} bytes: no receipt is that large; {REMEDY}"
        )


def _text_bytes(path: Path, name: str) -> int:
    """The size of a column of texts in memory: the file holds each text once, a table once per row."""
    size_bytes = 0
    with telling_damage(path, REMEDY):
        file = pq.ParquetFile(readable(path), read_dictionary=[name], pre_buffer=False)
        for group in range(file.num_row_groups):
            try:
                column = file.read_row_group(group, columns=[name], use_threads=False).column(0)
                size_bytes += sum(_expanded_bytes(chunk) for chunk in column.chunks)
            except pa.ArrowNotImplementedError:  # nested, and with so many texts that the file repeats them
                plain = pq.ParquetFile(readable(path), pre_buffer=False)
                for batch in plain.iter_batches(BATCH_ROWS, [group], [name], use_threads=False):
                    size_bytes += batch.nbytes
                    if size_bytes > MOST_BYTES:
                        return size_bytes
    return size_bytes


def _expanded_bytes(texts: pa.Array) -> int:
    while not pa.types.is_dictionary(texts.type):
        texts = texts.field(0) if pa.types.is_struct(texts.type) else texts.flatten()
    return pc.sum(pc.binary_length(texts.dictionary).take(texts.indices)).as_py() or 0


def _parsed(path: Path, metadata: Mapping[bytes, bytes] | None) -> tuple[Version, Settings]:
    """The version and its settings from a receipt's metadata."""
    if METADATA_KEY not in (metadata or {}):
        raise RequestError(f"{path} {NO_RECEIPT}")
    try:
        stored = json.loads(metadata[METADATA_KEY])  # pyright: ignore[reportOptionalSubscript]
        digest = stored.pop(DIGEST)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise DataError(f"{path} is damaged: its metadata can't be read ({error}); {REMEDY}") from error
    if digest != digest_of(stored):
        raise DataError(f"{path} is damaged: its metadata are not those that were written; {REMEDY}")
    if stored.get("format") != FORMAT:
        raise RequestError(
            f"{path} has format {stored.get('format')}, and this mcgurk reads format {FORMAT}: use the mcgurk that "
            "made it"
        )
    try:
        version = _version(stored["version"])
        rules = _rules(stored["rules"])
        settings = Settings(version.profile, rules, _labels(stored["labels"]), stored["preset"])
        _require_sound(version, settings)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise RequestError(
            f"{path} was made with settings that this mcgurk does not know ({error}): use the mcgurk that made it"
        ) from error
    return version, settings


def _version(stored: Mapping[str, Any]) -> Version:
    shards = [Shard(**one) for one in stored["shards"]]
    return Version(stored["digest"], stored_profile(stored["profile"]), stored["fields"], shards)


def _rules(stored: Mapping[str, Any]) -> Rules:
    kinds = {"segments": SegmentRules, "clips": ClipRules, "features": FeatureRules}
    of_kinds = {name: kind(**stored[name]) for name, kind in kinds.items()}
    return Rules(**{**stored, **of_kinds})


def _labels(stored: Mapping[str, Any]) -> dict[str, tuple[int, str]]:
    """The names of labels, as a table of labels may hold them. Raises ValueError for others."""
    labels = {mid: (number, name) for mid, (number, name) in stored.items()}
    for mid, (number, name) in labels.items():
        if not (mid.encode() and name.encode() and type(number) is int and number >= 0):
            raise ValueError(f"the label {mid!r} is {number!r}, {name!r}")
    return labels


def _require_sound(version: Version, settings: Settings) -> None:
    """Raises ValueError for settings that can't be built, and for a digest that is not the version's."""
    for one in (version.profile, settings.rules, *version.shards):
        _require_types(one)
    if not all(isinstance(one, str) for one in (settings.preset, *version.fields)):
        raise ValueError("a name is not text")
    if not NAME.fullmatch(version.profile.name):
        raise ValueError(f"a profile is named {version.profile.name!r}")
    for name, (least, most) in BOUNDS.items():
        if not least <= getattr(version.profile, name) <= most:
            raise ValueError(f"{name} is {getattr(version.profile, name)}")
    if make_version(version.profile, version.fields, version.shards).digest != version.digest:
        raise ValueError("its digest is not that of its shards")


def _require_types(value: Any) -> None:
    """Raises ValueError if a field of a dataclass does not have its type: JSON can hold anything."""
    hints = get_type_hints(type(value))
    for name in (one.name for one in fields(value)):
        held = getattr(value, name)
        if is_dataclass(held):
            _require_types(held)
        elif not _is_of(held, hints[name]):
            raise ValueError(f"{name} is {held!r}")


def _is_of(value: Any, hint: Any) -> bool:
    if get_origin(hint) is Literal:
        return value in get_args(hint)
    if get_origin(hint) is tuple:
        return all(isinstance(one, str) for one in value)
    if hint is float:
        return type(value) in (int, float) and math.isfinite(value)
    return type(value) is hint


def _problem(receipt: Receipt) -> str:
    """Why the slots can't be used; empty if they can. Ids become file names, and places become parts."""
    table = receipt.table
    if not table.num_rows:
        return "it has no segment"
    ids = table["video_id"].drop_null()
    if wrong := next((one for one in ids.to_pylist() if not _is_id(one)), None):
        return f"{wrong[:80]!r} is not a video id"
    named = table.filter(pc.is_valid(table["video_id"]))
    start = named["start_ms"].to_numpy()
    end = named["end_ms"].to_numpy()
    is_there = named["start_ms"].null_count == named["end_ms"].null_count == 0
    if not (is_there and np.all((start >= 0) & (start < end) & (end <= MOST_MS))):
        return "a segment does not end after its start, or its times are not those of a video"
    if pc.any(pc.invert(pc.is_in(table["split"], pa.array(SPLITS)))).as_py():
        return f"a split is not one of {', '.join(SPLITS)}"
    if pc.any(pc.equal(pc.is_null(table["video_id"]), pc.is_null(table["mark"]))).as_py():
        return "a slot has neither an id nor a mark, or both"
    if pc.any(pc.invert(pc.is_in(table["outcome"], pa.array(list(map(str, Outcome)))))).as_py():
        return "an outcome is unknown"
    return _problem_of_texts(table) or _problem_of_order(receipt)


def _is_id(text: str) -> bool:
    """Whether a text names a video; a hidden id, as in a root that was built from a receipt, does not."""
    return bool(VIDEO_ID.fullmatch(text)) and not HIDDEN_ID.fullmatch(text)


def _problem_of_texts(table: pa.Table) -> str:
    """The same for labels, reasons and features."""
    labels = table["labels"]
    is_hidden = pc.is_null(table["video_id"])
    if pc.any(pc.and_not(pc.is_null(labels), is_hidden)).as_py() or pc.list_flatten(labels).null_count:
        return "a segment has no list of labels, or a label has no name"
    if table["reason"].null_count:
        return "an outcome has no reason"
    digests = pc.list_flatten(table["features"]).combine_chunks()
    if digests.null_count or digests.field("name").null_count:
        return "a feature has no name"
    return ""


def _problem_of_order(receipt: Receipt) -> str:
    """The same for places: no segment has two, and all rows of a part, and of a video, are in one split."""
    table = receipt.table
    keys = receipt.keys.drop_null()
    if pc.count_distinct(keys).as_py() != len(keys):
        return "two slots hold the same segment"
    if not _is_in_slot_order(table):
        return "its slots are not in order"
    named = table.filter(pc.is_valid(table["video_id"]))
    for whole, rows in (("part", table), ("video_id", named)):
        splits = rows.group_by(whole).aggregate([("split", "count_distinct")])["split_count_distinct"]
        if pc.any(pc.greater(splits, 1)).as_py():
            return f"one {whole} is in several splits"
    return ""


def _is_in_slot_order(table: pa.Table) -> bool:
    """Whether parts ascend, and the rows of each count from 0."""
    parts = table["part"].to_numpy()
    rows = table["row"].to_numpy()
    begins = np.flatnonzero(np.r_[True, np.diff(parts) != 0])
    expected = np.arange(len(rows)) - np.repeat(begins, np.diff(np.r_[begins, len(rows)]))
    return bool(
        parts[0] >= 0 and parts[-1] < MOST_PARTS and np.all(np.diff(parts) >= 0) and np.all(rows == expected)
    )
