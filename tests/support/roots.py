"""Small roots, built stage by stage without Prefect: what a test needs to see of one stage."""

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import timecode
from clocks import FakeClock
from timecode import Recipe

from schemas.feature import Profile
from schemas.receipt import Settings
from schemas.rules import Rules
from tasks import download, extract, index, pack, publish, validate
from tasks.download import DownloadConfig, DownloadContext
from tasks.funnel import verdicts
from tasks.index import IndexConfig
from tasks.pack import PackConfig
from tasks.parts import plan_stage

Map = Callable[[Callable, Sequence], Iterable]
MONDAY = datetime(2026, 11, 23, tzinfo=UTC)
PROFILE = Profile(length_ms=2000)


@dataclass
class Root:
    """A root over a folder of clips; `build` does what is due and says how many parts of each stage that were."""

    path: Path
    source: str
    lists: list[Path]
    profile: Profile = PROFILE
    rules: Rules = field(default_factory=Rules)
    now: datetime = MONDAY
    config: IndexConfig = field(default_factory=lambda: IndexConfig(part_size=3, val_share=0.0))

    def stage(self, name: str):
        if name.startswith("validate-"):
            return validate.stage(self.path, name.removeprefix("validate-"), self.rules, self.profile)
        return {
            "download": lambda: download.stage(self.path, self.downloads),
            "extract": lambda: extract.stage(self.path, self.profile),
            "pack": lambda: pack.stage(self.path, PackConfig(self.profile)),
        }[name]()

    @property
    def downloads(self) -> DownloadConfig:
        return DownloadConfig(self.source, lanes=2)

    @property
    def state(self) -> Path:
        return self.path / "state"

    def run(self, name: str, map_items: Map | None = None) -> list[int]:
        """Does what is due of one stage; returns its parts."""
        stage = self.stage(name)
        plan = plan_stage(stage)
        plan = download.with_due(stage, plan, self.now) if name == "download" else plan
        parts = plan.due()
        if not parts:
            return parts
        if name.startswith("validate-"):
            validate.run(stage, parts, self.rules, self.profile)
        elif name == "download":
            download.run(
                stage,
                parts,
                self.downloads,
                DownloadContext(self.now, self.state, FakeClock(self.now.timestamp())),
            )
        elif name == "extract":
            with ThreadPoolExecutor(2) as pool:  # each thread's media process decodes beside the other's
                extract.run(stage, parts, self.profile, map_items or pool.map)
        else:
            pack.run(stage, parts, PackConfig(self.profile))
        return parts

    def build(self, map_items: Map | None = None) -> dict[str, list[int]]:
        """All stages; returns the parts that each did. Extraction by `map_items`, else in two threads."""
        index.index(self.path, self.lists, self.config)
        names = ("validate-segments", "download", "validate-clips", "extract", "validate-features", "pack")
        done = {name: self.run(name, map_items) for name in names}
        publish.publish(self.path, Settings(self.profile, self.rules))
        return {name: parts for name, parts in done.items() if parts}


def write_clips(folder: Path, ids: list[str], recipe: Recipe | None = None) -> list[Path]:
    """A time-code clip of two seconds for each id, each a little longer than the last, and a list of them."""
    folder.mkdir(parents=True, exist_ok=True)
    for n, video_id in enumerate(ids):
        timecode.write(folder / f"{video_id}.mp4", recipe or Recipe(seconds=2 + n / 10, frame_rate=10))
    path = folder / "list.csv"
    path.write_text("".join(f'{video_id}, 0.000, 2.000, "/m/09x0r,/m/04rlf"\n' for video_id in ids))
    return [path]


def write_corpus(folder: Path, num_eval: int, num_train: int, more: Sequence[str] = ()) -> list[Path]:
    """Short clips of two seconds and a list of evaluation and of training; `more` are ids for training."""
    folder.mkdir(parents=True)
    lists = []
    for name, count, others in (("eval_segments", num_eval, ()), ("train_segments", num_train, more)):
        ids = [*(f"{name[:5]}{n:02d}" for n in range(count)), *others]
        for n, video_id in enumerate(ids):
            timecode.write(folder / f"{video_id}.mp4", Recipe(seconds=2 + n / 10, frame_rate=10))
        path = folder / f"{name}.csv"
        path.write_text("".join(f'{video_id}, 0.000, 2.000, "/m/09x0r"\n' for video_id in ids))
        lists.append(path)
    return lists


def put(folder: Path, content: bytes, *names: str) -> None:
    """The same file under each name, which may lie in folders of its own."""
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)


def fates(root: Path) -> dict[str, tuple[str, str]]:
    """Outcome and reason of every segment."""
    rows = [row for table in verdicts(root) for row in table.to_pylist()]
    return {row["key"]: (row["outcome"], row["reason"]) for row in rows}
