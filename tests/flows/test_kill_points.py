"""The same bytes, whoever builds them and whatever is killed on the way."""

import pytest
from kills import RENAMES, VICTIMS, Bench, Case, what_stands

SEEDS = range(30)
QUICK = (6, 7)  # between a write and its rename; a worker


@pytest.fixture(scope="module")
def bench(prefect_server, tmp_path_factory):
    return Bench(tmp_path_factory.mktemp("kills"))


@pytest.fixture(scope="module")
def undisturbed(bench):
    return what_stands(bench.built("four", 4))


@pytest.fixture(scope="module")
def alone(bench):
    return what_stands(bench.built("one", 1, RENAMES))


def test_one_worker_and_four_give_the_same_bytes(undisturbed, alone):
    assert len(undisturbed) == 5  # a version, two shards and their parts
    assert alone == undisturbed


@pytest.mark.parametrize("seed", QUICK)
def test_a_build_that_is_killed_and_run_again_gives_the_same_bytes(seed, bench, undisturbed, alone):
    assert what_stands(bench.disturbed(Case(seed))) == undisturbed


def test_the_seeds_kill_everybody_on_both_clusters():
    cases = {(Case(seed).victim, Case(seed).is_local) for seed in SEEDS}

    assert cases == {(victim, where) for victim in VICTIMS for where in (True, False)} - {("scheduler", True)}


@pytest.mark.slow
@pytest.mark.parametrize("seed", sorted(set(SEEDS) - set(QUICK)), ids=lambda seed: str(Case(seed)))
def test_thirty_seeded_kills_change_no_byte(seed, bench, undisturbed, alone):
    assert what_stands(bench.disturbed(Case(seed))) == undisturbed
