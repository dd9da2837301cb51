"""The laws: what must hold on a ground after every round, whatever the accident was."""

from collections.abc import Iterator
from pathlib import Path

import psutil
from real_servers import wait_for

from benchmarks.chaos.ground import Ground, is_alive
from flows.services.keeper import OF_A_RUN
from schemas.errors import McgurkError
from schemas.layout import REBUILD, SCRATCH
from schemas.shard import read_version
from tasks.funnel import measure_funnel
from tasks.processes import command_of

STATE_BYTES = 100 << 20  # of a state folder, at the end of a ground: databases, logs, validations
AT_WORK = {"type": {"any_": ["RUNNING", "PENDING", "CANCELLING"]}}


def broken_laws(ground: Ground, runs: list[str], *, may_end_runs: bool) -> list[str]:
    """Which laws do not hold now, in words."""
    found = [*_of_data(ground), *_of_files(ground), *_of_runs(ground, runs, may_end_runs=may_end_runs)]
    return [*found, *_of_processes(ground)]


def _of_data(ground: Ground) -> Iterator[str]:
    try:
        counts = measure_funnel(ground.root)
    except McgurkError as error:
        yield f"the funnel: {error}"
        return
    if counts["in_shards"] != counts["segments"]:
        yield f"not all in shards: {counts}"
    version = read_version(ground.root)
    shards = {shard.name: shard.sha256 for shard in version.shards}
    if version.digest != ground.expected.digest or shards != ground.expected.shards:
        yield "digests differ from those of an undisturbed run"


def _of_files(ground: Ground) -> Iterator[str]:
    hidden = [
        one for one in ground.root.rglob(".*") if "prefect" not in one.parts and ".ipynb" not in one.name
    ]
    left = [*hidden, *(ground.state / SCRATCH).glob("*"), *ground.state.glob(f"{REBUILD}*")]
    if left:
        yield f"temporary files: {', '.join(str(one) for one in left[:5])}"
    size = size_of(ground.state)
    if size > STATE_BYTES:
        yield f"the state folder has {size / 1e6:.0f} MB"


def size_of(folder: Path) -> int:
    """Bytes of all files under a folder."""
    found = 0
    for path in folder.rglob("*"):
        try:
            found += path.stat().st_size if path.is_file() else 0
        except FileNotFoundError:
            continue
    return found


def _of_runs(ground: Ground, runs: list[str], *, may_end_runs: bool) -> Iterator[str]:
    try:
        wait_for(
            lambda: not ground.api.ask("/flow_runs/filter", {"flow_runs": {"state": AT_WORK}}),
            "no run at work",
        )
    except AssertionError:
        yield "a run is left at work"
    for run in runs:
        name, message = ground.api.state_of(run)
        if name == "Crashed" and not may_end_runs:
            yield f"a live run was declared dead: {message}"


def _of_processes(ground: Ground) -> Iterator[str]:
    """Flow runs, workers of clusters and media processes end with their build."""

    def strays() -> list[str]:
        found = []
        for one in psutil.process_iter():
            try:
                own = str(ground.folder) in one.environ().get("PREFECT_HOME", "")
                is_of_run = own and OF_A_RUN in one.environ()
                is_orphan = "tasks.media.sandbox" in command_of(one) and one.ppid() == 1
            except (psutil.Error, OSError):
                continue
            if (is_of_run or is_orphan) and is_alive(one):
                found.append(f"{one.pid} {' '.join(command_of(one))[:80]}")
        return found

    try:
        wait_for(lambda: not strays(), "no stray")
    except AssertionError:
        yield f"stray processes: {strays()}"
