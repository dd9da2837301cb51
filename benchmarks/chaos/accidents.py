"""The accidents: what is done to whom while a build runs, and how it is undone."""

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil
from postgres import postgres_programs

from benchmarks.chaos.ground import Ground, wait
from benchmarks.chaos.weather import DELAYED, KINDS
from schemas.layout import stage_facts

STOPPED_S = (3.0, 12.0)
AWAY_S = (2.0, 8.0)
FULL_S = (3.0, 30.0)
POLL_S = 0.1
HOUR_S = 3600
WHILE_FETCHING = ("validate-segments", "download")
STAGES_OF_CLIPS = ("download", "extract")
FOR_GOOD = "stop for good"
EVERYTHING = "all processes"
WEATHER = "host"
DISK = "disk"
CLOCK = "clock"
JUMPS = {"an hour ahead": 3600, "an hour back": -3600, "two minutes ahead": 120, "a week ahead": 604_800}


class MissedError(Exception):
    """There is nobody now whom the accident could meet."""


Happening = Callable[[Ground, str, random.Random], AbstractContextManager[None]]


@dataclass(frozen=True)
class Accident:
    """What happens to whom; a context manager whose block waits for what becomes of the run."""

    victim: str
    how: str
    happen: Happening
    stages: tuple[str, ...] = ()  # during which it can happen; any for none
    ends_runs: bool = False  # whether the run that it meets may be ended by it
    needs_clock: bool = False  # that can be set
    later_s: int = (
        0  # when the next schedule is, where it has to be later than now: then the ground is used up
    )
    holds_lease: bool = (
        False  # what it has stopped for good holds the lease of builds, until the next one ends it
    )


def _signals(victim: str, how: str) -> Happening:
    @contextmanager
    def happen(ground: Ground, run: str, rng: random.Random) -> Iterator[None]:
        there = ground.processes(run).get(victim, [])
        if not there:
            raise MissedError(victim)
        process = rng.choice(there)
        with suppress(psutil.NoSuchProcess):
            if how == FOR_GOOD:
                process.suspend()
            elif how == "stop":
                process.suspend()
                wait(rng.uniform(*STOPPED_S))
                process.resume()
            elif how == "kill -9":
                process.kill()
            else:
                process.send_signal(signal.Signals[how])
        yield

    return happen


@contextmanager
def _power_cut(ground: Ground, run: str, rng: random.Random) -> Iterator[None]:
    """kill -9 of all there is, in any order."""
    there = [one for them in ground.processes(run).values() for one in them]
    rng.shuffle(there)
    for process in there:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    yield


def _storm(*more: str) -> Happening:
    @contextmanager
    def happen(ground: Ground, run: str, rng: random.Random) -> Iterator[None]:
        del run
        with ground.host.storm(rng.randrange(1 << 30), (*KINDS, *more)):
            yield

    return happen


@contextmanager
def _refusal(ground: Ground, run: str, rng: random.Random) -> Iterator[None]:
    """The host refuses connections for some seconds."""
    del run
    ground.host.close()
    wait(rng.uniform(*AWAY_S))
    ground.host.open()
    yield


@contextmanager
def _full_disk(ground: Ground, run: str, rng: random.Random) -> Iterator[None]:
    """All that is free is taken, and given back when the flow has ended or after some seconds."""
    if not ground.folder.is_mount():
        raise MissedError("it has no disk of its own")
    ballast = ground.folder / "ballast"
    with ballast.open("wb", buffering=0) as file:
        for chunk in (bytes(1 << 20), bytes(1 << 12)):
            with suppress(OSError):
                while file.write(chunk):
                    pass
    try:
        _await_flow(ground, run, rng.uniform(*FULL_S))
    finally:
        ballast.unlink()
    yield


def _await_flow(ground: Ground, run: str, within_s: float) -> None:
    """Waits until the flow has ended, or as long."""
    ends = time.monotonic() + within_s
    while ground.flow(run) and time.monotonic() < ends:
        wait(POLL_S)


@contextmanager
def _read_only_disk(ground: Ground, run: str, rng: random.Random) -> Iterator[None]:
    """The folder that the stage writes can be read and not written, until the run has ended."""
    del run, rng
    stage = ground.stage()
    if stage is None:
        raise MissedError("no stage")
    folder = str(ground.root / stage_facts(stage).writes)
    if subprocess.run(["mount", "--bind", folder, folder], check=False).returncode:
        raise MissedError("nothing can be mounted")
    try:
        subprocess.run(["mount", "-o", "remount,bind,ro", folder], check=True)
        yield
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


