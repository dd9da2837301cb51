"""A receipt: a dataset version without its media, by which others build it again and learn what differs, and why.

It has a row for each slot: id, times, split, labels, what became of it, and digests of its clip's packets, of its
features and of its sample. The file's metadata hold what the version was made by, and its shards. A video that was
taken down is in it as a mark only: a salt and the hash of salt and id.
"""

# pyarrow.compute makes its functions when it is imported: a type checker cannot see them.
# pyright: reportAttributeAccessIssue=false

import hashlib
import json
from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from schemas.errors import DataError, MissingError, RequestError
from schemas.feature import Profile, stored_profile
from schemas.files import (
    DIGEST,
    canonical_json,
    digest_of,
    encoded_table,
    open_table,
    read_table,
    write_bytes,
)
from schemas.outcome import Outcome
from schemas.rules import ClipRules, FeatureRules, Rules, SegmentRules
from schemas.segment import SPLITS, VIDEO_ID
from schemas.shard import Shard, Version

FORMAT = 1
METADATA_KEY = b"mcgurk-receipt"
DIGEST_BYTES = 16  # of each sha256: enough to tell 2 M clips apart, and half the file
SALT_BYTES = 8
TAKEN_DOWN = (
    "forgotten-"  # and a mark in hex: the id, in a root that was built by a receipt, of a video that it hides
)
MAGIC = b"PAR1"  # of Parquet
NO_RECEIPT = "is no receipt: name a file such as versions/DIGEST.receipt.parquet"
REMEDY = "get it again from where you have it"
_DIGEST = pa.binary(DIGEST_BYTES)
RECEIPT = pa.schema(
    [
        ("part", pa.int32()),
        ("row", pa.int32()),
        ("video_id", pa.string()),  # null, as all that names it, where it was taken down
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
        ),  # of its clip, as `tasks/media/cut.py` takes it; null for one of before there were any
        ("features", pa.list_(pa.struct([("name", pa.string()), ("digest", _DIGEST)]))),
        ("sample", _DIGEST),  # of all its members
        ("made_by", pa.string()),  # code and tools of its features
        ("is_excluded", pa.bool_()),  # is on the version's exclusion list
        ("mark", pa.binary(SALT_BYTES + DIGEST_BYTES)),  # of a video that was taken down
    ]
)
# Columns with few values; a dictionary of digests or ids would only be a second copy of them.
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
    """What a version is made by, besides its segments and their media."""

    profile: Profile
    rules: Rules = field(default_factory=Rules)
    labels: Mapping[str, tuple[int, str]] = field(default_factory=dict)  # machine id -> index, display name
    preset: str = ""


@dataclass(frozen=True)
class Receipt:
    """A version, what it was made by, and a row for each of its slots (schema RECEIPT, by part and row)."""

    version: Version
    settings: Settings
    table: pa.Table

    @property
    def keys(self) -> pa.Array:
        """The key of each slot; null where it was taken down."""
        times = (self.table[name].cast(pa.string()) for name in ("start_ms", "end_ms"))
        return pc.binary_join_element_wise(self.table["video_id"], *times, "_").combine_chunks()

    @property
    def marks(self) -> set[bytes]:
        """The marks of the videos that were taken down."""
        return set(self.table["mark"].drop_null().to_pylist())


def mark_of(video_id: str, salt: bytes) -> bytes:
    """What stands for a video that was taken down: who has its id can ask for it, and nobody can read it."""
    return salt + hashlib.sha256(salt + video_id.encode()).digest()[:DIGEST_BYTES]


def marked_among(marks: Collection[bytes], video_ids: Iterable[str]) -> set[str]:
    """The videos of `video_ids` that marks stand for, also those that are named by their mark."""
    wanted = set(marks)
    salts = {mark[:SALT_BYTES] for mark in wanted}
    named = {f"{TAKEN_DOWN}{mark.hex()}" for mark in wanted}
    return {one for one in video_ids if one in named or any(mark_of(one, salt) in wanted for salt in salts)}


def salt_of(digest: str) -> bytes:
    """The salt of the marks that a version's receipt makes: it depends on the version, so that bytes do not vary."""
    return bytes.fromhex(digest[: 2 * SALT_BYTES])


