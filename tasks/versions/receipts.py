"""Receipts: made from the manifests when a version is published, and cleaned when a video is taken down."""

# pyarrow.compute makes its functions when it is imported: a type checker cannot see them.
# pyright: reportAttributeAccessIssue=false

import logging
from collections.abc import Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from schemas import layout
from schemas.errors import DataError, RequestError
from schemas.files import MEND, write_bytes
from schemas.manifest import part_numbers, part_path
from schemas.outcome import Outcome
from schemas.receipt import (
    DIGEST_BYTES,
    HIDDEN_ID,
    RECEIPT,
    Receipt,
    Settings,
    mark_of,
    marked_among,
    read_receipt,
    salt_of,
    write_receipt,
)
from schemas.shard import Version, latest_digest, published, read_exclusions, receipt_path
from schemas.storage import remove
from tasks.columns import read_columns
from tasks.funnel import PENDING
from tasks.tombstones import read_tombstones

log = logging.getLogger(__name__)

READERS = 8  # parts processed at once, because those of a store have to be waited for
KEPT = "receipt.parquet"  # in segments/: the receipt from which a root is built
OF_SLOT = ("start_ms", "end_ms", "is_open", "split", "labels", "csv", "row")
FATE = ("outcome", "reason")
OF_PLACE = ("part", "row", "split")  # what is kept of a slot whose video was taken down
MARK = RECEIPT.field("mark").type


def kept_path(root: Path) -> Path:
    """The path of the receipt from which `root` is built, if it is built from one."""
    return root / layout.SEGMENTS / KEPT


def keep(root: Path, path: Path, receipt: Receipt) -> None:
    """Keeps a copy of the receipt at `path` in `root`, without the videos that were taken down here."""
    forgotten = set(read_tombstones(root)).intersection(receipt.table["video_id"].to_pylist())
    if forgotten:
        write_receipt(kept_path(root), _hiding(receipt, forgotten))
    else:
        write_bytes(kept_path(root), path.read_bytes())


def is_kept(root: Path, path: Path) -> bool:
    """Whether the receipt at `path` is the copy in `root`, or an intact copy already exists there."""
    try:
        return path == kept_path(root) or bool(read_receipt(kept_path(root)))
    except (DataError, RequestError):
        return False


def make_receipt(root: Path, version: Version, settings: Settings) -> Receipt:
    """The receipt of a version whose shards exist, from the manifests; its exclusion list must exist.

    Raises DataError if a manifest has other rows than the index.
    """
    excluded = pa.array(sorted(read_exclusions(root, version.digest)), pa.string())
    salt = salt_of(version.digest)
    of_part = partial(_of_part, root, excluded, salt)
    with ThreadPoolExecutor(READERS) as readers:
        tables = list(readers.map(of_part, part_numbers(root / layout.SEGMENTS)))
    return _named(Receipt(version, settings, pa.concat_tables([RECEIPT.empty_table(), *tables])))


def _named(receipt: Receipt) -> Receipt:
    """A receipt with the names of those labels that its segments have, and no others."""
    labels = receipt.settings.labels
    there = pc.unique(pc.list_flatten(receipt.table["labels"])).to_pylist()
    named = {label: labels[label] for label in there if label in labels}
    return replace(receipt, settings=replace(receipt.settings, labels=named))


def _of_part(root: Path, excluded: pa.Array, salt: bytes, part: int) -> pa.Table:
    slots = read_columns(root / layout.SEGMENTS, [part], ("key", "video_id", *FATE, *OF_SLOT))
    furthest = next(name for name in layout.MANIFESTS if part_path(root / name, part).is_file())
    fate = _joined(root, furthest, part, slots, FATE)
    clips = _joined(root, layout.CLIPS, part, slots, ("packets",))
    made = _joined(root, layout.FEATURES, part, slots, ("features", "made_by"))
    packed = _joined(root, layout.SHARDS, part, slots, ("outcome", "digest"))
    is_packed = pc.fill_null(pc.equal(packed["outcome"], Outcome.OK.value), False)
    columns = {
        "part": pa.repeat(part, slots.num_rows),
        **{name: slots[name] for name in ("video_id", *OF_SLOT)},
        **_fate(fate, is_packed=furthest == layout.SHARDS),
        "packets": _binary(clips["packets"]),
        "features": _features(made["features"]),
        "sample": _binary(pc.if_else(is_packed, packed["digest"], pa.scalar(None, pa.string()))),
        "made_by": made["made_by"],
        "is_excluded": pc.is_in(slots["key"], excluded),
        "mark": pa.nulls(slots.num_rows),
    }
    table = pa.table([columns[name] for name in RECEIPT.names], RECEIPT.names).cast(RECEIPT)
    is_taken_down = pc.equal(slots["outcome"], Outcome.FORGOTTEN.value)
    return _hidden(table, is_taken_down, salt) if pc.any(is_taken_down).as_py() else table


def _fate(table: pa.Table, *, is_packed: bool) -> dict[str, pa.ChunkedArray]:
    """Outcome and reason from the furthest manifest, as the funnel counts them."""
    if is_packed:
        return {name: table[name] for name in FATE}
    is_pending = pc.equal(table["outcome"], Outcome.OK.value)
    pending = {"outcome": Outcome.WAITING.value, "reason": PENDING}
    return {name: pc.if_else(is_pending, pending[name], table[name]) for name in FATE}


def _joined(root: Path, manifest: str, part: int, slots: pa.Table, columns: Sequence[str]) -> pa.Table:
    """Columns of a manifest's part, slot by slot; null if there is no such part yet."""
    path = part_path(root / manifest, part)
    if not path.is_file():
        return pa.table({name: pa.nulls(slots.num_rows, pa.string()) for name in columns})
    table = read_columns(root / manifest, [part], ("key", *columns))
    if not table["key"].equals(slots["key"]):
        raise DataError(f"{path} is damaged: its rows are not those of the index; {MEND}")
    return table


