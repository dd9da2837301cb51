"""`python -m benchmarks.cuts --before CHECKOUT [--python PYTHON]`: cutting and extracting by this checkout and another.

Films of 30 s (scenes of the studio and, where they lie beside the checkout, the shared real clips) as 640x360 H.264
with B-frames and AAC in MP4; of each, segments of 10 s that begin anywhere. Both checkouts cut each segment and extract
it from their own cut, in a process of their own each, all on one core, in turns; CPU time is user and system of a call
and of what it starts, of each clip the least of two rounds. The interval is of the ratio of sums, by 2,000 bootstraps
over clips.

    git worktree add /tmp/before COMMIT
    python -m benchmarks.cuts --before /tmp/before

PYTHON is one that has what the other checkout's lock holds; this one by default.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass, field
from pathlib import Path

import av
import numpy as np

from benchmarks.extract import ONE, sources, transcoded
from tasks import features

HERE = Path(__file__).resolve().parents[1]
NUM_CLIPS = 200
FILM_S = 30.0
LENGTH_S = 10.0
ROUNDS = 2
BOOTSTRAPS = 2000
WANTED = 1.03  # the upper bound of extraction's ratio
# Run by either checkout: one JSON line is a call, one the answer.
SERVER = """
import inspect, json, resource, sys
from pathlib import Path
from tasks.extract import answer_extract
try:
    from tasks.media.cut import cut
    from tasks.media.probe import probe
except ImportError:  # a checkout of before there were rooms
    from tasks.media import cut, probe
is_spanned = "span_s" in inspect.signature(answer_extract).parameters

def cpu_s():
    usages = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)

for line in sys.stdin:
    asked = json.loads(line)
    source, started = Path(asked["source"]), cpu_s()
    segment_s = asked["start_s"], asked["start_s"] + asked["length_s"]
    made = cut(source, probe(source), segment_s, Path(asked["target"]))
    cut_s = cpu_s() - started
    span = (made.begins_s, asked["length_s"])
    started = cpu_s()
    answer_extract(str(made.path), *((span,) if is_spanned else span), asked["profile"], asked["names"])
    print(json.dumps({"extract": cpu_s() - started, "cut": cut_s}), flush=True)
    made.path.unlink()
"""


@dataclass
class Side:
    """One checkout at work, and the least it took for each clip."""

    process: subprocess.Popen
    least_s: dict[str, dict[int, float]] = field(default_factory=lambda: {"cut": {}, "extract": {}})

    @classmethod
    def of(cls, checkout: Path, python: str) -> "Side":
        """A process with that checkout's modules."""
        environment = {**os.environ, "PYTHONPATH": str(checkout), "OMP_NUM_THREADS": "1"}
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        return cls(subprocess.Popen([python, "-c", SERVER], cwd=checkout, env=environment, **pipes))

    def measure(self, number: int, asked: dict) -> None:
        """One call for clip `number`. Raises RuntimeError where the process has ended."""
        if self.process.stdin is None or self.process.stdout is None:
            raise AssertionError("both pipes are asked for")
        self.process.stdin.write(json.dumps(asked) + "\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        if not answer:
            raise RuntimeError("a side has ended: see above")
        for name, took_s in json.loads(answer).items():
            self.least_s[name][number] = min(took_s, self.least_s[name].get(number, took_s))


def main() -> None:
    """Prints the conditions and the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--before", type=Path, required=True, help="another checkout")
    parser.add_argument("--python", default=sys.executable, help="with what that checkout's lock holds")
    parser.add_argument("--clips", type=int, default=NUM_CLIPS)
    options = parser.parse_args()
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    with tempfile.TemporaryDirectory() as folder:
        before, after = measured(options, Path(folder))
    print(
        f"{platform.machine()}, load {os.getloadavg()[0]:.1f}, PyAV {av.__version__}; {options.clips} clips, "
        f"best of {ROUNDS} a clip, one core\n"
    )
    print("| CPU a clip | before, ms | after, ms | ratio (95 %) |\n|---|---:|---:|---:|")
    for name in ("extract", "cut"):
        print(row(name, *(np.array(list(side.least_s[name].values())) for side in (before, after))))


def measured(options: argparse.Namespace, folder: Path) -> tuple[Side, Side]:
    """Both sides after all rounds."""
    sides = Side.of(options.before, options.python), Side.of(HERE, sys.executable)
    made = films(folder)
    rng = np.random.default_rng(0)
    starts_s = np.round(rng.uniform(0, FILM_S - LENGTH_S, options.clips), 3)
    asked = {"length_s": LENGTH_S, "profile": asdict(ONE), "names": list(features.of_profile(ONE))}
    for turn in range(ROUNDS):
        for number, start_s in enumerate(starts_s.tolist()):
            call = {
                "source": str(made[number % len(made)]),
                "start_s": start_s,
                "target": str(folder / "cut"),
            }
            for side in sides[:: 1 if (turn + number) % 2 else -1]:
                side.measure(number, {**asked, **call})
    for side in sides:
        side.process.terminate()
    return sides


def row(name: str, before_s: np.ndarray, after_s: np.ndarray) -> str:
    """One line of the table."""
    rng = np.random.default_rng(0)
    drawn = rng.integers(len(before_s), size=(BOOTSTRAPS, len(before_s)))
    ratios = after_s[drawn].sum(axis=1) / before_s[drawn].sum(axis=1)
    low, high = np.quantile(ratios, [0.025, 0.975])
    ratio = after_s.sum() / before_s.sum()
    wanted = f"; wanted: at most {WANTED}" if name == "extract" else ""
    costs = f"{1000 * before_s.mean():.1f} | {1000 * after_s.mean():.1f}"
    return f"| {name} | {costs} | {ratio:.3f} ({low:.3f} to {high:.3f}){wanted} |"


def films(folder: Path) -> list[Path]:
    """FILM_S of each scene and real clip, looped, at 24 frames/s."""
    shape = (FILM_S, 24)
    return [transcoded(path, folder / f"film{n}.mp4", *shape) for n, path in enumerate(sources(folder))]


if __name__ == "__main__":
    main()
