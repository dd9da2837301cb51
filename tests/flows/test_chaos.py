"""`make chaos`: the dice are fair, the journal goes on, and three rounds on what is deployed are survived."""

import subprocess
import sys

import pytest
from real_servers import REPOSITORY

from benchmarks.chaos.accidents import Accident, possible
from benchmarks.chaos.journal import Journal, Round
from benchmarks.chaos.rounds import EVERY, drawn

SEED = "2"  # a power cut, a flow that is told to end, a server that is stopped for good


def on_one_machine(seed: int) -> list[str]:
    """The accidents of as many rounds as there are, without those of several machines."""
    count = len(list(possible()))
    draws = [drawn(seed, number) for number in range(2 * count)]
    return [named(one.accident) for one in draws if not one.is_outgrown][:count]


def named(accident: Accident) -> str:
    return f"{accident.victim}, {accident.how}"


def test_a_seed_draws_the_same_rounds_again_and_every_accident_once():
    assert on_one_machine(1) == on_one_machine(1) != on_one_machine(2)
    assert sorted(on_one_machine(1)) == sorted(map(named, possible()))


def test_every_fourth_round_is_of_several_machines_where_they_can_be_had():
    draws = [drawn(0, number) for number in range(2 * EVERY)]

    assert {number for number, one in enumerate(draws) if one.is_outgrown} <= {EVERY - 1, 2 * EVERY - 1}


def test_the_journal_goes_on_and_counts_what_was_hit(tmp_path):
    hit = Round(0, "one machine", "flow", "kill -9", stage="extract", again=2)
    broken = Round(1, "one machine", "flow", "kill -9", stage="pack", again=1, broken=["a stray process"])
    for one in (hit, broken, Round(2, "one machine", "flow", "kill -9")):
        Journal(tmp_path / "journal").write(one)

    journal = Journal(tmp_path / "journal")

    assert (journal.count, journal.num_broken) == (3, 1)
    assert "| one machine | flow | kill -9 | 2 | 1 | 3 |" in journal.table()
    assert "a stray process" in str(broken)
    assert "missed" in str(journal.rounds[2])


@pytest.mark.slow
def test_three_rounds_are_survived(tmp_path):
    command = [
        sys.executable,
        "-m",
        "benchmarks.chaos",
        "--rounds",
        "3",
        "--seed",
        SEED,
        "--folder",
        str(tmp_path),
    ]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=1200, check=False)

    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("; survived;") == 3
