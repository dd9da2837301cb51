"""Where parts run changes neither results nor errors."""

import logging
import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Thread

import dask
import preloaded
import psutil
import pytest
from cryptography import x509
from distributed import Client, LocalCluster, Security, get_worker
from real_servers import wait_for
from roots import Root, write_clips

from flows import compute
from flows.compute import local_map, open_compute
from flows.services import local_cluster
from flows.services.local_cluster import PAGES
from schemas.errors import OperationalError
from schemas.shard import read_version
from tasks import progress
from tasks.index import IndexConfig

# Dask leaves a socket to the garbage collector for every cluster.
pytestmark = pytest.mark.filterwarnings(
    "ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"
)


# A cluster of somebody else's, in this process.
OF_YOURS = {"processes": False, "dashboard_address": PAGES, "host": "127.0.0.1", "protocol": "tcp"}


def square(number: int) -> int:
    return number * number


def fail(number: int) -> int:
    raise OSError(f"no space left for {number}")


@contextmanager
def place(name: str) -> Iterator[str]:
    """What --compute says; `address` stands for a cluster of somebody else's."""
    if name != "address":
        yield name
        return
    with LocalCluster(n_workers=1, threads_per_worker=2, **OF_YOURS) as cluster:
        yield cluster.scheduler_address


@pytest.mark.parametrize("name", ["threads", "local", "address"])
def test_every_item_comes_back_once(name):
    with place(name) as spec, open_compute(spec) as map_items:
        assert sorted(map_items(square, range(40))) == [n * n for n in range(40)]


@pytest.mark.parametrize("name", ["threads", "local", "address"])
def test_an_error_of_an_item_stops_the_caller(name):
    with place(name) as spec, open_compute(spec) as map_items, pytest.raises(OSError, match="no space left"):
        list(map_items(fail, range(4)))


def test_one_worker_and_four_make_the_same_bytes(tmp_path):
    lists = write_clips(tmp_path / "media", [f"clip{n:02d}" for n in range(24)])
    versions = []
    for num_workers in (1, 4):
        root = Root(tmp_path / f"root{num_workers}", f"folder:{tmp_path / 'media'}", lists)
        root.config = IndexConfig(part_size=12, val_share=0.0)
        with local_map(num_workers) as map_items:
            root.build(map_items)
        versions.append(read_version(root.path))

    assert sum(shard.num_samples for shard in versions[0].shards) == 24
    assert versions[0] == versions[1]  # the sha256 of every shard is in its name


def test_few_items_are_under_way_at_once():
    """The window slides: items are taken as results come, so memory stays flat."""
    taken = []

    def items():
        for number in range(50):
            taken.append(number)
            yield number

    with place("address") as spec, open_compute(spec) as map_items:
        results = iter(map_items(square, items()))
        next(results)
        under_way = len(taken)
        rest = list(results)

    assert under_way <= 8  # three a thread, and those that followed the first result
    assert len(rest) == 49


def test_workers_that_come_late_get_their_share():
    """A queue of jobs starts the first worker when it likes, and others later."""
    with (
        LocalCluster(n_workers=0, **OF_YOURS) as cluster,
        open_compute(cluster.scheduler_address) as map_items,
    ):
        client, _ = map_items.args
        joining = Thread(target=lambda: cluster.scale(4))
        joining.start()
        results = iter(map_items(place_of, range(200)))
        places = [next(results)]
        joining.join()
        client.wait_for_workers(4, timeout=60)
        places += results

    assert len(places) == 200 and len(set(places)) == 4


def place_of(number: int) -> str:
    time.sleep(0.02)
    return get_worker().address


def test_a_cluster_without_workers_is_told_and_then_given_up(monkeypatch, caplog):
    monkeypatch.setattr(compute, "LOOK_S", 0.1)
    monkeypatch.setattr(compute, "WARN_S", 0.5)
    monkeypatch.setattr(compute, "NO_WORKER_S", 2.0)  # a test can't wait for an hour
    with (
        LocalCluster(n_workers=0, **OF_YOURS) as cluster,
        open_compute(cluster.scheduler_address) as map_items,
    ):
        told = f"the cluster {cluster.scheduler_address} has had no worker for 2 s: start some"
        with pytest.raises(OperationalError, match=told):
            list(map_items(square, range(4)))

    assert 2 <= caplog.text.count("has had no worker for") <= 4, "one warning in WARN_S"


def test_the_patience_of_a_scheduler_of_yours_counts():
    with (
        dask.config.set({"distributed.scheduler.no-workers-timeout": "1s"}),
        LocalCluster(n_workers=0, **OF_YOURS) as cluster,
        open_compute(cluster.scheduler_address) as map_items,
        pytest.raises(OperationalError, match="no worker for 1 s, its no-workers-timeout: start some"),
    ):
        list(map_items(square, range(4)))


def test_a_batch_that_kills_worker_after_worker_is_given_up():
    with local_map(1) as map_items, pytest.raises(OperationalError, match="a batch was lost with 4 workers"):
        list(map_items(die, range(1)))


