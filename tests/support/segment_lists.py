"""Segment lists with invented ids, in the forms in which lists are published."""

import random
from pathlib import Path

HEADER = (
    "# Segments csv\n# num_ytids={n}, num_segs={n}, num_unique_labels=1, num_positive_labels=1\n# YTID, ...\n"
)


def write_list(folder: Path, name: str, rows, header: bool = True) -> Path:
    lines = "".join(f'{video}, {start:.3f}, {end:.3f}, "{labels}"\n' for video, start, end, labels in rows)
    path = folder / name
    path.write_text((HEADER.format(n=len(rows)) if header else "") + lines)
    return path


def videos(count: int, seed: int = 0):
    rng = random.Random(seed)
    alphabet = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_"
    return [("".join(rng.choices(alphabet, k=11)), 30.0, 40.0, "/m/09x0r,/m/04rlf") for _ in range(count)]


def write_strong(folder: Path, name: str, events) -> Path:
    """AudioSet-Strong's form; `events` as (video id, start in ms, (start, end) in s, label)."""
    lines = [f"{video}_{at}\t{start:.3f}\t{end:.3f}\t{label}" for video, at, (start, end), label in events]
    path = folder / name
    path.write_text("\n".join(["segment_id\tstart_time_seconds\tend_time_seconds\tlabel", *lines]) + "\n")
    return path