def _binary(column: pa.ChunkedArray) -> pa.Array:
    """The first DIGEST_BYTES of digests in hex; null if there is none."""
    texts = [(text or "")[: 2 * DIGEST_BYTES] for text in column.to_pylist()]
    return pa.array([bytes.fromhex(text) if text else None for text in texts], RECEIPT.field("sample").type)


def _features(column: pa.ChunkedArray) -> pa.Array:
    """Names and digests of the features of each slot; an empty list if there are none."""
    kind = RECEIPT.field("features").type
    if pa.types.is_string(column.type):
        return pa.array([[]] * len(column), kind)
    counts = pc.fill_null(pc.list_value_length(column), 0).to_numpy()
    entries = pc.list_flatten(column).combine_chunks()
    digests = _binary(pa.chunked_array([entries.field("digest")]))
    pairs = pa.StructArray.from_arrays([entries.field("name"), digests], fields=list(kind.value_type))
    return pa.ListArray.from_arrays(pa.array(np.r_[0, np.cumsum(counts)], pa.int32()), pairs, type=kind)


def _hidden(table: pa.Table, is_hidden: pa.ChunkedArray, salt: bytes) -> pa.Table:
    """The table with a mark in place of everything that names a video in the slots `is_hidden`."""
    pairs = zip(table["video_id"].to_pylist(), is_hidden.to_pylist(), strict=True)
    marks = pa.array(
        [_mark(video_id, salt) if hides and video_id else None for video_id, hides in pairs], MARK
    )
    left = {"outcome": Outcome.FORGOTTEN.value, "reason": "", "is_excluded": False}
    kept = {name: table[name] for name in OF_PLACE} | {
        "mark": pc.coalesce(marks, table["mark"].combine_chunks())
    }
    columns = [
        kept.get(
            field.name, pc.if_else(is_hidden, pa.scalar(left.get(field.name), field.type), table[field.name])
        )
        for field in RECEIPT
    ]
    return pa.table(columns, RECEIPT)


def _mark(video_id: str, salt: bytes) -> bytes:
    """The mark of a video; the mark in its name, if a receipt has hidden its id already."""
    hidden = HIDDEN_ID.fullmatch(video_id)
    return bytes.fromhex(hidden[1]) if hidden else mark_of(video_id, salt)


def succeed(root: Path, before: str, successor: Version, video_ids: Collection[str]) -> None:
    """Writes the receipt of a version that replaces `before` after a take-down, if `before` has an intact one."""
    if receipt := _read_or_removed(receipt_path(root, before)):
        table = _without(receipt.table, video_ids, salt_of(successor.digest))
        made = _named(replace(receipt, version=successor, table=table))
        write_receipt(receipt_path(root, successor.digest), made)


def forget(root: Path, video_ids: Collection[str]) -> list[Path]:
    """Hides videos in all receipts under a root; returns the receipts that named one, or may have named one.

    Raises DataError if the receipt from which the root is built is damaged.
    """
    changed = []
    for path in (kept_path(root), *(receipt_path(root, digest) for digest in published(root))):
        if not path.is_file():
            continue
        receipt = read_receipt(path) if path == kept_path(root) else _read_or_removed(path)
        if receipt is None:
            changed.append(path)
        elif pc.any(pc.is_in(receipt.table["video_id"], pa.array(list(video_ids)))).as_py():
            write_receipt(path, _hiding(receipt, video_ids))
            changed.append(path)
    return changed


def _read_or_removed(path: Path) -> Receipt | None:
    """The receipt of a version; None if there is none. A damaged one is removed: it may name what is taken down.

    A build rewrites the receipt of the latest version. Older versions need none, and nothing recreates theirs.
    """
    try:
        return read_receipt(path) if path.is_file() else None
    except (DataError, RequestError) as error:
        log.warning("%s: removed, since it may name what is taken down", error)
        remove(path)
        return None


def _hiding(receipt: Receipt, video_ids: Collection[str]) -> Receipt:
    """The receipt without these videos, whose slots stay."""
    return _named(replace(receipt, table=_without(receipt.table, video_ids, salt_of(receipt.version.digest))))


def _without(table: pa.Table, video_ids: Collection[str], salt: bytes) -> pa.Table:
    """The table without these videos, whose slots stay."""
    return _hidden(table, pc.is_in(table["video_id"], pa.array(list(video_ids), pa.string())), salt)


def problem_of(root: Path, digest: str) -> str:
    """What is wrong with a version's receipt; empty if nothing is. Versions older than the latest may lack one."""
    path = receipt_path(root, digest)
    if not path.is_file():
        return (
            f"{path.name} beside it: missing; `mcgurk build` writes it again"
            if _is_latest(root, digest)
            else ""
        )
    try:
        named = read_receipt(path).version.digest
    except (DataError, RequestError) as error:
        return f"{path.name} beside it is not readable: {error}"
    return "" if named == digest else f"{path.name} beside it is that of version {named}"


def _is_latest(root: Path, digest: str) -> bool:
    """Whether a version is the latest; false if the file that records it is damaged."""
    try:
        return digest == latest_digest(root)
    except DataError:
        return False


def hidden_among(root: Path, video_ids: Collection[str]) -> set[str]:
    """The videos among `video_ids` that the receipt of `root` hides: they were taken down elsewhere."""
    path = kept_path(root)
    return marked_among(read_receipt(path).marks, video_ids) if video_ids and path.is_file() else set()
