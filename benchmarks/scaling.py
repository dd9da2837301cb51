"""`python -m benchmarks.scaling`: what spreading costs: a second worker, Prefect + Dask + manifests, and memory.

Orchestrated and plain extraction of the same clips run in processes of their own, one after the other; CPU time
is user and system of a process with all its children (servers, workers, media processes). What both cost for
few clips is taken off: it is the fixed start-up, which stands in a row of its own. Plain extraction runs in as many
processes at once, because cores that share caches (or are threads of one) take more CPU time for the same work.
"""

import argparse
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path

import psutil
from dask.system import CPU_COUNT

from flows.compute import local_map, open_compute
from flows.presets import standard
from flows.services.servers import prefect_api
from schemas.clip import CLIPS
from schemas.feature import Profile
from schemas.manifest import PartHeader, part_numbers, part_path, read_part, write_part
from tasks import extract, features
from tasks.extract import CLIPS_PER_BATCH, ClipBatch, extract_batch
from tasks.parts import plan_stage
from tasks.sources.scenes.corpus import CorpusConfig, media_path, render_scene

NUM_SCENES = 24
FEW = 16
MANY = 2000
FOR_SPEED = 600
FOR_MEMORY = 10_000
PART_SIZE = 128
PROFILE = standard().profile
SHORT = replace(PROFILE, name="short", length_ms=1000)  # of which 10,000 clips take a minute, not an hour
REQUIRED_SPEEDUP = 1.7
MOST_OVERHEAD = 0.03

Row = tuple[str, str]


def main() -> None:
    """Prints the conditions and the table, or does one side of it."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--side", choices=("orchestrated", "plain"))
    parser.add_argument("--root", type=Path)
    options = parser.parse_args()
    if options.side:
        {"orchestrated": orchestrated, "plain": plain}[options.side](options.root)
        return
    with tempfile.TemporaryDirectory() as folder:
        media = scenes(Path(folder))
        rows = [*overhead(Path(folder), media), *speedup(Path(folder), media), *memory(Path(folder), media)]
    print(
        f"{platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}; scenes of 10 s, 320x240, "
        f"profile {PROFILE.name}; batches of {CLIPS_PER_BATCH}, parts of {PART_SIZE}\n\n| measure | value |\n|---|---:|"
    )
    for name, value in rows:
        print(f"| {name} | {value} |")


def overhead(folder: Path, media: Sequence[Path]) -> Iterator[Row]:
    """What Prefect, Dask and the manifests add to the extraction of MANY clips, in CPU time."""
    cost = {}
    for count in (FEW, MANY):
        for side in ("plain", "orchestrated"):
            root = write_root(folder / f"{side}{count}", media, count)
            cost[side, count] = cpu_of_side(side, root)
    ours, bare = (cost[side, MANY] - cost[side, FEW] for side in ("orchestrated", "plain"))
    num = MANY - FEW
    yield f"plain extraction of {num} clips, CPU", f"{bare:.1f} s, {1000 * bare / num:.1f} ms a clip"
    yield (
        "the same by Prefect and Dask, with manifests, CPU",
        f"{ours:.1f} s, {1000 * ours / num:.1f} ms a clip",
    )
    yield f"overhead, share of CPU time (required: {MOST_OVERHEAD:.0%} at most)", f"{1 - bare / ours:.1%}"
    yield (
        "fixed start-up: server, cluster, imports, CPU",
        f"{cost['orchestrated', FEW] - cost['plain', FEW]:.1f} s",
    )


def cpu_of_side(side: str, root: Path) -> float:
    """CPU seconds of one side over `root`, in a process of its own."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    command = [sys.executable, "-m", "benchmarks.scaling", "--side", side, "--root", str(root)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)  # noqa: S603  (ours)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def orchestrated(root: Path) -> None:
    """Extraction as a build does it: plan, a task run a group of parts, batches on the local cluster."""
    with prefect_api(root / "state"):
        from prefect import flow  # only now: it reads the server's address when it is imported

        from flows.stages import GROUP
        from flows.task_runs import task_of

        @flow(persist_result=False)
        def only_extract() -> None:
            stage = extract.stage(root, PROFILE)
            due = plan_stage(stage).due()
            with open_compute("local") as map_items:
                run = task_of("extract", lambda parts: extract.run(stage, parts, PROFILE, map_items))
                for start in range(0, len(due), GROUP):
                    run(due[start : start + GROUP])

        only_extract()


