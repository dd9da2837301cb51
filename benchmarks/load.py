"""`python -m benchmarks.load [--parts 4322]`: a build of as many parts as AudioSet has, as Prefect runs it.

Each part has one segment, and all but a few of them are not to be had, so that what is measured is what parts and task
runs cost: download, extract and pack do groups of them, through a real server. The same build without Prefect, one by
Prefect, and three at once.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "support"))

from real_servers import Api
from roots import write_clips

from flows import presets
from flows.builds.options import BuildOptions
from flows.builds.pipeline import resolve
from flows.presets import PipelineConfig
from flows.services.servers import login, prefect_api

PRESET = "load"
AT_ONCE = 3
THERE = [f"there{n}" for n in range(4)]
DONE = "load: done "


def one_a_part() -> PipelineConfig:
    """The preset `demo` with one segment a part, and nothing waited for."""
    usual = presets.demo()
    index = replace(usual.index, part_size=1, eval_part_size=1, val_share=0.0)
    return replace(usual, index=index)


@dataclass(frozen=True)
class _Bare:
    """What stands for a task where there is no Prefect: its function."""

    function: Callable

    def __call__(self, *arguments: Any, **settings: Any) -> Any:
        return self.function(*arguments, **settings)

    def with_options(self, **options: Any) -> "_Bare":
        del options
        return self


def build(root: Path, *, with_prefect: bool) -> float:
    """Builds a root; returns the seconds."""
    from flows import build_dataset as flow  # Prefect reads its settings when it is imported

    options = options_of(root)
    began = time.monotonic()
    if with_prefect:
        flow.build_dataset(options)
    else:
        flow.task_of = lambda name, function, **usual: _Bare(function)  # pyright: ignore[reportAttributeAccessIssue]
        flow._build(resolve(options))
    return time.monotonic() - began


def options_of(root: Path) -> BuildOptions:
    """What is built: a list beside the root, of whose media a few are there."""
    segments = (str(root.parent / "list.csv"),)
    source = f"folder:{root.parent / 'media'}"
    return BuildOptions(str(root), preset=PRESET, segments=segments, source=source, compute="threads")


def started(root: Path, how: str) -> subprocess.Popen:
    """A build in a process of its own."""
    log = root.with_suffix(".log").open("w")
    command = [sys.executable, "-m", "benchmarks.load", f"--{how}", str(root)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True)


def seconds_of(process: subprocess.Popen) -> float:
    """How long its build took. Ends the benchmark where it failed."""
    told, _ = process.communicate()
    found = [line.removeprefix(DONE) for line in told.splitlines() if line.startswith(DONE)]
    if process.returncode or not found:
        sys.exit(f"a build failed: {told[-2000:]}")
    return float(found[0])


def runs_of(api: Api, root: Path) -> Mapping[str, int]:
    """How many task runs the build of a root had, by their state."""
    (run,) = [
        one
        for one in api.ask("/flow_runs/filter", {"sort": "START_TIME_DESC"})
        if one["parameters"].get("options", {}).get("root") == str(root)
    ]
    wanted = {"flow_runs": {"id": {"any_": [run["id"]]}}}
    counts = {"flow": run["state_name"], "all": api.ask("/task_runs/count", wanted)}
    done = {**wanted, "task_runs": {"state": {"type": {"any_": ["COMPLETED"]}}}}
    return {**counts, "completed": api.ask("/task_runs/count", done)}


def main() -> None:
    """Prints the conditions and the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--parts", type=int, default=4322)
    parser.add_argument("--bare", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--flow", type=Path, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    presets.PRESETS[PRESET] = one_a_part
    if root := asked.bare or asked.flow:
        print(f"{DONE}{build(root, with_prefect=bool(asked.flow)):.2f}")
        return
    print(
        f"{platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}; {asked.parts} parts\n"
    )
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (listed,) = write_clips(folder / "media", THERE)
        lines = [f'absent{n:05d}, 0.000, 2.000, "/m/09x0r"\n' for n in range(asked.parts - len(THERE))]
        (folder / "list.csv").write_text(listed.read_text() + "".join(lines))
        with prefect_api(folder / "state") as address:
            measure(folder, Api(address, login(folder / "state")), asked.parts)


def measure(folder: Path, api: Api, num_parts: int) -> None:
    """Prints the rows."""
    bare_s = seconds_of(started(folder / "bare", "bare"))
    alone_s = seconds_of(started(folder / "alone", "flow"))
    counts = runs_of(api, folder / "alone")
    print(
        "| build | s | task runs | ms more a task run | ms more a part and stage |\n|---|---:|---:|---:|---:|"
    )
    print(f"| without Prefect | {bare_s:.0f} | | | |")

    def row(name: str, seconds: float, counts: Mapping) -> str:
        more_ms = 1000 * (seconds - bare_s)
        told = f"{counts['completed']} of {counts['all']}, flow {counts['flow']}"
        return f"| {name} | {seconds:.0f} | {told} | {more_ms / counts['all']:.0f} | {more_ms / 3 / num_parts:.1f} |"

    print(row("one", alone_s, counts), flush=True)
    roots = [folder / f"beside{n}" for n in range(AT_ONCE)]
    together = [started(root, "flow") for root in roots]
    for root, process in zip(roots, together, strict=True):
        seconds = seconds_of(process)
        print(row(f"{AT_ONCE} at once: {root.name}", seconds, runs_of(api, root)), flush=True)
    size = (folder / "state" / "prefect" / "prefect.db").stat().st_size
    print(
        f"\nPrefect's database: {size / 1e6:.1f} MB; {json.dumps(api.ask('/flow_runs/count', {}))} flow runs"
    )


if __name__ == "__main__":
    main()
