"""AudioSet's label table: machine id -> index and display name."""

import csv
from collections.abc import Iterable
from pathlib import Path

from schemas.manifest import write_text

FILE = "class_labels_indices.csv"
COLUMNS = {"index", "mid", "display_name"}


def find_labels(kept: Path, lists: Iterable[Path]) -> dict[str, tuple[int, str]]:
    """The table in the folder `kept`, else beside one of the segment lists; empty where there is none."""
    found = _find(kept, lists)
    return read_labels(found) if found else {}


def keep_labels(kept: Path, lists: Iterable[Path]) -> None:
    """Copies the table into `kept` once: later runs name labels the same, whatever lists they are given."""
    found = _find(kept, lists)
    if found and found.parent != kept:
        read_labels(found)
        write_text(kept / FILE, found.read_text(encoding="utf-8"))


def _find(kept: Path, lists: Iterable[Path]) -> Path | None:
    tables = (folder / FILE for folder in (kept, *(path.parent for path in lists)))
    return next((path for path in tables if path.is_file()), None)


def read_labels(path: Path) -> dict[str, tuple[int, str]]:
    """The table in `path`. Raises ValueError if it is none."""
    with path.open(newline="", encoding="utf-8-sig") as lines:
        rows = csv.DictReader(lines)
        if not set(rows.fieldnames or ()) >= COLUMNS:
            raise ValueError(f"{path}: its first line must name the columns index,mid,display_name")
        return dict(_label(row, f"{path}:{rows.line_num}") for row in rows)


def _label(row: dict[str, str | None], where: str) -> tuple[str, tuple[int, str]]:
    index, mid, name = row["index"], row["mid"], row["display_name"]
    if not (index and index.isdecimal() and mid and name):
        raise ValueError(f"{where}: not of the form index,mid,display_name")
    return mid, (int(index), name)
