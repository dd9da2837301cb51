"""Builds that are killed at a seeded moment, the same command again, and what stands then."""

import random
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from multiprocessing.process import BaseProcess
from pathlib import Path

import preloaded
import psutil
from preloaded import EVENTS, Cluster, Mine
from roots import write_corpus

from schemas.manifest import part_numbers, part_path, read_header
from schemas.shard import read_version
from tasks.processes import command_of
from tasks.versions.verify import verify

RENAMES = ("os.rename",)
# Who is killed, and the codes with which a build may end then.
VICTIMS = {
    "flow": {-9},
    "flow between write and rename": {-9},
    "worker": {0},
    "media process": {0},
    "scheduler": {0, 1},
}
WORKER_EVENTS = 6  # writing the fragments of one batch: three features, renamed and looked after
POLL_S = 0.02  # a clip is open for longer, as a rule
TRIES = 5  # of a build that ends before anything could be killed
IMPATIENT = {"DASK_DISTRIBUTED__COMM__TIMEOUTS__CONNECT": "3s"}  # how long a lost scheduler is waited for


@dataclass(frozen=True)
class Case:
    """What a seed stands for: who is killed, on what cluster, and when (as a share of what there is to do)."""

    seed: int

    @property
    def victim(self) -> str:
        return list(VICTIMS)[self.seed % len(VICTIMS)]

    @property
    def is_local(self) -> bool:
        """On the build's own cluster, which costs most; a scheduler that can be killed alone is on none."""
        return self.seed % 4 == 1 and self.victim != "scheduler"

    @property
    def share(self) -> float:
        return random.Random(self.seed).random()

    def __str__(self) -> str:
        where = "local" if self.is_local else "separate"
        return f"seed {self.seed}: {self.victim}, {where}, at {self.share:.2f}"


class Bench:
    """Clips that make two shards, and roots that are built from them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.lists = [str(path) for path in write_corpus(folder / "media", 3, 9)]
        self.events: dict[tuple[str, ...], int] = {}  # of a whole build's flow process

    def command(self, root: Path, compute: str) -> list[str]:
        source = ["--source", f"folder:{self.folder / 'media'}", "--segments", *self.lists]
        return ["build", "--root", str(root), "--preset", "small", *source, "--compute", compute]

    def built(self, name: str, num_workers: int, events: tuple[str, ...] = EVENTS) -> Path:
        """A root that nobody disturbs, built by separate workers; counts the events of its flow process."""
        root = self.folder / name
        output = self.folder / f"{name}.out"
        mine = self._mine(name, 0, events)
        with preloaded.cluster(self.folder, num_workers) as cluster:
            process = preloaded.start(self.command(root, cluster.address), output, mine=mine)
            preloaded.ended(process, output)
        assert process.exitcode == 0, output.read_text()
        self.events[events] = mine.seen
        return root

    def disturbed(self, case: Case) -> Path:
        """A root whose build was disturbed as `case` says, and then built again."""
        root = self.folder / f"root{case.seed}"
        output = self.folder / f"root{case.seed}.out"
        for _ in range(TRIES):
            if self._disturb(case, root, output):
                preloaded.run(self.command(root, "threads"), output)
                return root
            shutil.rmtree(root)
        raise AssertionError(f"{TRIES} builds ended before anything could be killed: {output.read_text()}")

    def _disturb(self, case: Case, root: Path, output: Path) -> bool:
        """Whether the build was met: a media process reads for some hundredths of a second."""
        is_met = True
        with ExitStack() as stack:
            cluster = None
            if not case.is_local:
                at = 1 + int(case.share * WORKER_EVENTS)
                ours = self._mine(root.name, at) if case.victim == "worker" else None
                cluster = stack.enter_context(preloaded.cluster(self.folder, 2, ours))
            compute = cluster.address if cluster else "local"
            process = preloaded.start(
                self.command(root, compute), output, IMPATIENT, self._mine_of_flow(case, root.name, cluster)
            )
            if case.victim == "media process":
                is_met = _kill_when(process, cluster, lambda media: _reads_under(media, self.folder))
            elif case.victim == "worker" and case.is_local:
                is_met = _kill_when(process, cluster, lambda worker: _decodes(worker, self.folder))
            preloaded.ended(process, output)
            if case.victim == "worker" and cluster:
                assert cluster.workers[0].exitcode == -9, case
        assert process.exitcode in VICTIMS[case.victim], f"{case}: {process.exitcode}: {output.read_text()}"
        return is_met

    def _mine(self, name: str, at: int, events: tuple[str, ...] = EVENTS) -> Mine:
        return Mine(self.folder / name, self.folder / f"{name}.events", at, events)

    def _mine_of_flow(self, case: Case, name: str, cluster: Cluster | None) -> Mine | None:
        """What goes off in the flow process, or at its pace."""
        if case.victim not in ("flow", "flow between write and rename", "scheduler"):
            return None
        events = RENAMES if "rename" in case.victim else EVENTS
        mine = self._mine(name, 1 + int(case.share * self.events[events]), events)
        is_other = case.victim == "scheduler" and cluster
        return replace(mine, victim=cluster.scheduler.pid) if is_other else mine


def _kill_when(flow: BaseProcess, cluster: Cluster | None, is_due) -> bool:
    """Kills the first process of a build of which `is_due` says so; whether there was one."""
    roots = [flow.pid, *(worker.pid for worker in (cluster.workers if cluster else ()))]
    while flow.is_alive():
        for process in _below(roots):
            if is_due(process):
                process.kill()
                return True
        flow.join(POLL_S)
    return False


def _below(pids: list[int | None]) -> Iterator[psutil.Process]:
    for pid in pids:
        with suppress(psutil.NoSuchProcess):
            yield from psutil.Process(pid).children(recursive=True)


def _reads_under(process: psutil.Process, folder: Path) -> bool:
    """Whether it is a media process that has a clip open."""
    with suppress(psutil.NoSuchProcess, OSError):
        links = (link.readlink() for link in Path(f"/proc/{process.pid}/fd").iterdir())
        is_reading = any(link.suffix == ".mkv" and link.is_relative_to(folder) for link in links)
        return is_reading and "tasks.media.sandbox" in command_of(process)
    return False


def _decodes(process: psutil.Process, folder: Path) -> bool:
    """Whether it is a worker whose media process has a clip open."""
    with suppress(psutil.NoSuchProcess):
        return any(_reads_under(child, folder) for child in process.children())
    return False


def what_stands(root: Path) -> dict[str, str]:
    """The version and every shard's digest, after all of it was proved from the bytes; and nothing else is there."""
    left = [path for path in root.rglob("*") if path.name.startswith(".") and "prefect" not in path.parts]
    left += [*(root / "state" / "scratch").glob("*"), *(root / "state").glob("rebuild-*")]
    assert left == []
    return proved(root, 12)


def proved(root: Path, num_clips: int) -> dict[str, str]:
    """The version and every shard's digest, after all of it was proved from the bytes."""
    found = verify(root, map)
    assert found.differences == []
    assert found.checked["clips"] == num_clips
    version = read_version(root)
    assert (root / "versions" / f"{version.digest}.html").is_file()
    headers = [read_header(part_path(root / "shards", part)) for part in part_numbers(root / "shards")]
    contents = {f"part {n}": header.content for n, header in enumerate(headers) if header}
    return {"version": version.digest, **contents, **{shard.name: shard.sha256 for shard in version.shards}}
