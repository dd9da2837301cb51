"""Inventory: which parts the index has dealt, so that a lost one is reported and restored to the same slots.

`segments/parts.json` holds a line for each part: how many segments it has, the digest of their keys in slot order, and
which lists it was dealt from. A lost part is restored from its validated twin in `segments/checked/`, which has the
same columns; if the twin is lost too, `tasks/index.py` deals the part again from its lists.
"""

# pyarrow.compute makes its functions when it is imported: a type checker cannot see them.
# pyright: reportAttributeAccessIssue=false

import hashlib
import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from schemas import layout
from schemas.errors import DataError
from schemas.files import read_json, read_kept, write_json
from schemas.manifest import PartHeader, Row, part_numbers, part_path, write_part
from schemas.outcome import Outcome
from schemas.segment import SEGMENTS
from tasks.parts import Headers, header_of
from tasks.tombstones import forgotten_row, read_tombstones

log = logging.getLogger(__name__)

FILE = "parts.json"
LISTS = "lists.json"  # which lists were read, with their digests
IS_RECEIPT = "is_receipt"  # in LISTS: whether it is a receipt
HEADER = PartHeader("index", "", {})
REMEDY = "remove it, and a build writes it again from the existing parts"
AS_DEALT: Row = {"outcome": Outcome.OK.value, "reason": "", "detail": "", "fingerprint": ""}


@dataclass(frozen=True)
class Dealt:
    """A part as it was dealt."""

    segments: int
    keys: str  # sha256 of its keys in slot order, one per line
    lists: tuple[str, ...] = ()  # sha256 of the lists that were read together; empty if unknown


def dealt(keys: Sequence[str], lists: tuple[str, ...] = ()) -> Dealt:
    """The record of a part with these keys, in slot order."""
    return Dealt(len(keys), hashlib.sha256("\n".join(keys).encode()).hexdigest(), lists)


def read_inventory(root: Path) -> dict[int, Dealt]:
    """Every part that was dealt under `root`; empty for a root from before there was an inventory."""
    path = root / layout.SEGMENTS / FILE
    stored = read_json(path, REMEDY) if path.is_file() else {}
    try:
        return {
            int(part): Dealt(one["segments"], one["keys"], tuple(one["lists"]))
            for part, one in stored.items()
        }
    except (TypeError, ValueError, KeyError) as error:
        raise DataError(f"{path} is damaged: it does not list parts ({error}); {REMEDY}") from error


def write_inventory(root: Path, known: Mapping[int, Dealt]) -> None:
    """Writes the inventory completely or not at all."""
    stored = {f"{part:06d}": asdict(one) for part, one in known.items()}
    write_json(root / layout.SEGMENTS / FILE, stored)


def is_by_receipt(root: Path) -> bool:
    """Whether `root` is built from a receipt, according to its lists."""
    path = root / layout.SEGMENTS / LISTS
    return path.is_file() and any(one.get(IS_RECEIPT) for one in read_json(path).values())


def standing_parts(root: Path, headers_of: Headers = header_of) -> list[int]:
    """The parts of the index that can be read, ascending."""
    parts = part_numbers(root / layout.SEGMENTS)
    return [part for part in parts if headers_of(root, layout.SEGMENTS, part) is not None]


def lost_parts(root: Path, headers_of: Headers = header_of) -> list[int]:
    """The parts of the index that are gone or can't be read, ascending; the inventory or other manifests know them."""
    known = set(read_inventory(root)).union(*(part_numbers(root / name) for name in layout.MANIFESTS))
    return sorted(known - set(standing_parts(root, headers_of)))


def restore(root: Path) -> list[int]:
    """Restores lost parts from their validated twins; returns those whose twin is lost too."""
    known = read_inventory(root)
    forgotten = set(read_tombstones(root))
    left = []
    for part in lost_parts(root):
        rows = _of_twin(root, part, known.get(part))
        if rows is None:
            left.append(part)
            continue
        rows = [_as_dealt(row, is_forgotten=row["video_id"] in forgotten) for row in rows]
        write_part(part_path(root / layout.SEGMENTS, part), rows, SEGMENTS, HEADER)
        log.warning("index: part %d was lost, with %d segments; it has been restored", part, len(rows))
    return left


def _of_twin(root: Path, part: int, before: Dealt | None) -> list[Row] | None:
    """The rows of a part from its validated twin; None if the twin is lost or has other segments."""
    table = read_kept(part_path(root / layout.checked(layout.SEGMENTS), part))
    if table is None:
        return None
    if before and before.keys != dealt(table["key"].to_pylist()).keys:
        return None
    return table.to_pylist()


def _as_dealt(row: Row, *, is_forgotten: bool) -> Row:
    is_forgotten = is_forgotten or row["outcome"] == Outcome.FORGOTTEN
    made = {**row, **AS_DEALT}
    return forgotten_row(made) if is_forgotten else made
