"""`make chaos`: the dice are fair, the journal goes on, and three rounds on what is deployed are survived."""

import subprocess
import sys
from collections import Counter

import pytest
from real_servers import REPOSITORY

from benchmarks.chaos.accidents import OUTGROWN, can_outgrow, possible
from benchmarks.chaos.journal import Journal, Round
from benchmarks.chaos.rounds import EVERY, MISSES, ONE, SEVERAL, Draw, drawn

SEED = "2375"  # a flow that is told to end, a power cut, a server that is killed


def played(seed: int, count: int, missed: str = "") -> list[Round]:
    """As many rounds, each of which hit a stage unless its victim is `missed`."""
    rounds: list[Round] = []
    for _ in range(count):
        rounds.append(as_round(drawn(seed, rounds), missed))
    return rounds


def as_round(draw: Draw, missed: str) -> Round:
    one = draw.accident
    stage = "" if one.victim == missed else "extract"
    return Round(draw.number, SEVERAL if draw.is_outgrown else ONE, one.victim, one.how, stage)


def on_one_machine(seed: int) -> list[tuple[str, str]]:
    """The accidents of as many rounds as there are, without those of several machines."""
    count = len(list(possible()))
    return [(one.victim, one.how) for one in played(seed, 2 * count) if one.where == ONE][:count]


def test_a_seed_draws_the_same_rounds_again_and_every_accident_once():
    assert on_one_machine(1) == on_one_machine(1) != on_one_machine(2)
    assert sorted(on_one_machine(1)) == sorted((one.victim, one.how) for one in possible())


def test_every_fourth_round_is_of_several_machines_where_they_can_be_had():
    rounds = played(0, 2 * EVERY)

    several = {one.number for one in rounds if one.where == SEVERAL}
    assert several == ({EVERY - 1, 2 * EVERY - 1} if can_outgrow() else set())


def test_an_accident_that_missed_comes_again_but_does_not_keep_the_others_out():
    count = len(list(possible()))
    rounds = [one for one in played(0, 4 * count, missed="host") if one.where == ONE]

    assert {(one.victim, one.how) for one in rounds} == {(one.victim, one.how) for one in possible()}
    assert max(Counter((one.victim, one.how) for one in rounds).values()) > MISSES


@pytest.mark.skipif(not can_outgrow(), reason="several machines need PostgreSQL and rclone")
@pytest.mark.parametrize("victim", sorted({one.victim for one in OUTGROWN}))
def test_a_victim_is_played_wherever_it_is(victim):
    rounds: list[Round] = []
    for _ in range(EVERY):
        draw = drawn(0, rounds, victim)
        assert draw.accident.victim == victim
        rounds.append(as_round(draw, ""))

    assert SEVERAL in {one.where for one in rounds}


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