@contextmanager
def _slow_disk(ground: Ground, run: str, rng: random.Random) -> Iterator[None]:
    """Each fsync and rename of the flow's processes takes a fifth of a second."""
    flow = ground.flow(run)
    if flow is None:
        raise MissedError("flow")
    there = [flow, *flow.children(recursive=True)]
    calls = "fsync,fdatasync,rename,unlink"
    delay = f"inject={calls}:delay_enter={rng.randrange(100_000, 400_000)}"
    pids = [word for one in there for word in ("-p", str(one.pid))]
    command = ["strace", "-f", "-qq", "-o", os.devnull, "-e", f"trace={calls}", "-e", delay, *pids]
    tracer = subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield
    finally:
        tracer.send_signal(signal.SIGINT)
        tracer.wait()


def _clock_jumps(ahead_s: int) -> Happening:
    @contextmanager
    def happen(ground: Ground, run: str, rng: random.Random) -> Iterator[None]:
        del run, rng
        ground.set_clock(ahead_s)
        yield

    return happen


def _of_processes() -> Iterator[Accident]:
    ends = ("flow", "worker", "serve", "keeper of the worker", "keeper of Prefect")
    for victim in (
        "flow", "worker", "server", "serve", "keeper of Prefect", "keeper of the worker", "mlflow", "watchdog",
        "dask worker", "media process",
    ):  # fmt: skip
        stages = {"dask worker": ("extract",), "media process": STAGES_OF_CLIPS}.get(victim, ())
        for how in ("kill -9", "SIGTERM", "stop", FOR_GOOD):
            ends_runs = victim in ends and how != "stop"
            holds_lease = how == FOR_GOOD and victim == "flow"
            if (victim, how) != ("serve", FOR_GOOD):  # a person has to go on with it
                yield Accident(victim, how, _signals(victim, how), stages, ends_runs, holds_lease=holds_lease)


ACCIDENTS = (
    *_of_processes(),
    Accident(EVERYTHING, "kill -9", _power_cut, ends_runs=True),
    Accident(WEATHER, "35 % faults", _storm(), WHILE_FETCHING),
    Accident(WEATHER, "refuses", _refusal, WHILE_FETCHING),
    Accident(
        WEATHER,
        "35 % faults, 429 and pages",
        _storm(*DELAYED),
        WHILE_FETCHING,
        needs_clock=True,
        later_s=25 * HOUR_S,
    ),
    Accident(DISK, "full", _full_disk, ends_runs=True),
    Accident(DISK, "read-only", _read_only_disk, ends_runs=True),
    Accident(DISK, "slow", _slow_disk),
    *(Accident(CLOCK, jump, _clock_jumps(ahead_s), needs_clock=True) for jump, ahead_s in JUMPS.items()),
)


# Of what people outgrow one machine with: each is started again at once, as its supervisor does.
OUTGROWN = tuple(
    Accident(victim, how, _signals(victim, how), stages, ends_runs=True)
    for victim, stages in {
        "store": (), "PostgreSQL": (), "server": (), "worker": (), "scheduler": ("extract",), "nanny": ("extract",),
        "worker of the cluster": ("extract",), "media process": ("extract",), "flow": (),
    }.items()
    # By SIGTERM PostgreSQL waits until all who are connected have left: its service ends it by SIGINT.
    for how in ("kill -9", "SIGINT" if victim == "PostgreSQL" else "SIGTERM", "stop")
)  # fmt: skip


def can_outgrow() -> bool:
    """Whether this machine has the programs for more than one machine."""
    return postgres_programs() is not None and Path(sys.executable).with_name("rclone").exists()


def possible() -> Iterator[Accident]:
    """The accidents that this machine and this account can make."""
    can_mount = os.geteuid() == 0
    lacks = {
        DISK: not can_mount,
        CLOCK: shutil.which("cc") is None,
    }
    for one in ACCIDENTS:
        is_slow = (one.victim, one.how) == (DISK, "slow")
        if not lacks.get(one.victim) and not (is_slow and shutil.which("strace") is None):
            yield one
