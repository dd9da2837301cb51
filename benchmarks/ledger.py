"""`python -m benchmarks.ledger [PARTS]`: plan, fold and status of AudioSet's segments after 10 M attempts.

Half of the parts are in shards; a fifth of the segments is gone or waits, and a twentieth is due. Made of real parts
of 482 rows and compacted ledgers of 2,314 attempts; all of it is in the page cache. Writing it takes most of the time.
"""

import datetime
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from flows.builds.options import BuildOptions
from flows.builds.pipeline import resolve
from flows.builds.plan import plan_one
from schemas.clip import CLIPS
from schemas.manifest import PartHeader, part_path, write_table
from schemas.segment import SEGMENTS
from schemas.shard import SHARDS
from tasks.acquisition import ledger

# 2.08 M segments
NUM_PARTS = 4322
ROWS_PER_PART = 482
ATTEMPTS_PER_PART = 2314  # 10 M
REQUIRED_STATUS_S = 5.0
REQUIRED_BYTES = 2e9
NUM_LABELS = 527
WRITERS = 2
FOLDED_PARTS = 200  # a group of parts is folded at a time
APPENDS = 200
REPEATS = 3
# What became of a segment, and how many in a thousand.
FATES = {
    ("ok", ""): 800, ("unavailable", "private"): 60, ("unavailable", "removed"): 60, ("waiting", "network"): 30,
    ("waiting", "queued"): 50,
}  # fmt: skip
NOW = datetime.datetime.now(datetime.UTC)


def main() -> None:
    """Prints the conditions and the table."""
    num_parts = int(sys.argv[1]) if len(sys.argv) > 1 else NUM_PARTS
    rows = num_parts * ROWS_PER_PART
    attempts = num_parts * ATTEMPTS_PER_PART
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "root"
        write_root(root, num_parts)
        pipeline = resolve(BuildOptions(str(root), source=f"folder:{folder}"))
        plan_s = seconds_of(lambda: plan_one(pipeline, "download"))
        folded = range(min(FOLDED_PARTS, num_parts))
        fold_s = seconds_of(lambda: [ledger.latest(root / "state", part) for part in folded], 1)
        first_s = seconds_of(lambda: run_status(root), 1)
        status_s = seconds_of(lambda: run_status(root))
        usage = resource.getrusage(resource.RUSAGE_CHILDREN)
        cpu_s = (usage.ru_utime + usage.ru_stime) / (REPEATS + 1)
        peak_bytes = usage.ru_maxrss * 1024
        append_s = seconds_of(lambda: append(root), 1) / APPENDS
        told = run_status(root)
    print(
        f"{platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}; {num_parts:,} parts, "
        f"{rows:,} segments, {attempts:,} attempts, best of {REPEATS}\n"
    )
    print("| measure | value | rows/s |\n|---|---:|---:|")
    print(f"| plan of `download`, a part in twenty rows due | {plan_s:.2f} s | {rows / plan_s:,.0f} |")
    tries = len(folded) * ATTEMPTS_PER_PART
    print(f"| fold of the ledger, {len(folded)} parts | {fold_s:.1f} s | {tries / fold_s:,.0f} attempts |")
    print(f"| `mcgurk status --json`, the first look at all that | {first_s:.2f} s | {rows / first_s:,.0f} |")
    print(
        f"| `mcgurk status --json`, later, with its start (required: {REQUIRED_STATUS_S:g} s) | {status_s:.2f} s "
        f"| {rows / status_s:,.0f} |"
    )
    print(f"| their CPU, mean | {cpu_s:.2f} s | |")
    print(f"| their memory (required: {REQUIRED_BYTES / 1e9:g} GB) | {peak_bytes / 1e9:.2f} GB | |")
    print(f"| one video into the ledger, on disk | {1e3 * append_s:.1f} ms | |")
    print(f"| segments that status counts | {told['segments']:,} | |")


def run_status(root: Path) -> dict:
    """`mcgurk status` in a process of its own."""
    command = [sys.executable, "-m", "flows.commands.cli", "status", "--root", str(root), "--json"]
    return json.loads(subprocess.run(command, check=True, capture_output=True).stdout)  # noqa: S603  (our own command)


def append(root: Path) -> None:
    """Attempts of one segment each, as a lane commits them."""
    row = dict.fromkeys(CLIPS.names) | {"key": "video_0_10000", "outcome": "ok", "reason": ""}
    for _ in range(APPENDS):
        ledger.append(root / "state", 0, [row])


