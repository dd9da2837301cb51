"""The clips that all grounds build, in steps, and what an undisturbed build makes of each step."""

import json
from dataclasses import dataclass
from pathlib import Path

import timecode
from real_servers import started
from timecode import Recipe

from schemas.layout import SHARDS
from schemas.manifest import part_numbers
from schemas.shard import read_version

STEPS = 20  # by which a root grows until another one begins: a root of months has many versions
EVAL = 3  # new clips a step
TRAIN = 9
LISTS = ("eval_segments", "train_segments")
PRESET = "tiny"
OPTIONS = ("--preset", PRESET, "--val-share", "0")  # without a validation set no training is due
BUILD_S = 300.0


@dataclass(frozen=True)
class Expected:
    """What stands after a step that nobody disturbed."""

    digest: str
    shards: dict[str, str]  # name -> sha256
    parts: list[int]


@dataclass(frozen=True)
class Corpus:
    """Clips of two seconds, made once, and lists of the first steps of them, which name only clips that are there."""

    folder: Path

    @property
    def media(self) -> Path:
        """Where the clips lie, named by video id."""
        return self.folder / "media"

    def ids(self, name: str, step: int) -> list[str]:
        """The videos that a list has after so many steps."""
        count = (step + 1) * (EVAL if name == LISTS[0] else TRAIN)
        return [f"{name[:5]}{n:03d}" for n in range(count)]

    def _write_clip(self, video_id: str, number: int) -> None:
        path = self.media / f"{video_id}.mp4"
        if not path.exists():
            self.media.mkdir(parents=True, exist_ok=True)
            recipe = Recipe(seconds=2 + number / 50, frame_rate=10)
            timecode.write(path.with_suffix(".new.mp4"), recipe).rename(path)

    def write_lists(self, folder: Path, step: int) -> list[Path]:
        """The lists after so many steps; they grow where they lie, as a person's do."""
        folder.mkdir(parents=True, exist_ok=True)
        paths = []
        for name in LISTS:
            ids = self.ids(name, step)
            for number, video_id in enumerate(ids):
                self._write_clip(video_id, number)
            lines = [f'{video_id}, 0.000, 2.000, "/m/09x0r"\n' for video_id in ids]
            paths.append(folder / f"{name}.csv")
            paths[-1].write_text("".join(lines))
        return paths

    def expected(self, step: int) -> Expected:
        """What an undisturbed root has after so many steps; built when it is first asked for, and kept."""
        path = self.folder / f"expected{step}.json"
        if not path.exists():
            if step:
                self.expected(step - 1)
            path.write_text(json.dumps(vars(self._built(step))))
        return Expected(**json.loads(path.read_text()))

    def _built(self, step: int) -> Expected:
        root = self.folder / "undisturbed"
        lists = map(str, self.write_lists(self.folder / "lists", step))
        output = self.folder / "undisturbed.out"
        source = f"folder:{self.media}"
        arguments = ["build", "--root", str(root), *OPTIONS, "--source", source]
        with started(*arguments, "--compute", "threads", "--segments", *lists, output=output) as process:
            code = process.wait(BUILD_S)
        if code:
            raise AssertionError(output.read_text())
        version = read_version(root)
        shards = {shard.name: shard.sha256 for shard in version.shards}
        return Expected(version.digest, shards, part_numbers(root / SHARDS))