def plain(root: Path) -> None:
    """The same clips in batches of the same size, in a pool of processes."""
    extract_in_pool(list(batches(root, PROFILE)), CPU_COUNT)


def extract_in_pool(some: Sequence[ClipBatch], num_processes: int) -> None:
    """What multiprocessing alone does with batches."""
    with ProcessPoolExecutor(num_processes, mp_context=get_context("spawn")) as pool:
        for _ in pool.map(extract_batch, some):
            pass


def batches(root: Path, profile: Profile) -> Iterator[ClipBatch]:
    """All clips under `root`, as extract deals them."""
    names = list(features.of_profile(profile))
    for part in part_numbers(root / "clips/checked"):
        clips = [(row, names) for row in read_part(part_path(root / "clips/checked", part))]
        for start in range(0, len(clips), CLIPS_PER_BATCH):
            yield ClipBatch(root, part, start, clips[start : start + CLIPS_PER_BATCH], profile)


def speedup(folder: Path, media: Sequence[Path]) -> Iterator[Row]:
    """Wall time of the same extraction with one worker and with two; and what two bare processes gain here."""
    took = {}
    bare = {}
    for num_workers in (1, 2):
        root = write_root(folder / f"workers{num_workers}", media, FOR_SPEED)
        with local_map(num_workers) as map_items:
            few = list(batches(root, PROFILE))[: 2 * num_workers]
            list(map_items(extract_batch, few))  # processes have started
            stage = extract.stage(root, PROFILE)
            started = time.perf_counter()
            extract.run(stage, part_numbers(root / "clips/checked"), PROFILE, map_items)
            took[num_workers] = time.perf_counter() - started
        started = time.perf_counter()
        extract_in_pool(list(batches(root, PROFILE)), num_workers)
        bare[num_workers] = time.perf_counter() - started
    yield "clips/s, one worker", f"{FOR_SPEED / took[1]:.1f}"
    yield "clips/s, two workers", f"{FOR_SPEED / took[2]:.1f}"
    yield f"speed-up (required: {REQUIRED_SPEEDUP})", f"{took[1] / took[2]:.2f}"
    yield "speed-up of a bare pool of processes on these cores, start included", f"{bare[1] / bare[2]:.2f}"


def memory(folder: Path, media: Sequence[Path]) -> Iterator[Row]:
    """Resident memory of workers and media processes along FOR_MEMORY clips of one second."""
    root = write_root(folder / "memory", media, FOR_MEMORY)
    seen = {}
    with local_map(2) as map_items:

        def watched(function: Callable, items: Sequence) -> Iterator:
            for number, result in enumerate(map_items(function, items), start=1):
                if number * CLIPS_PER_BATCH in (1000, 5000, FOR_MEMORY):
                    seen[number * CLIPS_PER_BATCH] = sum(
                        child.memory_info().rss for child in psutil.Process().children(True)
                    )
                yield result

        extract.run(extract.stage(root, SHORT), part_numbers(root / "clips/checked"), SHORT, watched)
    for number, size_bytes in seen.items():
        yield f"workers' and media processes' memory after {number:,} clips", f"{size_bytes / 1e6:.0f} MB"


def scenes(folder: Path) -> list[Path]:
    """Media of NUM_SCENES scenes."""
    config = CorpusConfig(num_scenes=NUM_SCENES)
    for number in range(NUM_SCENES):
        render_scene(folder / "studio", config, number)
    return [media_path(folder / "studio", config, number) for number in range(NUM_SCENES)]


def write_root(root: Path, media: Sequence[Path], count: int) -> Path:
    """A root with `count` checked clips, each a link to one of `media`."""
    for path in media:
        target = root / "clips/media" / path.name
        target.parent.mkdir(parents=True, exist_ok=True)
        os.link(path, target)
    rows = [_row(number, media[number % len(media)]) for number in range(count)]
    for part in range(-(-count // PART_SIZE)):
        header = PartHeader("validate-clips", "made by a benchmark", {})
        some = rows[part * PART_SIZE : (part + 1) * PART_SIZE]
        write_part(part_path(root / "clips/checked", part), some, CLIPS, header)
    return root


def _row(number: int, path: Path) -> dict:
    facts = {"outcome": "ok", "digest": f"{number:064x}", "fingerprint": "", "reason": "", "detail": ""}
    place = {"path": f"clips/media/{path.name}", "begins_s": 0.0, "length_s": 10.0, "covered_s": 10.0}
    return {"key": f"clip{number:07d}_0_10000", "video_id": f"clip{number:07d}", **facts, **place}


if __name__ == "__main__":
    main()