def seconds_of(work: Callable[[], object], repeats: int = REPEATS) -> float:
    """Wall time of one call, the least of some."""
    times = []
    for _ in range(repeats):
        started = time.perf_counter()
        work()
        times.append(time.perf_counter() - started)
    return min(times)


def write_root(root: Path, num_parts: int) -> None:
    """Segments, clips and ledgers of every part, and shards of every other one."""
    ledger.compacted_path(root / "state", 0).parent.mkdir(parents=True)
    for part in range(num_parts):
        segments = segments_of(part)
        for name in ("segments", "segments/checked"):
            write_table(
                part_path(root / name, part), segments, PartHeader("index", "made by a benchmark", {})
            )
    stage = resolve(BuildOptions(str(root), source=f"folder:{root.parent}")).stage("download")

    def write(part: int) -> None:
        clips = clips_of(part)
        header = PartHeader("download", stage.part_fingerprint(part), {})
        write_table(part_path(root / "clips", part), clips, header)
        drawn = np.sort(np.random.default_rng(part).integers(0, ROWS_PER_PART, ATTEMPTS_PER_PART))
        tried = clips.take(drawn).replace_schema_metadata({ledger.GENERATION: "1"})
        pq.write_table(tried, ledger.compacted_path(root / "state", part), compression="zstd")
        if part % 2 == 0:
            shards = filled(SHARDS, {name: clips[name] for name in ("key", "outcome", "reason", "digest")})
            write_table(part_path(root / "shards", part), shards, PartHeader("pack", "", {}))

    with ThreadPoolExecutor(WRITERS) as writers:
        for _ in writers.map(write, range(num_parts)):
            pass


def segments_of(part: int) -> pa.Table:
    """The segments of one part, each with one to three labels."""
    rng = np.random.default_rng(part)
    counts = rng.integers(1, 4, ROWS_PER_PART)
    flat = pa.array([f"/m/{n:05x}" for n in range(NUM_LABELS)]).take(
        rng.integers(0, NUM_LABELS, counts.sum())
    )
    labels = pa.ListArray.from_arrays(np.concatenate([[0], counts.cumsum()]).astype(np.int32), flat)
    columns = {"key": keys_of(part), "outcome": ["ok"] * ROWS_PER_PART, "row": range(ROWS_PER_PART)}
    return filled(SEGMENTS, {**columns, "reason": [""] * ROWS_PER_PART, "labels": labels})


def clips_of(part: int) -> pa.Table:
    """What became of them; times of the last year."""
    rng = np.random.default_rng(part)
    weights = np.array(list(FATES.values())) / sum(FATES.values())
    outcomes, reasons = zip(
        *(list(FATES)[n] for n in rng.choice(len(FATES), ROWS_PER_PART, p=weights)), strict=True
    )
    hours = rng.integers(0, 365 * 24, ROWS_PER_PART).tolist()
    tried = [None if reason == "queued" else hour_text(-h) for reason, h in zip(reasons, hours, strict=True)]
    again = [None if o == "ok" else hour_text(0 if r == "queued" else h)
             for o, r, h in zip(outcomes, reasons, hours, strict=True)]  # fmt: skip
    columns = {"key": keys_of(part), "outcome": outcomes, "reason": reasons, "tried_at": tried}
    columns |= {"next_attempt_at": again, "digest": [f"{part:032x}{n:032x}" for n in range(ROWS_PER_PART)]}
    facts = {
        "path": [f"clips/media/{part:06d}/{key}.mp4" for key in keys_of(part)],
        "lane": ["guest"] * ROWS_PER_PART,
    }
    return filled(CLIPS, {**columns, **facts, "detail": ["ERROR: Private video"] * ROWS_PER_PART})


@cache
def hour_text(hours: int) -> str:
    """A time so many hours from now, as rows name it."""
    return (NOW + datetime.timedelta(hours=hours)).isoformat()


def keys_of(part: int) -> list[str]:
    """The keys of a part's segments."""
    return [f"v{part:05d}_{n:03d}_30000_40000" for n in range(ROWS_PER_PART)]


def filled(schema: pa.Schema, columns: dict) -> pa.Table:
    """A table of one part with these columns, the others null."""
    arrays = [
        pa.array(columns[field.name], field.type)
        if isinstance(columns.get(field.name), (list, tuple, range))
        else columns.get(field.name, pa.nulls(ROWS_PER_PART, field.type))
        for field in schema
    ]
    return pa.table(dict(zip(schema.names, arrays, strict=True))).cast(schema)


if __name__ == "__main__":
    main()
