"""Where parts run: in process, on a local Dask cluster, or on a cluster by address."""

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import CancelledError, ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from itertools import islice

import dask
from dask.system import CPU_COUNT
from distributed import Client, Future, LocalCluster
from distributed import as_completed as dask_as_completed
from distributed.comm import CommClosedError

Map = Callable[[Callable, Sequence], Iterable]
PAGES = "127.0.0.1:0"  # Dask's pages: None would mean every interface
WINDOW = 3  # items under way a worker thread: enough that none waits, and memory stays flat
QUIET = {
    "distributed.worker.memory.spill": False,  # results are small rows: nothing to spill
    "distributed.worker.memory.target": False,
    # What every process of a cluster does many times a second to draw pages that nobody looks at here.
    "distributed.worker.profile.enabled": False,
    "distributed.admin.tick.interval": "500ms",
    "distributed.worker.memory.monitor-interval": "500ms",
    # Dask lets malloc give back every 64 kB, and so each array is paged in anew: a third of a scene's time.
    "distributed.nanny.pre-spawn-environ.MALLOC_TRIM_THRESHOLD_": 128 << 20,
    "distributed.nanny.pre-spawn-environ.MALLOC_MMAP_THRESHOLD_": 64 << 20,
}


@contextmanager
def open_compute(spec: str) -> Iterator[Map]:
    """Yields `map(function, items)`, whose results come in the order in which they end.

    `threads` has no crash containment; `local` is a Dask cluster of one process a core on loopback; an
    address as `tcp://scheduler:8786` (or `tls://`, with the certificates that Dask's configuration names) is a
    cluster of yours whose workers have mcgurk installed.
    """
    logging.getLogger("distributed").setLevel(logging.WARNING)  # Prefect turns its INFO on
    if spec == "threads":
        with ThreadPoolExecutor(CPU_COUNT) as pool:
            yield lambda function, items: _in_threads(pool, function, items)
    elif spec == "local":
        with local_cluster() as cluster, Client(cluster) as client:
            yield lambda function, items: _on_dask(client, function, items)
    elif "://" in spec:
        with dask.config.set(QUIET), _naming_the_lost(spec), Client(spec) as client:
            yield lambda function, items: _on_dask(client, function, items)
    else:
        raise ValueError(
            f"--compute {spec}: use threads, local or the address of a scheduler (tcp://host:8786)"
        )


@contextmanager
def _naming_the_lost(address: str) -> Iterator[None]:
    """Raises RuntimeError where a cluster does not answer, or its scheduler is lost on the way."""
    try:
        yield
    except (CommClosedError, CancelledError, TimeoutError) as error:
        raise RuntimeError(
            f"--compute {address}: no scheduler answers there ({error}); with one, the same command goes on"
        ) from error


@contextmanager
def local_cluster(num_workers: int = CPU_COUNT) -> Iterator[LocalCluster]:
    """A Dask cluster on this machine, a process of one thread for each of the cores that we may use."""
    with dask.config.set(QUIET):
        cluster = LocalCluster(
            n_workers=num_workers,
            threads_per_worker=1,
            host="127.0.0.1",
            dashboard_address=PAGES,
            worker_dashboard_address=PAGES,
            silence_logs=logging.ERROR,
        )
        with cluster:
            yield cluster


def _in_threads(pool: ThreadPoolExecutor, function: Callable, items: Sequence) -> Iterator:
    futures = [pool.submit(function, item) for item in items]
    try:
        for future in as_completed(futures):
            yield future.result()
    finally:
        for future in futures:
            future.cancel()  # what was not begun, where one has failed


def _on_dask(client: Client, function: Callable, items: Sequence) -> Iterator:
    """A sliding window of futures, each released when its result is here."""
    waiting = iter(items)
    threads: Mapping[str, int] = client.nthreads()  # pyright: ignore[reportAssignmentType]
    window = WINDOW * max(1, sum(threads.values()))
    running = dask_as_completed(_submitted(client, function, islice(waiting, window)))
    for future in running:
        yield future.result()
        future.release()
        for following in _submitted(client, function, islice(waiting, 1)):
            running.add(following)


def _submitted(client: Client, function: Callable, items: Iterable) -> list[Future]:
    return [client.submit(function, item, pure=False) for item in items]
