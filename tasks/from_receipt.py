"""Index by a receipt: the segments of a version that was built elsewhere -> the manifest `segments`, slot by slot."""

# pyarrow.compute makes its functions when it is imported: a type checker cannot see them.
# pyright: reportAttributeAccessIssue=false

import logging
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from schemas import layout
from schemas.errors import RequestError
from schemas.files import sha256_of_file, write_bytes, write_json
from schemas.manifest import Row
from schemas.receipt import TAKEN_DOWN, Receipt, read_receipt
from schemas.segment import SEGMENTS, segment_key
from tasks import inventory
from tasks.index import NewPart, recorded_lists, write_parts
from tasks.lists.labels import put_labels
from tasks.tombstones import forgotten_row, read_tombstones, write_tombstones
from tasks.versions.receipts import kept_path

log = logging.getLogger(__name__)

OF_RECEIPT = ("part", "row", "video_id", "start_ms", "end_ms", "is_open", "split", "labels", "csv", "mark")


def index_receipt(root: Path, path: Path) -> int:
    """Deals the slots of the receipt at `path` as they are, as far as they do not stand; returns how many parts.

    A copy stays in the root, which later builds go by. Raises RequestError where the root has other segments.
    """
    inventory.restore(root)
    receipt = read_receipt(path)
    require_same(root, receipt)
    parts = parts_of(root, receipt)
    sha256 = sha256_of_file(path)
    if path != kept_path(root):
        write_bytes(kept_path(root), path.read_bytes())
        put_labels(root / layout.SEGMENTS, receipt.settings.labels)
        facts = {
            "file": path.name,
            "segments": receipt.table.num_rows,
            "malformed": [],
            inventory.IS_RECEIPT: True,
        }
        write_json(root / layout.SEGMENTS / inventory.LISTS, {**recorded_lists(root), sha256: facts})
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
    """Raises RequestError where `root` has segments that do not come from this receipt."""
    kept = kept_path(root)
    if not inventory.standing_parts(root) and not kept.is_file():
        return
    if not kept.is_file() or read_receipt(kept).version.digest != receipt.version.digest:
        raise RequestError(
            f"{root} has other segments than the receipt: build the receipt into a root of its own"
        )


def parts_of(root: Path, receipt: Receipt) -> list[NewPart]:
    """The parts of a receipt that do not stand under `root`; a slot whose video was taken down is named by its mark."""
    standing = set(inventory.standing_parts(root))
    numbers = [part for part in pc.unique(receipt.table["part"]).to_pylist() if part not in standing]
    return [
        NewPart(part, _slots(receipt.table.filter(pc.equal(receipt.table["part"], part)))) for part in numbers
    ]


def _slots(rows: pa.Table) -> pa.Table:
    """A part of a receipt as one of the index."""
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
