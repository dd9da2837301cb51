"""`python -m benchmarks.profiles [FILE ...]`: what a clip of each profile takes in a shard, and CPU time to make.

The clips are those of `benchmarks.extract`: 10 s of 640x360 at 400 to 800 kbit/s. Bytes are those of the members with
their tar headers and padding; a shard adds each clip's JSON, and its sidecar (0.4 kB a clip of 2,000
generated scenes).
"""

import argparse
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from tarfile import BLOCKSIZE

from benchmarks.extract import LENGTH_S, bench_clips, starts_s
from schemas.feature import PROFILES, Profile
from schemas.shard import AUDIO_SUFFIX, LOG_MEL_SUFFIX
from tasks import features
from tasks.extract import answer_extract

KINDS = ("pictures", "sound", "log-mel")
KIND_OF = {AUDIO_SUFFIX: "sound", LOG_MEL_SUFFIX: "log-mel"}


def main() -> None:
    """Prints the conditions and the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("files", nargs="*", type=Path)
    with tempfile.TemporaryDirectory() as folder:
        clips = parser.parse_args().files or bench_clips(Path(folder))
        print(
            f"{platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}; means over {len(clips)} "
            f"clips\n\n| profile | kB a clip | {' | '.join(KINDS)} | CPU, ms |\n|---|---:|---:|---:|---:|---:|"
        )
        for name, profile in PROFILES.items():
            sizes, cpu_s = made(clips, profile)
            kinds = " | ".join(f"{sizes[kind] / 1000:.0f}" for kind in KINDS)
            print(f"| {name} | {sum(sizes.values()) / 1000:.0f} | {kinds} | {1000 * cpu_s:.0f} |", flush=True)


def made(clips: Sequence[Path], profile: Profile) -> tuple[dict[str, float], float]:
    """Mean bytes of a clip by kind of member, and mean CPU seconds."""
    names = list(features.of_profile(profile))
    asked = asdict(profile)
    starts = [starts_s(clip) for clip in clips]
    found = []
    begun_s = time.process_time()
    for clip, start_s in zip(clips, starts, strict=True):
        found.append(by_kind(answer_extract(str(clip), (start_s, LENGTH_S), asked, names)[1]))
    cpu_s = (time.process_time() - begun_s) / len(clips)
    return {kind: statistics.mean(sizes[kind] for sizes in found) for kind in KINDS}, cpu_s


def by_kind(members: Mapping[str, bytes]) -> dict[str, int]:
    """Bytes in a tar, of the members `feature/suffix` of one clip."""
    sizes: dict[str, int] = dict.fromkeys(KINDS, 0)
    for place, data in members.items():
        suffix = place.partition("/")[2]
        sizes[KIND_OF.get(suffix, "pictures")] += BLOCKSIZE + -(-len(data) // BLOCKSIZE) * BLOCKSIZE
    return sizes


if __name__ == "__main__":
    main()
