"""The attempts ledger: append-only, one line a segment, committed per video; a kill loses one video."""

import json
import os
from collections.abc import Collection, Iterable
from pathlib import Path

from schemas.manifest import Row, write_text


def append(state: Path, part: int, rows: Iterable[Row]) -> None:
    """Adds what became of the segments of one video; on disk when this returns."""
    path = _path(state, part)
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = "".join(json.dumps(row, sort_keys=True) + "\n" for row in rows)
    with path.open("a+b") as file:
        # A line that a kill tore is closed, so that it spoils itself only.
        if file.tell() and not _ends_in_newline(file):
            lines = "\n" + lines
        file.write(lines.encode())
        file.flush()
        os.fsync(file.fileno())


def latest(state: Path, part: int) -> dict[str, Row]:
    """What the ledger last said of each segment of a part, by key; torn lines are passed over."""
    path, rows = _path(state, part), {}
    text = path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""
    for line in text.splitlines():
        try:
            row = json.loads(line)
        except json.JSONDecodeError:
            continue
        rows[row["key"]] = row
    return rows


def remove(state: Path, part: int, keys: Collection[str]) -> None:
    """Rewrites the ledger of a part without the segments `keys`, and without lines that a kill tore."""
    rows = []
    path = _path(state, part)
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines() if path.is_file() else ():
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError:
            continue
    kept = [row for row in rows if row["key"] not in keys]
    if len(kept) < len(rows):
        write_text(path, "".join(json.dumps(row, sort_keys=True) + "\n" for row in kept))


def _path(state: Path, part: int) -> Path:
    return state / "attempts" / f"{part:06d}.jsonl"


def _ends_in_newline(file) -> bool:
    file.seek(-1, os.SEEK_END)
    return file.read(1) == b"\n"
