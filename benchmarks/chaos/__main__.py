"""`python -m benchmarks.chaos`: plays rounds of accidents on what is deployed, and says how many were survived.

A round: the lists of a root grow, its hourly build is begun as the schedule begins it, an accident happens in the
middle of a stage, and the next schedule, or one plain build, does the rest. Then the laws are looked at. Rounds are
drawn by seed, those first that hit a stage the least often so far, and the journal holds each: the same command goes
on where it stopped.
"""

import argparse
import os
import platform
import signal
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests" / "support"))

from benchmarks.chaos.corpus import STEPS, Corpus
from benchmarks.chaos.ground import Ground
from benchmarks.chaos.journal import Journal
from benchmarks.chaos.outgrown import Outgrown
from benchmarks.chaos.rounds import drawn, play
from benchmarks.chaos.weather import Weather

HOUR_S = 3600.0


def main() -> None:
    """Plays rounds, prints a line a round and the table; exits 1 where a law did not hold."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, help="how many; an hour of them by default")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--victim", help="accidents of this one only, such as flow")
    parser.add_argument(
        "--folder", type=Path, default=Path("build/chaos"), help="of clips, roots and the journal"
    )
    options = parser.parse_args()
    folder = options.folder.absolute()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped"))
    folder.mkdir(parents=True, exist_ok=True)
    corpus = Corpus(folder)
    journal = Journal(folder / "journal.jsonl")
    began = time.monotonic()
    played = 0
    host = Weather(corpus.media)
    host.open()
    grounds = {
        False: Ground(folder / "ground", corpus, host),
        True: Outgrown(folder / "outgrown", corpus, host),
    }
    try:
        while played < options.rounds if options.rounds else time.monotonic() - began < HOUR_S:
            draw = drawn(options.seed, journal.rounds, options.victim)
            ground = grounds[draw.is_outgrown]
            if not ground.is_served or ground.step == STEPS:
                ground.renew()
            one = play(ground, draw)
            journal.write(one)
            print(one, flush=True)
            played += 1
            if one.broken or draw.accident.later_s:
                ground.end()
    finally:
        for ground in grounds.values():
            ground.end()
        host.close()
    print(f"\n{platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}\n{journal.table()}")
    sys.exit(journal.num_broken > 0)


if __name__ == "__main__":
    main()
