"""A root over a year: the same clips packed anew and published each hour, a training and an upkeep each week."""

import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

from roots import Root, write_clips

from benchmarks.growth.database import YEAR
from flows.builds.options import BuildOptions
from flows.builds.pipeline import resolve
from flows.experiments.upkeep import keep_up
from schemas.layout import FEATURES, SHARDS, VERSIONS
from schemas.manifest import part_numbers
from schemas.receipt import Settings
from schemas.shard import latest_digest, read_history
from tasks import pack
from tasks.pack import PackConfig
from tasks.publish import publish
from training.tracking.runs import RunSpec, VersionSource, experiment_run
from training.tracking.store import Store

STEP = timedelta(weeks=1)
TOLD_WEEKS = (1, 13, 26, 39, 52)
IDS = ["clip00", "clip01", "clip02"]


def measured_root(folder: Path, every: timedelta) -> Iterator[tuple[str, str]]:
    """What lies under a root but its clips, as a year goes by."""
    media = folder / "media"
    built = Root(folder / "root", f"folder:{media}", write_clips(media, IDS))
    built.build()
    began = time.monotonic()
    num_runs = YEAR // every
    for number in range(num_runs):
        _publish(built, number)
        week, rest = divmod(number * every, STEP)
        if number and rest < every:
            _keep_up(built)
            if week in TOLD_WEEKS:
                yield f"{week} weeks, {number:,} versions", _sizes(built.path)
    took_s = time.monotonic() - began
    yield f"{num_runs:,} versions, trainings and upkeep", f"{took_s:.0f} s"


def _publish(built: Root, number: int) -> None:
    """Another version: the names of labels stand in every sample."""
    config = PackConfig(built.profile, {"/m/09x0r": (0, f"Speech {number}")})
    pack.run(pack.stage(built.path, config), part_numbers(built.path / FEATURES), config)
    publish(built.path, Settings(built.profile, built.rules, config.labels))


def _keep_up(built: Root) -> None:
    """What a week brings beside builds."""
    source = VersionSource(str(latest_digest(built.path)), str(built.path))
    with experiment_run(Store(built.path), RunSpec("run", {}, source, {})):
        pass
    keep_up(resolve(BuildOptions(str(built.path), "demo")))


def _sizes(path: Path) -> str:
    """Of all folders but those of the clips, and the number of their files."""
    told = []
    for name in (VERSIONS, SHARDS, "reports", "state", "mlruns"):
        files = [one for one in (path / name).rglob("*") if one.is_file()]
        told.append(
            f"{name} {sum(one.stat().st_size for one in files) / 1e3:,.0f} kB in {len(files):,} files"
        )
    return "; ".join([*told, f"history {len(read_history(path)):,} lines"])
