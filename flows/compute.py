"""Where parts run: in process, on a local Dask cluster, or on a cluster by address."""

import logging
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import CancelledError, ThreadPoolExecutor, as_completed
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import islice
from statistics import median
from typing import Any

import dask
from dask.system import CPU_COUNT
from distributed import Client, Future, KilledWorker, get_worker, wait
from distributed.comm import CommClosedError
from distributed.scheduler import NoValidWorkerError, NoWorkerError

from flows.services.local_cluster import START_S, open_cluster
from schemas.errors import OperationalError, RequestError
from tasks import progress

log = logging.getLogger(__name__)

Map = Callable[[Callable, Sequence], Iterable]
WINDOW = 3  # items in progress per worker thread: enough that none waits, and memory stays flat
QUIET = {
    "distributed.worker.memory.spill": False,  # results are small rows: nothing to spill
    "distributed.worker.memory.target": False,
    # Every process of a cluster does this many times a second to draw pages that nobody looks at here.
    "distributed.worker.profile.enabled": False,
    "distributed.admin.tick.interval": "500ms",
    "distributed.worker.memory.monitor-interval": "500ms",
    # Dask makes malloc return every 64 kB, so each array is paged in again: a third of a scene's time.
    "distributed.nanny.pre-spawn-environ.MALLOC_TRIM_THRESHOLD_": 128 << 20,
    "distributed.nanny.pre-spawn-environ.MALLOC_MMAP_THRESHOLD_": 64 << 20,
}

SIGNS = "mcgurk-signs-of-life"
LOOK_S = 5.0  # between two checks for silent workers, while no batch ends
WARN_S = 60.0  # of silence, before a warning
LEAST_SILENCE_S = 300.0  # a clip may take two media processes of 120 s
SILENCE_OF_MEDIAN = 20
MEDIAN_OF = 1000  # previous batches
MOST_RESTARTS = 2  # of a worker because of the same batch
NO_WORKER_S = 3600.0  # for which a user's cluster may have none: workers that a job queue starts come late


@contextmanager
def open_compute(spec: str) -> Iterator[Map]:
    """Yields `map(function, items)`, whose results come in the order in which they finish.

    `threads` has no crash containment; `local` is a Dask cluster of one process per core on loopback; an address such
    as `tcp://scheduler:8786` (or `tls://`, with the certificates that Dask's configuration names) is the user's own
    cluster, whose workers have mcgurk installed. Work that hangs on a worker with a nanny is restarted there.
    """
    with _quiet():
        if spec == "threads":
            with ThreadPoolExecutor(CPU_COUNT) as pool:
                yield lambda function, items: _in_threads(pool, function, items)
        elif spec == "local":
            with local_map() as map_items:
                yield map_items
        elif "://" in spec:
            with dask.config.set(QUIET), _naming_the_lost(spec), Client(spec) as client:
                yield partial(_on_dask, client, NO_WORKER_S)
        else:
            raise RequestError(
                f"--compute {spec}: use threads, local or the address of a scheduler (tcp://host:8786)"
            )


@contextmanager
def open_when_used(spec: str) -> Iterator[Map]:
    """The same, but the first map starts the cluster: a build that computes nothing starts none."""
    with ExitStack() as stack:
        opened: list[Map] = []

        def map_items(function: Callable, items: Sequence) -> Iterable:
            if not opened:
                opened.append(stack.enter_context(open_compute(spec)))
            return opened[0](function, items)

        yield map_items


@contextmanager
def _quiet() -> Iterator[None]:
    logger = logging.getLogger("distributed")
    before = logger.level
    logger.setLevel(logging.WARNING)  # Prefect turns its INFO on
    try:
        yield
    finally:
        logger.setLevel(before)


@contextmanager
def _naming_the_lost(address: str) -> Iterator[None]:
    """Raises OperationalError if a cluster does not answer, or its scheduler is lost during the work."""
    try:
        yield
    except (CommClosedError, CancelledError, TimeoutError) as error:
        raise OperationalError(
            f"--compute {address}: no scheduler answers there ({error}); once one does, the same command continues"
        ) from error


@contextmanager
def local_map(num_workers: int = CPU_COUNT) -> Iterator[Map]:
    """`map(function, items)` on a cluster on this machine: a single-threaded process for each core that we may use."""
    with dask.config.set(QUIET), open_cluster(num_workers) as cluster, Client(cluster) as client:
        yield partial(_on_dask, client, START_S)


def _in_threads(pool: ThreadPoolExecutor, function: Callable, items: Sequence) -> Iterator:
    futures = [pool.submit(function, item) for item in items]
    try:
        for future in as_completed(futures):
            yield future.result()
    finally:
        for future in futures:
            future.cancel()  # those that have not started, if one has failed


def _on_dask(client: Client, no_worker_s: float, function: Callable, items: Iterable) -> Iterator:
    """A sliding window of futures, each released when its result is here.

    A worker that gives no sign of life for too long is restarted, and its work is assigned again. A cluster may have
    no workers for `no_worker_s`.
    """
    waiting = iter(items)
    patience = Patience(client, no_worker_s)
    window = Window(client)
    call = partial(_signed, function)

    def more(under_way: int) -> list[Future]:
        return [client.submit(call, item, pure=False) for item in islice(waiting, window.room(under_way))]

    running = set(more(0))
    with patience.listening():
        while running:
            try:
                done, running = wait(  # pyright: ignore[reportGeneralTypeIssues]
                    running, LOOK_S, return_when="FIRST_COMPLETED"
                )
            except TimeoutError:
                patience.look()
                running.update(more(len(running)))
                continue
            while done:
                future = done.pop()
                result, seconds = _result(future)
                patience.batch_ended(future, seconds)
                future.release()
                running.update(more(len(running) + len(done)))
                yield result


