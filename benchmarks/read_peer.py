"""A peer's side of `benchmarks/read.py`, run by the peer's own interpreter: one pass for each line of input."""

import json
import sys
import time

import numpy as np
import simplejpeg

SIDE_PX = 128
SECOND = 16_000
NUM_FRAMES = 10
NUM_SAMPLES = 160_000
WAV_HEADER_BYTES = 44


def opened(kind: str, folder: str):
    """The peer's dataset, with random access: its iterators are slower on one thread."""
    if kind == "mds":
        from streaming import StreamingDataset  # pyright: ignore[reportMissingImports]

        return StreamingDataset(local=folder, shuffle=False, batch_size=1)
    from litdata import StreamingDataset  # pyright: ignore[reportMissingImports]

    return StreamingDataset(folder, shuffle=False)


def read(dataset) -> int:
    """Each clip once, in any order: one frame, decoded, and one second of sound."""
    rng = np.random.default_rng()
    for row in rng.permutation(len(dataset)).tolist():
        sample = dataset[row]
        k = int(rng.integers(NUM_FRAMES))
        start = int(rng.integers(NUM_SAMPLES - SECOND))
        simplejpeg.decode_jpeg(sample[f"{k:03d}.jpg"], "RGB", min_height=SIDE_PX, min_width=SIDE_PX)
        np.frombuffer(sample["wav"], "<i2", SECOND, WAV_HEADER_BYTES + 2 * start).copy()
    return len(dataset)


def main() -> None:
    """Answers every line with what a pass cost, as JSON."""
    dataset = opened(sys.argv[1], sys.argv[2])
    for _ in sys.stdin:
        wall = time.perf_counter()
        cpu = time.process_time()
        count = read(dataset)
        cpu_ms = 1000 * (time.process_time() - cpu) / count
        answer = {"samples_per_s": count / (time.perf_counter() - wall), "cpu_ms": cpu_ms}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
