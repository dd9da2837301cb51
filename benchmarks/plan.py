"""`python -m benchmarks.plan`: how long `mcgurk plan` takes over AudioSet's 4,322 parts, with nothing to do.

The root is made of real parts: 482 rows each, every header with the fingerprint that its stage would give it.
"""

import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa

from flows.pipeline import STAGES, BuildOptions, Pipeline, plan_all, resolve
from schemas.manifest import PartHeader, part_path, write_table
from schemas.segment import SEGMENTS
from tasks.parts import Stage

NUM_PARTS, ROWS_PER_PART = 4322, 482  # 2.08 M segments
REQUIRED_S = 3.0
REPEATS = 3


def main() -> None:
    """Prints the conditions and the table."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "root"
        write_root(root)
        arguments = ["plan", "--root", str(root), "--source", f"folder:{folder}"]
        command = [sys.executable, "-m", "flows.cli", *arguments]
        command_s = seconds_of(lambda: subprocess.run(command, check=True, capture_output=True))  # noqa: S603
        inside = [seconds_of(lambda: plan_all(pipeline_of(root))) for _ in range(REPEATS)]
        plans = plan_all(pipeline_of(root))
    print(
        f"{platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}; {NUM_PARTS} parts a "
        f"stage, {NUM_PARTS * ROWS_PER_PART:,} segments, files in the page cache\n"
    )
    print("| measure | value |\n|---|---:|")
    print(f"| plan of all stages, best of {REPEATS} (required: {REQUIRED_S:g} s) | {min(inside):.2f} s |")
    print(f"| `mcgurk plan`, with its start | {command_s:.2f} s |")
    print(f"| parts that are done | {sum(plan.counts()['done'] for plan in plans.values())} |")


def seconds_of(work) -> float:
    """Wall time of one call."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def pipeline_of(root: Path) -> Pipeline:
    """What a user's command makes of the root."""
    return resolve(BuildOptions(str(root), source=f"folder:{root.parent}"))


def write_root(root: Path) -> None:
    """Every part of every stage, up to date."""
    table = table_of(SEGMENTS)
    for part in range(NUM_PARTS):
        write_table(part_path(root / "segments", part), table, PartHeader("index", "made by a benchmark", {}))
    pipeline = pipeline_of(root)
    for name in STAGES[1:-1]:
        stage = pipeline.stage(name)
        table = table_of(stage.schema)
        for part in range(NUM_PARTS):
            write_table(part_path(stage.target, part), table, header_of(stage, part))


def header_of(stage: Stage, part: int) -> PartHeader:
    """The header that a run of `stage` would write; the part owns no files here."""
    return PartHeader(stage.name, stage.part_fingerprint(part), {})


def table_of(schema: pa.Schema) -> pa.Table:
    """Rows of one part; the same in every part, because plan reads headers."""
    columns: dict[str, Sequence] = {
        "key": [f"video{n:06d}_0_10000" for n in range(ROWS_PER_PART)],
        "outcome": ["ok"] * ROWS_PER_PART,
        "digest": [f"{n:064x}" for n in range(ROWS_PER_PART)],
    }
    nothing = {
        field.name: pa.nulls(ROWS_PER_PART, field.type) for field in schema if field.name not in columns
    }
    arrays = {name: pa.array(values, schema.field(name).type) for name, values in columns.items()}
    return pa.table({**nothing, **arrays}).select(schema.names).cast(schema)


if __name__ == "__main__":
    main()
