"""Tombstones: the videos that were taken down and that later builds leave out, in `segments/forgotten.json`."""

from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from schemas import layout
from schemas.files import MEND, read_json, write_json
from schemas.manifest import Row
from schemas.outcome import Outcome

FILE = "forgotten.json"
REASON = "taken_down"
MARK: Row = {"outcome": Outcome.FORGOTTEN.value, "reason": REASON, "detail": "", "digest": ""}


@dataclass(frozen=True)
class Tombstone:
    """When a video was taken down, which versions held it, and whether everything of it is gone."""

    forgotten_at: str
    versions: dict[str, bool] = field(default_factory=dict)  # digest -> whether it certainly did
    is_done: bool = False


def read_tombstones(root: Path) -> dict[str, Tombstone]:
    """Every video that was taken down."""
    path = root / layout.SEGMENTS / FILE
    stored = read_json(path, MEND) if path.is_file() else {}
    return {video_id: Tombstone(**one) for video_id, one in stored.items()}


def write_tombstones(
    root: Path, video_ids: Collection[str], versions: Mapping[str, bool], *, is_done: bool
) -> None:
    """Writes tombstones, and keeps what an earlier run recorded about the versions."""
    known = read_tombstones(root)
    for video_id in video_ids:
        before = known.get(video_id, Tombstone(datetime.now(UTC).isoformat()))
        held = {**versions, **{digest: sure for digest, sure in before.versions.items() if sure}}
        known[video_id] = Tombstone(before.forgotten_at, {**before.versions, **held}, is_done)
    stored = {video_id: asdict(one) for video_id, one in known.items()}
    write_json(root / layout.SEGMENTS / FILE, stored)


def forgotten_row(segment: Row) -> Row:
    """A row of `segments` for a video that was taken down: it keeps its slot and nothing else."""
    return {**segment, **MARK, "labels": []}
