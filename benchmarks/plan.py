"""`python -m benchmarks.plan`: how long `mcgurk plan` takes over AudioSet's 4,322 parts, with nothing to do.

The root is made of real parts: 482 rows each, every header with the fingerprint that its stage would give it.
Each part of the clips owns 482 media files (links to one), which plan looks for; the row without them is a root
whose clips were deleted after their extraction.
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

from flows.builds.options import BuildOptions
from flows.builds.pipeline import Pipeline, resolve
from flows.builds.plan import plan_all
from flows.stages import TABLE
from schemas.layout import MEDIA
from schemas.manifest import PartHeader, part_path, write_table
from schemas.segment import SEGMENTS
from schemas.storage import path_under

# 2.08 M segments
NUM_PARTS = 4322
ROWS_PER_PART = 482
REQUIRED_S = 3.0
REPEATS = 3


def main() -> None:
    """Prints the conditions and the table."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "root"
        write_root(root, with_media=False)
        bare_s = min(seconds_of(lambda: plan_all(pipeline_of(root))) for _ in range(REPEATS))
        command_s = min(seconds_of(lambda: run_command(root)) for _ in range(REPEATS))
        write_root(root, with_media=True)
        media_s = min(seconds_of(lambda: plan_all(pipeline_of(root))) for _ in range(REPEATS))
        plans = plan_all(pipeline_of(root))
    print(
        f"{platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}; {NUM_PARTS} parts a "
        f"stage, {NUM_PARTS * ROWS_PER_PART:,} segments, files in the page cache, best of {REPEATS}\n"
    )
    print("| measure | value |\n|---|---:|")
    print(f"| plan of all stages (required: {REQUIRED_S:g} s) | {bare_s:.2f} s |")
    print(f"| `mcgurk plan`, with its start | {command_s:.2f} s |")
    print(
        f"| plan of all stages, and {NUM_PARTS * ROWS_PER_PART:,} media files looked for | {media_s:.2f} s |"
    )
    print(f"| parts that are done | {sum(plan.counts()['done'] for plan in plans.values())} |")


def run_command(root: Path) -> None:
    """`mcgurk plan` in a process of its own."""
    arguments = ["plan", "--root", str(root), "--source", f"folder:{root.parent}"]
    subprocess.run([sys.executable, "-m", "flows.commands.cli", *arguments], check=True, capture_output=True)  # noqa: S603  (ours)


def seconds_of(work) -> float:
    """Wall time of one call."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def pipeline_of(root: Path) -> Pipeline:
    """What a user's command makes of the root."""
    return resolve(BuildOptions(str(root), source=f"folder:{root.parent}"))


def write_root(root: Path, *, with_media: bool) -> None:
    """Every part of every stage, up to date."""
    table = table_of(SEGMENTS)
    for part in range(NUM_PARTS):
        write_table(part_path(root / "segments", part), table, PartHeader("index", "made by a benchmark", {}))
    pipeline = pipeline_of(root)
    for stage in (row.over(pipeline) for row in TABLE if row.make):
        table = table_of(stage.schema)
        for part in range(NUM_PARTS):
            files = link_media(root, part) if with_media and stage.name == "download" else {}
            header = PartHeader(stage.name, stage.part_fingerprint(part), files)
            write_table(part_path(stage.target, part), table, header)


def link_media(root: Path, part: int) -> dict[str, int]:
    """One media file a row; they share their bytes."""
    folder = root / MEDIA / f"{part:06d}"
    folder.mkdir(parents=True)
    first = folder / "video000000_0_10000.mp4"
    first.write_bytes(b"media")
    for n in range(1, ROWS_PER_PART):
        os.link(first, folder / f"video{n:06d}_0_10000.mp4")
    return {path_under(root, path): 5 for path in folder.iterdir()}


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
