"""Wherever parts run, the results are the same and an error is the error that was raised."""

import os
import threading

import pytest
from distributed import LocalCluster

from flows.compute import WINDOW, open_compute

pytestmark = pytest.mark.xdist_group("flows")


class Broken(Exception):  # noqa: N818
    pass


def square(n):
    return n * n


def fail_at_three(n):
    if n == 3:
        raise Broken(f"item {n}")
    return n


@pytest.fixture(scope="module", params=["threads", "local"])
def map_items(request):
    with open_compute(request.param) as mapped:
        yield mapped


@pytest.mark.parametrize("count", [0, 1, 50])
def test_every_item_gives_one_result(map_items, count):
    assert sorted(map_items(square, range(count))) == [n * n for n in range(count)]


def test_an_error_in_a_task_is_raised_here(map_items):
    with pytest.raises(Broken, match="item 3"):
        list(map_items(fail_at_three, range(10)))


def test_after_an_error_it_goes_on(map_items):
    with pytest.raises(Broken):
        list(map_items(fail_at_three, range(10)))

    assert sorted(map_items(square, range(4))) == [0, 1, 4, 9]


def test_results_come_while_others_are_under_way():
    gate = threading.Event()

    def wait_for_the_first(n):
        return n if n == 0 else gate.wait(30) and n

    with open_compute("threads") as mapped:
        results = mapped(wait_for_the_first, range(3))
        first = next(iter(results))
        gate.set()

        assert (first, sorted(results)) == (0, [1, 2])


def test_after_an_error_nothing_more_is_begun():
    gate, begun = threading.Event(), []

    def fail_at_the_first(n):
        begun.append(n)
        if n == 0:
            raise Broken
        gate.wait(30)

    with open_compute("threads") as mapped:
        with pytest.raises(Broken):
            list(mapped(fail_at_the_first, range(1000)))
        gate.set()

    assert len(begun) <= os.cpu_count() + 1


def test_a_cluster_by_address_gives_the_same():
    cluster = LocalCluster(
        n_workers=1, threads_per_worker=2, processes=False, dashboard_address="127.0.0.1:0", protocol="tcp"
    )

    with cluster, open_compute(cluster.scheduler_address) as mapped:
        assert sorted(mapped(square, range(50))) == [n * n for n in range(50)]
        with pytest.raises(Broken, match="item 3"):
            list(mapped(fail_at_three, range(10)))


@pytest.mark.parametrize("spec", ["", "dask", "8786", "host:8786"])
def test_a_bad_address_is_told_with_the_choices(spec):
    with (
        pytest.raises(ValueError, match=f"--compute {spec}: use threads, local or the address"),
        open_compute(spec),
    ):
        pass


def test_few_items_are_under_way_at_a_time():
    taken = []

    with open_compute("local") as mapped:
        results = mapped(square, (taken.append(n) or n for n in range(100)))
        next(results)

        assert len(taken) <= WINDOW * os.cpu_count() + 1
        assert len(list(results)) == 99
