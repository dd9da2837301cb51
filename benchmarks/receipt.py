"""`python -m benchmarks.receipt [--segments N]`: size of a receipt, and what making, reading and comparing one costs.

The manifests are written as a build leaves them, with random ids and digests, which nothing compresses, and as many
labels and lost videos as AudioSet has. Beside it stands a version a year later, of whose segments 5 % are gone, 2 %
encoded anew and 1 % taken down; each must be explained.
"""

import argparse
import hashlib
import os
import platform
import random
import resource
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import pyarrow as pa

from schemas import layout
from schemas.clip import CLIPS
from schemas.feature import FEATURES, Profile
from schemas.manifest import PartHeader, Row, part_path, write_part
from schemas.receipt import RECEIPT, Receipt, Settings, mark_of, read_receipt, write_receipt
from schemas.segment import SEGMENTS, segment_key
from schemas.shard import SHARDS, Shard, make_version, shard_name
from tasks.versions.differences import differences
from tasks.versions.receipts import make_receipt

T = TypeVar("T")
PART_SIZE = 512
LABELS = [f"/m/{number:05x}" for number in range(527)]
LOST = 0.15  # of the videos
ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
MADE_BY = (
    "extract 4 (audio 1, frames 2, log_mel 1); av 17.0.1, numpy 2.4.0, scipy 1.17, simplejpeg 1.9, soxr 1.0"
)
PLANTED = {"gone": 0.05, "re_encoded": 0.02, "taken_down": 0.01}
LIMIT_MB = 15.0  # for 100,000 segments


def main() -> None:
    """Prints the conditions and the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--segments", type=int, default=100_000)
    count = parser.parse_args().segments
    rng = random.Random(0)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        shards = [_write_part(root, part, rng, count) for part in range(-(-count // PART_SIZE))]
        settings = Settings(
            Profile(), labels={label: (n, f"Label {n}") for n, label in enumerate(LABELS)}, preset="small"
        )
        version = make_version(settings.profile, ["json", "wav", "jpg"], shards)
        made, made_s = _timed(lambda: make_receipt(root, version, settings))
        path = root / "receipt.parquet"
        _, written_s = _timed(lambda: write_receipt(path, made))
        read, read_s = _timed(lambda: read_receipt(path))
        later, planted = _a_year_later(read, rng)
        found, compared_s = _timed(lambda: differences(read, later))
        size_mb = path.stat().st_size / 1e6
    right = sum(planted[one.key] == one.cause for one in found.segments)
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
    print(
        f"{platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}; {count:,} segments\n"
    )
    print("| measure | value |\n|---|---:|")
    print(f"| size (at 100,000 segments at most {LIMIT_MB:g} MB) | {size_mb:.1f} MB |")
    print(f"| made from the manifests | {made_s:.2f} s |")
    print(f"| written | {written_s:.2f} s |")
    print(f"| read, and checked as a stranger's | {read_s:.2f} s |")
    print(f"| compared with a version a year later | {compared_s:.2f} s |")
    print(f"| differences explained by their cause | {right:,} of {len(planted):,} |")
    print(f"| most memory | {peak_mb:.0f} MB |")


def _timed(work: Callable[[], T]) -> tuple[T, float]:
    began = time.perf_counter()
    return work(), time.perf_counter() - began


def _write_part(root: Path, part: int, rng: random.Random, count: int) -> Shard:
    """A part of each manifest; returns its shard, of which there are no bytes."""
    rows = list(_rows(rng, min(PART_SIZE, count - part * PART_SIZE)))
    for name, schema in (
        (layout.SEGMENTS, SEGMENTS), (layout.CLIPS, CLIPS), (layout.FEATURES, FEATURES), (layout.SHARDS, SHARDS),
    ):  # fmt: skip
        fate = [{**row, "outcome": "ok", "reason": ""} if name == layout.SEGMENTS else row for row in rows]
        own = [
            {key: row[key] for key in schema.names if key in row} | {"row": n} for n, row in enumerate(fate)
        ]
        write_part(part_path(root / name, part), own, schema, PartHeader("benchmark", "", {}))
    digest = rng.randbytes(32).hex()
    return Shard(shard_name("train", part, digest), "train", part, digest, 1, len(rows))


def _rows(rng: random.Random, count: int) -> Iterator[Row]:
    for _ in range(count):
        video_id = "".join(rng.choices(ALPHABET, k=11))
        start_ms = 1000 * rng.randrange(0, 600, 10)
        is_lost = rng.random() < LOST
        features = [
            {"name": name, "fingerprint": "", "digest": rng.randbytes(32).hex()}
            for name in ("audio", "frames", "log_mel")
        ]
        yield {
            "key": segment_key(video_id, start_ms, start_ms + 10_000), "video_id": video_id, "start_ms": start_ms,
            "end_ms": start_ms + 10_000, "labels": sorted(rng.sample(LABELS, rng.choice((1, 2, 2, 3, 5)))),
            "split": "train", "csv": "unbalanced_train_segments.csv", "outcome": "unavailable" if is_lost else "ok",
            "reason": rng.choice(("private", "removed", "terminated")) if is_lost else "", "detail": "",
            "digest": "" if is_lost else rng.randbytes(32).hex(), "fingerprint": "",
            "packets": None if is_lost else rng.randbytes(16).hex(), "features": None if is_lost else features,
            "made_by": None if is_lost else MADE_BY,
        }  # fmt: skip


def _a_year_later(receipt: Receipt, rng: random.Random) -> tuple[Receipt, dict[str, str]]:
    """The receipt with planted differences, and the cause of each by its key."""
    rows = receipt.table.to_pylist()
    planted = {}
    for row, key in zip(rows, receipt.keys.to_pylist(), strict=True):
        cause = next(iter(rng.choices([*PLANTED, ""], [*PLANTED.values(), 1 - sum(PLANTED.values())])))
        if cause and row["outcome"] == "ok":
            planted[key] = cause
            row |= _CHANGES[cause](row)
    digest = hashlib.sha256(receipt.version.digest.encode()).hexdigest()
    version = replace(receipt.version, digest=digest)
    return replace(receipt, version=version, table=pa.Table.from_pylist(rows, RECEIPT)), planted


_EMPTY = dict.fromkeys(("video_id", "start_ms", "end_ms", "labels", "csv", "packets", "features", "sample"))
_CHANGES: dict[str, Callable[[Row], Row]] = {
    "gone": lambda _: {"outcome": "unavailable", "reason": "removed", "sample": None},
    "re_encoded": lambda row: {"packets": bytes(16), "sample": bytes(16)},
    "taken_down": lambda row: {**_EMPTY, "outcome": "forgotten", "mark": mark_of(row["video_id"], bytes(8))},
}


if __name__ == "__main__":
    main()