def die(number: int) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_scheduler_that_is_lost_is_named(prefect_server, tmp_path):
    with (
        preloaded.cluster(tmp_path, 1) as cluster,
        dask.config.set({"distributed.comm.timeouts.connect": "1s"}),
        pytest.raises(RuntimeError, match=f"{cluster.address}: no scheduler answers there"),
        open_compute(cluster.address) as map_items,
    ):
        cluster.scheduler.kill()
        list(map_items(square, range(4)))


def test_an_unknown_place_names_the_choices():
    with pytest.raises(ValueError, match="use threads, local or the address"), open_compute("moon"):
        pass


def hang_once(flag: str) -> str:
    """Hangs for ever where it is called for the first time with this flag."""
    try:
        Path(flag).touch(exist_ok=False)
    except FileExistsError:
        return flag
    while True:
        time.sleep(1)


def hang(number: int) -> None:
    while True:
        time.sleep(1)


@pytest.fixture
def impatient(monkeypatch):
    """Seconds instead of the 5 minutes that a test can't wait for."""
    monkeypatch.setattr(compute, "LEAST_SILENCE_S", 3.0)
    monkeypatch.setattr(compute, "LOOK_S", 0.5)


def test_a_batch_that_hangs_is_given_again_and_no_other_is_lost(impatient, tmp_path, caplog):
    flags = [str(tmp_path / f"flag{n}") for n in range(12)]
    for flag in flags[:5] + flags[6:]:
        Path(flag).touch()

    with local_map() as map_items:
        assert sorted(map_items(hang_once, flags)) == sorted(flags)

    assert "no sign of life" in caplog.text and "restarting it" in caplog.text


def test_a_batch_that_always_hangs_stops_the_caller_after_three_workers(impatient):
    with local_map(1) as map_items, pytest.raises(RuntimeError, match="hung on 3 workers"):
        list(map_items(hang, [1]))


def test_a_long_batch_whose_pieces_end_is_left_alone(impatient):
    with local_map(1) as map_items:
        assert list(map_items(slow_in_pieces, [7])) == [7]


def slow_in_pieces(number: int) -> int:
    for _ in range(number):
        time.sleep(1)
        progress.sign_of_life()
    return number


def test_no_other_process_joins_or_uses_our_cluster():
    """Neither without a certificate nor with one of its own."""
    with local_map(1) as map_items:
        client, _ = map_items.args
        place = client.scheduler.address.partition("://")[2]
        for scheme, security in (("tcp", None), ("tls", Security.temporary())):
            with pytest.raises(OSError):
                Client(f"{scheme}://{place}", security=security, timeout=2)


def test_a_worker_that_is_stopped_while_it_starts_ends_the_start_and_not_the_patience(monkeypatch):
    monkeypatch.setattr(local_cluster, "START_S", 3.0)

    is_over = Event()

    def stop_each() -> None:
        stopped = set()
        while not is_over.wait(0.02):
            for one in set(local_cluster._spawned()) - stopped:
                one.suspend()
                stopped.add(one)

    stopping = Thread(target=stop_each)
    stopping.start()
    with pytest.raises(OperationalError, match="failed to start"), local_map(2):
        pass
    is_over.set()
    stopping.join()


def test_a_worker_that_is_killed_while_it_starts_costs_a_start():
    killing = Thread(target=lambda: wait_for(local_cluster._spawned, "a worker")[0].kill())
    killing.start()

    with local_map(2) as map_items:
        assert sorted(map_items(square, range(4))) == [0, 1, 4, 9]

    killing.join()


def test_no_clock_that_is_set_parts_a_cluster():
    with local_map(1) as map_items:
        client, _ = map_items.args
        made = x509.load_pem_x509_certificate(client.security.tls_client_cert.encode())

    assert made.not_valid_before_utc.year == 1970
    assert made.not_valid_after_utc.year == 9999


def _complains(item: int) -> None:
    del item
    try:
        raise OSError("a heartbeat came too late")
    except OSError:
        logging.getLogger("distributed.worker").exception("Failed to communicate with scheduler")


def test_a_worker_writes_no_trace_on_the_console(capfd):
    """On a busy machine its last heartbeat comes after the scheduler has ended."""
    with local_map(1) as map_items:
        assert list(map_items(_complains, [0])) == [None]

    assert capfd.readouterr().err == ""


def test_a_cluster_leaves_the_environment_as_it_was():
    before = dict(os.environ)
    level = logging.getLogger("distributed").level

    with open_compute("local") as map_items:
        list(map_items(square, range(4)))

    assert dict(os.environ) == before
    assert logging.getLogger("distributed").level == level


def test_a_cluster_of_ours_listens_on_loopback_only():
    with open_compute("local") as map_items:
        list(map_items(square, range(4)))
        ours = psutil.Process()
        processes = [ours, *ours.children(recursive=True)]
        listening = [c.laddr for p in processes for c in p.net_connections("inet") if c.status == "LISTEN"]

    assert listening
    assert {address.ip for address in listening} == {"127.0.0.1"}
