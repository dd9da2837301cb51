"""`python -m benchmarks.index`: AudioSet-sized lists into slots, in a process of its own."""

import os
import platform
import random
import resource
import tempfile
import time
from pathlib import Path

from tasks.index import IndexConfig, index

NUM_SEGMENTS = 2_084_320  # AudioSet's three lists together
NUM_LABELS = 527
ALPHABET = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_"
REQUIRED_S = 20.0
REQUIRED_GB = 3.0


def main() -> None:
    """Prints the conditions and the table."""
    with tempfile.TemporaryDirectory() as folder:
        path = write_list(Path(folder) / "unbalanced_train_segments.csv")
        started = time.perf_counter()
        counts = index(Path(folder) / "root", [path], IndexConfig())
        took_s = time.perf_counter() - started
        started = time.perf_counter()
        index(Path(folder) / "root", [path], IndexConfig())
        again_s = time.perf_counter() - started
    peak_gb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    print(f"{platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}\n")
    print("| measure | value |\n|---|---|")
    print(f"| segments, parts | {counts['segments']:,}, {counts['parts']:,} |")
    print(f"| seconds, with all parts written (required: {REQUIRED_S:g}) | {took_s:.1f} |")
    print(f"| seconds, the same list again | {again_s:.1f} |")
    print(
        f"| peak memory in GB, list of the benchmark included (required: {REQUIRED_GB:g}) | {peak_gb:.2f} |"
    )


def write_list(path: Path) -> Path:
    """A list in AudioSet's format with invented ids."""
    rng = random.Random(0)
    with path.open("w", encoding="utf-8") as file:
        file.write(
            f"# Segments csv\n# num_ytids={NUM_SEGMENTS}, num_segs={NUM_SEGMENTS}, num_unique_labels=527\n"
        )
        file.write("# YTID, start_seconds, end_seconds, positive_labels\n")
        for _ in range(NUM_SEGMENTS):
            video = "".join(rng.choices(ALPHABET, k=11))
            start = rng.randrange(60)
            labels = f"/m/0{rng.randrange(NUM_LABELS)},/m/09x0r"
            file.write(f'{video}, {start}.000, {start + 10}.000, "{labels}"\n')
    return path


if __name__ == "__main__":
    main()
