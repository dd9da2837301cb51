"""`python -m benchmarks.read [--peers PYTHON]`: samples a second of one training sample, against the peers.

A training sample is one frame, decoded, and one second of sound. All readers read the same members, from the
page cache, on one thread, and take turns in one run; MosaicML streaming and LitData live in an environment
of their own, because they want an older numpy than requirements.lock has:

    python3 -m venv /tmp/peers && /tmp/peers/bin/pip install -e '.[mds,litdata]'
    python -m benchmarks.read --peers /tmp/peers/bin/python
"""

import argparse
import io
import json
import os
import platform
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import simplejpeg
import soundfile
from webdataset.compat import WebDataset

from benchmarks.content import CLIPS_PER_SHARD, NUM_SHARDS, write_content
from schemas.feature import Profile
from schemas.shard import Version, frame_suffix, tar_path
from training.reading.dataset import Dataset, open_dataset
from training.reading.decoding import CROP_SHARE
from training.reading.sampling import Epoch, Sampling
from training.reading.streaming import batches

PROFILES = (Profile(), Profile("standard", frame_short_side_px=256))
# The same in both
NUM_FRAMES = PROFILES[0].num_frames
NUM_SAMPLES = PROFILES[0].num_samples
ROUNDS = 5
SECOND = PROFILES[0].sample_rate_hz
WAV_HEADER_BYTES = 44
SIDE_PX = round(112 / CROP_SHARE)  # what the default model crops from: decoders may stop at half of 256 px
GOALS = {"usual": 40.0, "fast": 3.0, "best": 1.3}

Reader = Callable[[], int]  # reads each clip once, returns how many


@dataclass(frozen=True)
class Pass:
    """What reading each clip once cost."""

    samples_per_s: float
    cpu_ms: float


def main() -> None:
    """Prints the conditions and the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--peers", help="python of an environment with mcgurk[mds,litdata]")
    peers = parser.parse_args().peers
    for profile in PROFILES:
        with tempfile.TemporaryDirectory() as folder:
            version = write_content(Path(folder), profile)
            rounds = measure(Path(folder), version, peers)
        size = sum(shard.size_bytes for shard in version.shards) / NUM_SHARDS / CLIPS_PER_SHARD
        print(
            f"Profile {profile.name}: {NUM_SHARDS * CLIPS_PER_SHARD} clips of {NUM_FRAMES} frames of "
            f"{profile.frame_short_side_px} px and 10 s of sound, {size / 1000:.0f} kB a clip, in the page cache. "
            f"{platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}; one thread, {ROUNDS} "
            "rounds in turn, medians\n"
        )
        print_table(rounds)
    print(
        f"Goals: usual >= {GOALS['usual']:g}, fast decoder >= {GOALS['fast']:g}, others >= {GOALS['best']:g}."
    )
    if not peers:
        print("MosaicML streaming and LitData were NOT measured: give --peers PYTHON (see --help).")


def measure(root: Path, version: Version, peers: str | None) -> list[dict[str, Pass]]:
    """Every reader once a round."""
    readers = our_readers(root, version) | foreign_readers(root, version)
    measures = {name: lambda reader=reader: timed(reader) for name, reader in readers.items()}
    with ExitStack() as stack:
        if peers:
            measures |= peer_measures(peers, root, stack)
        for one in measures.values():
            one()  # opens files, fills caches
        return [{name: one() for name, one in measures.items()} for _ in range(ROUNDS)]


def print_table(rounds: list[dict[str, Pass]]) -> None:
    """The medians; neighbours on the machine disturb the ratio of CPU times least."""
    names = list(rounds[0])
    cpu_ms = {name: statistics.median(r[name].cpu_ms for r in rounds) for name in names}
    per_s = {name: statistics.median(r[name].samples_per_s for r in rounds) for name in names}
    ours = cpu_ms["mcgurk, by place"]
    print(
        "| reader | samples/s | CPU ms a sample | times mcgurk's CPU | its wall time |\n|---|---:|---:|---:|---:|"
    )
    for name in names:
        wall = per_s["mcgurk, by place"] / per_s[name]
        print(f"| {name} | {per_s[name]:.0f} | {cpu_ms[name]:.3f} | {cpu_ms[name] / ours:.1f} | {wall:.1f} |")
    print()


def timed(reader: Reader) -> Pass:
    """One pass of a reader in this process."""
    wall = time.perf_counter()
    cpu = time.process_time()
    count = reader()
    cpu_ms = 1000 * (time.process_time() - cpu) / count
    return Pass(count / (time.perf_counter() - wall), cpu_ms)


def our_readers(root: Path, version: Version) -> dict[str, Reader]:
    """mcgurk's two ways; the streamed one also crops, and gives batches of frames and log-mel."""
    local = open_dataset(root, version)
    remote = open_dataset(root.as_uri(), version)
    epochs = iter(range(1_000_000))

    def streamed() -> int:
        epoch = Epoch(remote, Sampling(clips_per_batch=32, steps_per_clip=1), 0, next(epochs))
        return sum(len(batch.videos) for batch in batches(epoch, 0))

    return {
        "mcgurk, by place": lambda: read_by_place(local),
        "mcgurk, streamed (webdataset, batches)": streamed,
    }


