"""`python -m benchmarks.demo`: `mcgurk demo` from start to end, and how long each stage of it took."""

import os
import platform
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

REQUIRED_S = 420.0
TASKS = "select name, start_time, end_time from task_run where end_time is not null order by start_time"


def main() -> None:
    """Runs the demo in a folder of its own and prints the conditions and the table."""
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        subprocess.run([sys.executable, "-m", "flows.commands.cli", "demo", "--root", folder], check=True)  # noqa: S603  (ours)
        took_s = time.perf_counter() - started
        stages = dict(seconds_by_stage(Path(folder) / "state" / "prefect" / "prefect.db"))
    print(f"\n{platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}\n")
    print("| stage | seconds |\n|---|---:|")
    for name, seconds in stages.items():
        print(f"| {name} | {seconds:.1f} |")
    print(f"| servers, cluster, imports | {took_s - sum(stages.values()):.1f} |")
    print(f"| all (required: {REQUIRED_S:g}) | {took_s:.1f} |")


def seconds_by_stage(database: Path) -> Iterator[tuple[str, float]]:
    """(stage, seconds), summed over its task runs, in the order in which the stages began."""
    seconds: dict[str, float] = {}
    with sqlite3.connect(database) as connection:
        for name, start, end in connection.execute(TASKS):
            stage = name.rsplit("-", 1)[0]
            took = datetime.fromisoformat(end) - datetime.fromisoformat(start)
            seconds[stage] = seconds.get(stage, 0.0) + took.total_seconds()
    yield from seconds.items()


if __name__ == "__main__":
    main()