def _result(future: Future) -> tuple[Any, float]:
    """The result of a batch. Raises OperationalError if the cluster has given it up."""
    try:
        return future.result()
    except KilledWorker as error:
        raise OperationalError(
            f"a batch was lost with {error.allowed_failures + 1} workers, the last one {error.last_worker.address}: if "
            "they run out of memory, start fewer per machine; then the same command continues"
        ) from error
    except (NoValidWorkerError, NoWorkerError) as error:
        raise OperationalError(
            f"the cluster had no worker for {error.timeout:.0f} s, its no-workers-timeout: start some; then the same "
            "command continues"
        ) from error


def _signed(function: Callable, item: Any) -> tuple[Any, float]:
    """On a worker: what `function` makes of an item, and how long it took; its progress gives signs of life."""
    worker = get_worker()
    began = time.monotonic()
    worker.log_event(SIGNS, worker.address)
    with progress.listening(lambda: worker.log_event(SIGNS, worker.address)):
        result = function(item)
    worker.log_event(SIGNS, worker.address)
    return result, time.monotonic() - began


def _asked(client: Client, ask: Callable[[], Any]) -> Any:
    """What a scheduler answers. Raises CommClosedError if it is lost."""
    if client.status == "closed":
        raise CommClosedError("its connection is closed")
    try:
        return ask()
    except OSError as error:
        raise CommClosedError(str(error)) from error


@dataclass
class Window:
    """How many batches the workers have at a time: WINDOW for each of their threads, as workers come and go."""

    client: Client
    size: int = 0
    counted: float = -LOOK_S  # when

    def room(self, under_way: int) -> int:
        """How many more batches they may have now."""
        now = time.monotonic()
        if now - self.counted >= LOOK_S:
            self.counted = now
            threads: Mapping[str, int] = _asked(self.client, self.client.nthreads)
            self.size = WINDOW * max(1, sum(threads.values()))
        return max(0, self.size - under_way)


class Patience:
    """How long a worker may be silent: 20 times as long as a batch usually takes, and at least 5 minutes.

    Dask has no time limit for a task, and a worker whose thread waits forever still answers its scheduler.
    """

    def __init__(self, client: Client, no_worker_s: float) -> None:
        self.client = client
        self.no_worker_s = no_worker_s  # for which there may be no worker
        self.last: dict[str, float] = {}  # worker -> when it gave a sign of life
        self.had_worker = time.monotonic()  # when the cluster last had one
        self.warned: dict[str, float] = {}  # about what -> when
        self.took: deque[float] = deque(maxlen=MEDIAN_OF)
        self.restarts: Counter[Any] = Counter()  # of a batch's worker

    @property
    def silence_s(self) -> float:
        """How long a silence is too long."""
        return max(LEAST_SILENCE_S, SILENCE_OF_MEDIAN * median(self.took) if self.took else 0.0)

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Inside the block signs of life are received."""
        self.client.subscribe_topic(SIGNS, self._heard)
        try:
            yield
        finally:
            self.client.unsubscribe_topic(SIGNS)

    def batch_ended(self, future: Future, seconds: float) -> None:
        """Notes how long a batch took."""
        self.took.append(seconds)
        self.had_worker = time.monotonic()
        self.restarts.pop(future.key, None)

    def look(self) -> None:
        """Restarts workers that have work and were silent for too long.

        Raises OperationalError if that fails, or if there has been no worker for too long.
        """
        now = time.monotonic()
        processing: Mapping[str, Sequence[str]] = _asked(self.client, self.client.processing)
        if processing:
            self.had_worker = now
        self._require_worker(now - self.had_worker)
        for worker, keys in processing.items():
            silent_s = now - self.last.setdefault(worker, now)
            if not keys:
                self.last[worker] = now
            elif silent_s > self.silence_s:
                self._restart(worker, keys, silent_s)
            elif silent_s > WARN_S:
                self._warn(worker, f"worker {worker}: no sign of life for {silent_s:.0f} s")

    def _require_worker(self, without_s: float) -> None:
        place = str(self.client.scheduler.address)  # pyright: ignore[reportOptionalMemberAccess]
        what = f"the cluster {place} has had no worker for {without_s:.0f} s"
        if without_s > self.no_worker_s:
            raise OperationalError(
                f"{what}: start some, or see in their logs why they ended (one without this version of mcgurk ends at "
                "its first batch); then the same command continues"
            )
        if without_s > WARN_S:
            self._warn(place, what)

    def _warn(self, of: str, what: str) -> None:
        """Logs a warning, at most once in WARN_S."""
        now = time.monotonic()
        if now - self.warned.get(of, -WARN_S) >= WARN_S:
            self.warned[of] = now
            log.warning("%s", what)

    def _heard(self, event: tuple[float, str]) -> None:
        self.last[event[1]] = time.monotonic()

    def _restart(self, worker: str, keys: Sequence[str], silent_s: float) -> None:
        self.restarts.update(keys)
        if max(self.restarts[key] for key in keys) > MOST_RESTARTS:
            raise OperationalError(
                f"a batch hung on {MOST_RESTARTS + 1} workers, most recently for {silent_s:.0f} s"
            )
        log.warning(
            "worker %s: no sign of life for %.0f s; restarting it, and its work with it", worker, silent_s
        )
        try:
            self.client.restart_workers([worker])
        except ValueError as error:  # it has no nanny
            raise OperationalError(
                f"worker {worker} has been silent for {silent_s:.0f} s and "
                f"cannot be restarted from here ({error}): restart it yourself"
            ) from error
        self.last.pop(worker, None)