def read_by_place(dataset: Dataset) -> int:
    """Each clip once, in any order."""
    rng = np.random.default_rng()
    for row in rng.permutation(len(dataset)).tolist():
        k, start = draw(rng)
        dataset.frame(row, k, SIDE_PX)
        np.array(dataset.wave(row, slice(start, start + SECOND))[0])
    return len(dataset)


def foreign_readers(root: Path, version: Version) -> dict[str, Reader]:
    """The readers that share mcgurk's environment."""
    tars = [str(tar_path(root, shard)) for shard in version.shards]
    columns = [*(frame_suffix(k) for k in range(NUM_FRAMES)), "wav"]
    plain = [{name: sample[name] for name in columns} for sample in WebDataset(tars, shardshuffle=False)]
    datasets.disable_progress_bars()
    datasets.Dataset.from_list(plain).save_to_disk(root / "arrow")
    table = datasets.Dataset.load_from_disk(str(root / "arrow"))
    views = [table.select_columns([frame_suffix(k), "wav"]) for k in range(NUM_FRAMES)]
    return {
        "webdataset, usual (every member decoded: PIL, soundfile)": lambda: read_usual(tars),
        "webdataset, fast decoder (simplejpeg, one frame; int16)": lambda: read_fast(tars),
        "Hugging Face datasets (arrow, two columns)": lambda: read_arrow(views),
    }


def decode_sound(name: str, content: bytes) -> np.ndarray | None:
    """What webdataset's users give `decode` for sound."""
    return soundfile.read(io.BytesIO(content))[0] if name.endswith("wav") else None


def read_usual(tars: list[str]) -> int:
    """Everything is decoded, one frame and one second are taken."""
    rng = np.random.default_rng()
    count = 0
    samples: Any = WebDataset(tars, shardshuffle=False).decode("rgb8", decode_sound)
    for sample in samples:
        k, start = draw(rng)
        _ = sample[frame_suffix(k)], sample["wav"][start : start + SECOND]
        count += 1
    return count


def read_fast(tars: list[str]) -> int:
    """Only what is taken is decoded."""
    rng = np.random.default_rng()
    count = 0
    for sample in WebDataset(tars, shardshuffle=False):
        take(sample, rng)
        count += 1
    return count


def read_arrow(views: list[datasets.Dataset]) -> int:
    """Random access to the two columns that are wanted."""
    rng = np.random.default_rng()
    for row in rng.permutation(len(views[0])).tolist():
        k, start = draw(rng)
        sample = views[k][row]
        simplejpeg.decode_jpeg(sample[frame_suffix(k)], "RGB", min_height=SIDE_PX, min_width=SIDE_PX)
        np.frombuffer(sample["wav"], "<i2", SECOND, WAV_HEADER_BYTES + 2 * start).copy()
    return len(views[0])


def draw(rng: np.random.Generator) -> tuple[int, int]:
    """A frame and where a second of sound begins."""
    return int(rng.integers(NUM_FRAMES)), int(rng.integers(NUM_SAMPLES - SECOND))


def take(sample: dict[str, bytes], rng: np.random.Generator) -> None:
    """One frame, decoded, and one second of sound, of a sample as bytes."""
    k, start = draw(rng)
    simplejpeg.decode_jpeg(sample[frame_suffix(k)], "RGB", min_height=SIDE_PX, min_width=SIDE_PX)
    np.frombuffer(sample["wav"], "<i2", SECOND, WAV_HEADER_BYTES + 2 * start).copy()


def peer_measures(python: str, root: Path, stack: ExitStack) -> dict[str, Callable[[], Pass]]:
    """MosaicML streaming and LitData, each on what `mcgurk export` writes, in a process that waits its turn."""
    here = Path(__file__).resolve().parents[1]
    measures = {}
    for kind, name in (("mds", "MosaicML streaming (MDS)"), ("litdata", "LitData")):
        target = str(root / kind)
        export = ["-m", "flows.commands.cli", "export", "--root", str(root), "--to", kind, target]
        subprocess.run([python, *export], check=True, capture_output=True, cwd=here)
        command = [python, str(here / "benchmarks" / "read_peer.py"), kind, f"{target}/train"]
        peer = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        stack.enter_context(peer)
        measures[name] = lambda peer=peer: ask(peer)
    return measures


def ask(peer: subprocess.Popen) -> Pass:
    """One pass of a peer's process."""
    assert peer.stdin and peer.stdout
    peer.stdin.write("go\n")
    peer.stdin.flush()
    for line in peer.stdout:  # their libraries print as well
        if line.startswith("{"):
            return Pass(**json.loads(line))
    raise RuntimeError(f"{peer.args} ended")


if __name__ == "__main__":
    main()
