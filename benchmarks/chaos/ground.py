"""The ground of a round: a root that `mcgurk serve` builds by schedule, its host, and its processes."""

import json
import os
import shutil
import signal
import struct
import subprocess
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from threading import Event

import psutil
from real_servers import Api, kept_processes, serving, started, wait_for

from benchmarks.chaos.corpus import BUILD_S, OPTIONS, PRESET, Corpus, Expected
from benchmarks.chaos.weather import Weather
from flows.presets import load_preset
from flows.services.keeper import KEPT, running_in
from schemas.environment import changed
from schemas.identity import Identity
from schemas.layout import LEASES, PREFECT, RUNS, SERVE, STAGES, stage_facts
from schemas.manifest import part_path
from schemas.shard import latest_digest
from schemas.storage import open_root
from tasks.index import index
from tasks.leases import holder_of, lease
from tasks.processes import command_of, end, marked

DEPLOYMENT = "hourly"
POOL = "cpu"  # of the worker that takes it
FINAL = ("Completed", "Failed", "Crashed", "Cancelled", "Skipped")
STAGE_NAMES = tuple(one.name for one in STAGES if one.reads)  # the index is over in no time
END_S = 30.0
DISK = "400m"
CLOCK = Path(__file__).with_name("clock.c")


@dataclass
class Ground:
    """A root that grows by a step a round, and `mcgurk serve` over it, which lives until an accident ends it."""

    folder: Path
    corpus: Corpus
    host: Weather
    step: int = 0
    serve: psutil.Process | None = None
    has_clock: bool = False  # `serve` and all below it have a clock of their own, which can be set
    _serving: ExitStack = field(default_factory=ExitStack)

    @property
    def root(self) -> Path:
        """The root that is served."""
        return self.folder / "root"

    @property
    def address(self) -> str:
        """The root, as commands name it."""
        return str(self.root)

    @property
    def state(self) -> Path:
        """Its state folder, where it lies by default."""
        return self.root / "state"

    @property
    def api(self) -> Api:
        """The Prefect server that serves it."""
        return Api.of(self.state)

    @property
    def expected(self) -> Expected:
        """What stands there when the step is done."""
        return self.corpus.expected(self.step)

    @property
    def is_served(self) -> bool:
        """Whether `serve` is alive."""
        return self.serve is not None and is_alive(self.serve)

    def renew(self) -> None:
        """A new root, built by hand for its first step, which says once how it is built; and `serve` over it."""
        self._end_left() if self.serve is None else self.end()
        self.clear()
        self.first_build()
        self.serve_again()

    def clear(self) -> None:
        """An empty folder, on a disk of its own where that can be had."""
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)
        self._mount()

    def first_build(self) -> None:
        """Builds the first step by hand, which says once how the root is built."""
        self.step = 0
        self.has_clock = False
        if code := self.build():
            raise AssertionError(f"exit {code}: {(self.folder / 'build.out').read_text()[-2000:]}")

    def build(self) -> int:
        """One plain build; returns its exit code."""
        lists = [str(path) for path in self.corpus.write_lists(self.folder / "lists", self.step)]
        source = f"{self.host.address}/{{video_id}}.mp4"
        command = ["build", *self.where, *OPTIONS, "--source", source, "--segments", *lists]
        with started(*command, output=self.folder / "build.out", **self.environment) as process:
            return process.wait(BUILD_S)

    @property
    def where(self) -> list[str]:
        """The options that say which root is built, and where."""
        return ["--root", self.address]

    @property
    def environment(self) -> dict[str, str]:
        """What a command needs to reach it."""
        return {}

    def begin(self) -> str:
        """Has a build begun as the schedule begins it; returns the id of its run."""
        return self.api.begin(DEPLOYMENT)

    def grow(self) -> None:
        """Another step: the lists have more lines, and the index has them, so that a schedule finds work."""
        self.step += 1
        self.corpus.expected(self.step)  # is built now, and not while the build runs that is to be hit
        lists = self.corpus.write_lists(self.folder / "lists", self.step)
        with lease(self.state, "segments"):
            index(open_root(self.address), lists, replace(load_preset(PRESET).index, val_share=0.0))

    def serve_again(self) -> None:
        """Serves the root, if nothing does."""
        if not self.is_served:
            self._serving.close()
            output = self.folder / "serve.out"
            with changed(self._clock() if self.has_clock else {}):
                self.serve, _ = self._serving.enter_context(serving(self.root, output))

    def supervise(self) -> None:
        """Starts again what has ended since, where that has a supervisor of its own."""

    def serve_with_clock(self, *, has_clock: bool) -> None:
        """Serves the root with a clock of its own or without: anew, where it isn't so already."""
        if has_clock == self.has_clock:
            return
        self.stop_serving()
        self.has_clock = has_clock
        self.set_clock(0)
        self.serve_again()

    def set_clock(self, ahead_s: int) -> None:
        """Has the clock of all that is served jump to so many seconds before or after the true time."""
        path = self.folder / "clock"
        path.touch()
        with path.open("r+b") as file:  # in its place: processes have it in their memory
            file.write(struct.pack("=q", ahead_s))

    def _clock(self) -> dict[str, str]:
        library = self.folder / "clock.so"
        subprocess.run(["cc", "-O2", "-shared", "-fPIC", "-o", str(library), str(CLOCK)], check=True)
        return {"LD_PRELOAD": str(library), "CHAOS_CLOCK": str(self.folder / "clock")}

    def end(self) -> None:
        """Ends `serve`, and all that is left."""
        self.stop_serving()
        self._end_left()

    def stop_serving(self) -> None:
        """Ends `serve` as a person does, and waits until all that it started is gone."""
        if self.serve and self.is_served:
            self.serve.send_signal(signal.SIGTERM)
            self.serve.wait(END_S)
        self._serving.close()
        self.serve = None
        wait_for(lambda: not kept_processes(self.root), "the end of its servers")

    def _end_left(self) -> None:
        """Ends what an earlier program left when it was killed, and gives the disk back."""
        holder = holder_of(self.state / LEASES / SERVE)
        if holder and holder.identity.process:
            end([holder.identity.process], within_s=END_S)
        end(kept_processes(self.root), within_s=END_S)
        if self.folder.is_mount():
            subprocess.run(["umount", "--lazy", str(self.folder)], check=True)

    def _mount(self) -> None:
        """A small disk of its own, where this account may have one: one that can be filled."""
        if os.geteuid() == 0:
            kind = ["-t", "tmpfs", "-o", f"size={DISK}", "tmpfs"]
            subprocess.run(["mount", *kind, str(self.folder)], check=False)

    def flow(self, run: str) -> psutil.Process | None:
        """The process that executes a flow run."""
        with suppress(OSError, ValueError, KeyError):
            return Identity.read(json.loads((self.state / RUNS / f"{run}.json").read_text())).process
        return None

    def stage(self) -> str | None:
        """The stage that is under way in this step: the first whose parts are not all there, while it is written."""
        for name in STAGE_NAMES:
            if self.missing(name):
                return name if self.is_held(stage_facts(name).lease) else None
        return None

    def state_of(self, run: str) -> str:
        """The name of a run's state; empty where the server does not answer now."""
        with suppress(OSError):
            return self.api.state_of(run)[0]
        return ""

    def missing(self, name: str) -> list[int]:
        """The parts that a stage lacks in this step."""
        if name == "publish":
            return [] if latest_digest(self.root) == self.expected.digest else [0]
        folder = self.root / stage_facts(name).writes
        return [part for part in self.expected.parts if not part_path(folder, part).exists()]

    def is_held(self, lease: str) -> bool:
        """Whether a process holds a lease, as the kernel tells without a try that could get in its way."""
        path = self.state / LEASES / lease
        if not path.exists():
            return False
        file = path.stat()  # the number alone is another file's on another disk
        name = f"{os.major(file.st_dev):02x}:{os.minor(file.st_dev):02x}:{file.st_ino}"
        return f" {name} " in Path("/proc/locks").read_text()

    def parts(self) -> dict[Path, int]:
        """Every part of every manifest -> when it was written, in ns."""
        files = [path for one in STAGES for path in (self.root / one.writes).glob("*.parquet")]
        return {path: path.stat().st_mtime_ns for path in files}

    def processes(self, run: str) -> dict[str, list[psutil.Process]]:
        """Who can meet with an accident now, by what it is."""
        flow = self.flow(run)
        under = below(flow)
        kept = [*marked(KEPT, str(self.state / PREFECT)), *marked(KEPT, str(self.state / SERVE))]
        found = {
            "serve": [self.serve],
            "watchdog": _with(below(self.serve), "flows.services.watchdog"),
            "keeper of Prefect": [_keeper(self.state / PREFECT)],
            "keeper of the worker": [_keeper(self.state / SERVE)],
            "server": _with(kept, "prefect", "server"),
            "worker": _with(kept, "prefect", "worker", POOL),
            "mlflow": [one for one in _with(kept, "mlflow", "server") if "uvicorn" not in command_of(one)],
            "flow": [flow],
            "dask worker": [one for one in under if "spawn_main" in " ".join(command_of(one))],
            "media process": _with(under, "tasks.media.sandbox"),
        }
        return {name: [one for one in them if one] for name, them in found.items()}


def wait(seconds: float) -> None:
    """Lets time pass: between two looks, or until the moment that the dice have named."""
    Event().wait(seconds)


def is_alive(process: psutil.Process) -> bool:
    """Whether a process runs, or is stopped."""
    with suppress(psutil.Error):
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    return False


def _keeper(folder: Path) -> psutil.Process | None:
    keeper = running_in(folder)
    return keeper.process if keeper else None


def below(process: psutil.Process | None) -> list[psutil.Process]:
    """All that a process has started."""
    with suppress(psutil.Error):
        return process.children(recursive=True) if process else []
    return []


def _with(processes: list[psutil.Process], *words: str) -> list[psutil.Process]:
    return [one for one in processes if set(words) <= set(command_of(one))]
