"""A small root, stage by stage: what tests of tasks start from."""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import timecode
from clocks import FakeClock
from timecode import Recipe

from schemas.feature import Profile
from schemas.manifest import Row, part_numbers, read_manifest
from schemas.rules import Rules
from tasks import download, extract, validate
from tasks.download import DownloadConfig, DownloadContext
from tasks.index import IndexConfig, index
from tasks.parts import commit_part, plan_stage, read_inputs

NOW = datetime(2026, 1, 5, 12, tzinfo=UTC)
SECONDS = 2
RECIPE = Recipe(seconds=SECONDS, frame_rate=10, sample_rate=16_000)
PROFILE = Profile("tiny", length_ms=1000 * SECONDS, frame_rate_hz=2.0, frame_short_side_px=64)


def key_of(video_id: str, seconds: float = SECONDS) -> str:
    return f"{video_id}_0_{round(1000 * seconds)}"


def indexed(root: Path, ids: Iterable[str], part_size: int = 8, seconds: float = SECONDS) -> Path:
    """A root with a train segment of each video, every one of them passed."""
    root.mkdir(parents=True, exist_ok=True)
    path = root / f"list{len(list(root.glob('*.csv')))}.csv"
    path.write_text("".join(f'{video_id}, 0.000, {seconds:.3f}, "/m/09x0r,/m/04rlf"\n' for video_id in ids))
    index(root, [path], IndexConfig(part_size=part_size, val_share=0.0))
    passed(root, "segments")
    return root


def passed(root: Path, manifest: str, parts: Iterable[int] | None = None) -> None:
    """Writes the verdicts on a manifest in which nothing is wrong."""
    stage = validate.stage(root, manifest, Rules(), PROFILE)
    for part in part_numbers(root / manifest) if parts is None else parts:
        inputs = read_inputs(stage, part)
        rows = [{**row, "fingerprint": stage.row_fingerprint(row)} for row in inputs.rows]
        commit_part(stage, inputs, rows)


def day(root: Path, days: float = 0) -> DownloadContext:
    """That many days after NOW."""
    now = NOW + timedelta(days=days)
    return DownloadContext(now, root / "state", FakeClock(now.timestamp()))


def fetch(root: Path, source: str, days: float = 0, lanes: int = 8) -> int:
    """Downloads what is due on that day; returns how many videos were fetched."""
    config = DownloadConfig(source=source, lanes=lanes)
    stage = download.stage(root, config)
    on = day(root, days)
    return download.run(stage, download.with_due(stage, plan_stage(stage), on.now).due(), config, on)


def clip_rows(root: Path) -> dict[str, Row]:
    """The manifest `clips` by video id."""
    return {row["key"].rsplit("_", 2)[0]: row for _, row in read_manifest(root / "clips")}


def media(folder: Path, recipes: dict[str, Recipe]) -> Path:
    """A folder with a clip of each recipe, named by video id."""
    folder.mkdir(parents=True, exist_ok=True)
    for video_id, recipe in recipes.items():
        timecode.write(folder / f"{video_id}.mp4", recipe)
    return folder


def extract_all(root: Path, profile: Profile = PROFILE) -> int:
    """Extracts what is due, one batch after the other; returns how many clips were decoded."""
    stage = extract.stage(root, profile)
    return extract.run(stage, part_numbers(root / "clips/checked"), profile, map)