def write_receipt(path: Path, receipt: Receipt) -> None:
    """Writes a receipt whole or not at all."""
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
    """What the version of a receipt was made by; reads no row."""
    _require_parquet(path)
    return _parsed(path, open_table(path, REMEDY).schema_arrow.metadata)[1]


def read_receipt(path: Path) -> Receipt:
    """A receipt. Raises MissingError for none, RequestError for what is none, DataError for a damaged one."""
    _require_parquet(path)
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


def _parsed(path: Path, metadata: Mapping[bytes, bytes] | None) -> tuple[Version, Settings]:
    """The version and its settings out of a receipt's metadata."""
    if METADATA_KEY not in (metadata or {}):
        raise RequestError(f"{path} {NO_RECEIPT}")
    try:
        stored = json.loads(metadata[METADATA_KEY])  # pyright: ignore[reportOptionalSubscript]
        digest = stored.pop(DIGEST)
    except (ValueError, KeyError, AttributeError) as error:
        raise DataError(f"{path} is damaged: its metadata are no record ({error}); {REMEDY}") from error
    if digest != digest_of(stored):
        raise DataError(f"{path} is damaged: its metadata are not those that were written; {REMEDY}")
    if stored.get("format") != FORMAT:
        raise RequestError(
            f"{path} has format {stored.get('format')}, and this mcgurk reads format {FORMAT}: take the mcgurk that "
            "made it"
        )
    try:
        version = _version(stored["version"])
        labels = {mid: (int(number), str(name)) for mid, (number, name) in stored["labels"].items()}
        settings = Settings(version.profile, _rules(stored["rules"]), labels, stored["preset"])
    except (KeyError, TypeError, ValueError) as error:
        raise RequestError(
            f"{path} was made by settings that this mcgurk does not know ({error}): take the mcgurk that made it"
        ) from error
    return version, settings


def _version(stored: Mapping[str, Any]) -> Version:
    shards = [Shard(**one) for one in stored["shards"]]
    return Version(stored["digest"], stored_profile(stored["profile"]), stored["fields"], shards)


def _rules(stored: Mapping[str, Any]) -> Rules:
    kinds = {"segments": SegmentRules, "clips": ClipRules, "features": FeatureRules}
    of_kinds = {name: kind(**stored[name]) for name, kind in kinds.items()}
    return Rules(**{**stored, **of_kinds})


def _problem(receipt: Receipt) -> str:
    """What a list of slots may not be, since ids become file names and places become parts; empty where it is fine."""
    table = receipt.table
    if not table.num_rows:
        return "it has no segment"
    ids = table["video_id"].drop_null()
    if wrong := next((one for one in ids.to_pylist() if not VIDEO_ID.fullmatch(one)), None):
        return f"{wrong[:80]!r} is no video id"
    named = table.filter(pc.is_valid(table["video_id"]))
    start = named["start_ms"].to_numpy()
    end = named["end_ms"].to_numpy()
    if named["start_ms"].null_count or named["end_ms"].null_count or not np.all((start >= 0) & (start < end)):
        return "a segment does not end after its start"
    if pc.any(pc.invert(pc.is_in(table["split"], pa.array(SPLITS)))).as_py():
        return f"a split is none of {', '.join(SPLITS)}"
    if pc.any(pc.and_(pc.is_null(table["video_id"]), pc.is_null(table["mark"]))).as_py():
        return "a slot has neither an id nor a mark"
    if pc.any(pc.invert(pc.is_in(table["outcome"], pa.array(list(map(str, Outcome)))))).as_py():
        return "an outcome is none"
    keys = receipt.keys.drop_null()
    if pc.count_distinct(keys).as_py() != len(keys):
        return "two slots hold the same segment"
    return "" if _is_in_slot_order(table) else "its slots are not in order"


def _is_in_slot_order(table: pa.Table) -> bool:
    """Whether parts ascend, and the rows of each count from 0."""
    parts = table["part"].to_numpy()
    rows = table["row"].to_numpy()
    begins = np.flatnonzero(np.r_[True, np.diff(parts) != 0])
    expected = np.arange(len(rows)) - np.repeat(begins, np.diff(np.r_[begins, len(rows)]))
    return bool(parts[0] >= 0 and np.all(np.diff(parts) >= 0) and np.all(rows == expected))
