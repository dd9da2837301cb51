"""Index from a receipt: the segments of a version that was built elsewhere -> the manifest `segments`, slot by slot."""

# pyarrow.compute makes its functions when it is imported: a type checker cannot see them.
# pyright: reportAttributeAccessIssue=false

import logging
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from schemas import layout
from schemas.errors import DataError, RequestError
from schemas.files import read_table, sha256_of_file, write_json
from schemas.manifest import Row
from schemas.receipt import REMEDY, TAKEN_DOWN, Receipt, read_receipt
from schemas.segment import SEGMENTS, segment_key
from tasks import inventory
from tasks.index import NewPart, recorded_lists, write_parts
from tasks.lists.labels import put_labels
from tasks.tombstones import forgotten_row, read_tombstones, write_tombstones
from tasks.versions.receipts import keep, kept_path

log = logging.getLogger(__name__)

OF_RECEIPT = ("part", "row", "video_id", "start_ms", "end_ms", "is_open", "split", "labels", "csv", "mark")


def index_receipt(root: Path, path: Path) -> int:
    """Deals the slots of the receipt at `path` for the parts that are missing; returns how many parts were dealt.

    Later builds use a copy that is kept in the root. Raises RequestError if the root has other segments.
    """
    inventory.restore(root)
    receipt = read_receipt(path)
    require_same(root, receipt)
    parts = parts_of(root, receipt)
    sha256 = sha256_of_file(path)
    if path != kept_path(root):
        put_labels(root / layout.SEGMENTS, receipt.settings.labels)
        facts = {
            "file": path.name,
            "segments": receipt.table.num_rows,
            "malformed": [],
            inventory.IS_RECEIPT: True,
        }
        write_json(root / layout.SEGMENTS / inventory.LISTS, {**recorded_lists(root), sha256: facts})
        keep(root, path, receipt)  # last: once it is there, later builds need no other
    hidden = {f"{TAKEN_DOWN}{mark.hex()}" for mark in receipt.marks} - set(read_tombstones(root))
    if hidden:
        write_tombstones(root, hidden, {}, is_done=True)
    write_parts(root, parts)
    known = {one.part: inventory.dealt(one.table["key"].to_pylist(), (sha256,)) for one in parts}
    if parts:
        inventory.write_inventory(root, {**inventory.read_inventory(root), **known})
        log.info("index: %d parts of the receipt of version %s", len(parts), receipt.version.digest[:12])
    return len(parts)


def require_same(root: Path, receipt: Receipt) -> None:
    """Raises RequestError if `root` has segments that do not come from this receipt.

    If the copy in the root is gone or damaged, the parts that were dealt from it are compared instead.
    """
    try:
        is_same = read_receipt(kept_path(root)).version.digest == receipt.version.digest
    except (DataError, RequestError):
        is_same = not inventory.standing_parts(root) or _was_dealt(root, receipt)
    if not is_same:
        raise RequestError(
            f"{root} has other segments than the receipt: build the receipt into a separate root"
        )


def require_kept(root: Path) -> None:
    """Raises DataError if `root` is built from a receipt whose copy is gone: only it records profile and rules."""
    if inventory.is_by_receipt(root) and not kept_path(root).is_file():
        raise DataError(
            f"{kept_path(root)}, from which {root} is built, is gone: name the receipt again with --receipt"
        )


def _was_dealt(root: Path, receipt: Receipt) -> bool:
    """Whether every part of the inventory has the slots of this receipt, and was dealt from a receipt."""
    table = receipt.table
    slots = {
        part: _slots(table.filter(pc.equal(table["part"], part)))
        for part in pc.unique(table["part"]).to_pylist()
    }
    dealt = {part: inventory.dealt(one["key"].to_pylist()).keys for part, one in slots.items()}
    return inventory.is_by_receipt(root) and all(
        dealt.get(part) == one.keys for part, one in inventory.read_inventory(root).items()
    )


def missing_parts(root: Path, path: Path) -> list[int]:
    """The parts of the receipt at `path` that do not exist under `root`.

    Of the copy in the root, which was checked when it was dealt, only one column is read, because plans run hourly.
    """
    if path == kept_path(root):
        return _missing(root, read_table(path, ("part",), remedy=REMEDY))
    return _missing(root, read_receipt(path).table)


def parts_of(root: Path, receipt: Receipt) -> list[NewPart]:
    """The parts of a receipt that `root` lacks; the mark of a video that was taken down serves as its name."""
    table = receipt.table
    return [
        NewPart(part, _slots(table.filter(pc.equal(table["part"], part)))) for part in _missing(root, table)
    ]


def _missing(root: Path, table: pa.Table) -> list[int]:
    standing = set(inventory.standing_parts(root))
    return [part for part in pc.unique(table["part"]).to_pylist() if part not in standing]


def _slots(rows: pa.Table) -> pa.Table:
    """A part of a receipt as a part of the index."""
    named = [_slot(row) for row in rows.select(OF_RECEIPT).to_pylist()]
    return pa.Table.from_pylist(named, SEGMENTS)


def _slot(row: Row) -> Row:
    labels = row["labels"] or []
    slot = {**row, **inventory.AS_DEALT, "labels": labels, "digest": ",".join(labels)}
    if row["mark"] is None:
        return {**slot, "key": segment_key(row["video_id"], row["start_ms"], row["end_ms"])}
    video_id = f"{TAKEN_DOWN}{row['mark'].hex()}"
    hidden = {
        "video_id": video_id,
        "key": segment_key(video_id, row["part"], row["row"]),
        "start_ms": 0,
        "end_ms": 0,
    }
    return forgotten_row({**slot, **hidden})
