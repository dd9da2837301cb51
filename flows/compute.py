"""Where parts run: in process, on a local Dask cluster, or on a cluster by address."""

import logging
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import CancelledError, ThreadPoolExecutor, as_completed
from contextlib import ExitStack, contextmanager, suppress
from datetime import UTC, datetime
from functools import partial
from itertools import islice
from statistics import median
from threading import Event, Thread
from typing import Any

import dask
import psutil
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from dask.system import CPU_COUNT
from distributed import Client, Future, LocalCluster, Security, get_worker, wait
from distributed.comm import CommClosedError

from schemas.environment import restored
from schemas.errors import InternalError, OperationalError, RequestError
from tasks import progress
from tasks.processes import end

log = logging.getLogger(__name__)

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

# What Dask sets for its workers, in the process that starts them too: a training would run on one thread there.
SPAWNED = "distributed.nanny.pre-spawn-environ"
FOR_NANNIES = dict.fromkeys(("PYTHONHASHSEED", "__DASK_PARENT_PID"))
SIGNS = "mcgurk-signs-of-life"
STARTS = 2  # of a cluster: one of its workers that is killed meanwhile is an accident
START_S = 120.0  # of a cluster of ours, which takes 2 s, and 10 on a busy machine
LOOK_S = 5.0  # between two looks for silent workers, where no batch ends
WARN_S = 60.0  # of silence, before a warning
LEAST_SILENCE_S = 300.0  # a clip may take two media processes of 120 s
SILENCE_OF_MEDIAN = 20
MEDIAN_OF = 1000  # batches before
EVER = (datetime(1970, 1, 1, tzinfo=UTC), datetime(9999, 12, 31, tzinfo=UTC))
MOST_RESTARTS = 2  # of the worker of one batch


@contextmanager
def open_compute(spec: str) -> Iterator[Map]:
    """Yields `map(function, items)`, whose results come in the order in which they end.

    `threads` has no crash containment; `local` is a Dask cluster of one process a core on loopback; an
    address as `tcp://scheduler:8786` (or `tls://`, with the certificates that Dask's configuration names) is a
    cluster of yours whose workers have mcgurk installed. What hangs on a worker with a nanny is begun again there.
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
                yield partial(_on_dask, client)
        else:
            raise RequestError(
                f"--compute {spec}: use threads, local or the address of a scheduler (tcp://host:8786)"
            )


@contextmanager
def open_when_used(spec: str) -> Iterator[Map]:
    """The same, where a cluster is started by the first map: a build that computes nothing starts none."""
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
    """Raises OperationalError where a cluster does not answer, or its scheduler is lost on the way."""
    try:
        yield
    except (CommClosedError, CancelledError, TimeoutError) as error:
        raise OperationalError(
            f"--compute {address}: no scheduler answers there ({error}); once one does, the same command continues"
        ) from error


@contextmanager
def local_map(num_workers: int = CPU_COUNT) -> Iterator[Map]:
    """`map(function, items)` on a cluster on this machine: a process of one thread for each core that we may use.

    It speaks TLS with a certificate of its own: loopback is no authentication, and who reaches a scheduler without
    can run code as we do.
    """
    with (
        dask.config.set(QUIET),
        restored({**dask.config.get(SPAWNED), **FOR_NANNIES}),
        _started(num_workers) as cluster,
        Client(cluster) as client,
    ):
        yield partial(_on_dask, client)


def _started(num_workers: int) -> LocalCluster:
    """A cluster whose workers have come up. Raises OperationalError where they don't, STARTS times."""
    for left in reversed(range(STARTS)):
        try:
            with _bounded_start():
                return LocalCluster(
                    n_workers=num_workers,
                    threads_per_worker=1,
                    host="127.0.0.1",
                    protocol="tls://",
                    security=_own_security(),
                    dashboard_address=PAGES,
                    worker_dashboard_address=PAGES,
                    silence_logs=logging.ERROR,
                )
        except RuntimeError as error:
            if not left:
                raise OperationalError(
                    f"the workers of a local cluster did not come up ({error}): the same command goes on; "
                    "--compute threads needs none"
                ) from error
            log.warning(
                "the workers of a local cluster did not come up (%s): they are started once more", error
            )
    raise InternalError("a cluster is started at least once")


@contextmanager
def _bounded_start() -> Iterator[None]:
    """Ends workers that have not come up within START_S: Dask would wait for one that is stopped for ever."""
    before = _spawned()
    is_over = Event()

    def end_new() -> None:
        while not is_over.wait(START_S):  # again, since a nanny starts another one
            log.warning("no cluster within %.0f s: ending its workers", START_S)
            end(set(_spawned()) - set(before))

    ending = Thread(target=end_new, daemon=True)
    ending.start()
    try:
        yield
    finally:
        is_over.set()
        ending.join()


def _spawned() -> list[psutil.Process]:
    """The processes that Python's multiprocessing has started below this one."""
    found = []
    for one in psutil.Process().children():
        with suppress(psutil.Error):
            if any("spawn_main" in word for word in one.cmdline()):
                found.append(one)
    return found


def _own_security() -> Security:
    """A key and its certificate, as `Security.temporary` makes them, but one that a clock can't invalidate.

    Dask's is valid from now on: where the clock is set back by a second, no worker gets to its scheduler.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "mcgurk")])
    made = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
    made = made.not_valid_before(EVER[0]).not_valid_after(EVER[1]).sign(key, hashes.SHA256())
    pem = serialization.Encoding.PEM
    certificate = made.public_bytes(pem).decode()
    secret = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()).decode()
    roles = ("client", "scheduler", "worker")
    keys = {f"tls_{role}_key": secret for role in roles}
    certificates = {f"tls_{role}_cert": certificate for role in roles}
    return Security(require_encryption=True, tls_ca_file=certificate, **keys, **certificates)


def _in_threads(pool: ThreadPoolExecutor, function: Callable, items: Sequence) -> Iterator:
    futures = [pool.submit(function, item) for item in items]
    try:
        for future in as_completed(futures):
            yield future.result()
    finally:
        for future in futures:
            future.cancel()  # what was not begun, where one has failed


def _on_dask(client: Client, function: Callable, items: Iterable) -> Iterator:
    """A sliding window of futures, each released when its result is here.

    A worker that gives no sign of life for too long is restarted, and what it had is given again.
    """
    waiting = iter(items)
    patience = Patience(client)
    threads: Mapping[str, int] = client.nthreads()  # pyright: ignore[reportAssignmentType]
    window = WINDOW * max(1, sum(threads.values()))
    call = partial(_signed, function)
    running = set(_submitted(client, call, islice(waiting, window)))
    with patience.listening():
        while running:
            try:
                done, running = wait(  # pyright: ignore[reportGeneralTypeIssues]
                    running, LOOK_S, return_when="FIRST_COMPLETED"
                )
            except TimeoutError:
                patience.look()
                continue
            for future in done:
                result, seconds = future.result()
                patience.batch_ended(future, seconds)
                future.release()
                running.update(_submitted(client, call, islice(waiting, 1)))
                yield result


def _submitted(client: Client, function: Callable, items: Iterable) -> list[Future]:
    return [client.submit(function, item, pure=False) for item in items]


def _signed(function: Callable, item: Any) -> tuple[Any, float]:
    """On a worker: what `function` makes of an item, and how long it took; parts of it are signs of life."""
    worker = get_worker()
    began = time.monotonic()
    worker.log_event(SIGNS, worker.address)
    with progress.listening(lambda: worker.log_event(SIGNS, worker.address)):
        result = function(item)
    worker.log_event(SIGNS, worker.address)
    return result, time.monotonic() - began


class Patience:
    """How long a worker may be silent: 20 times as long as a batch usually takes, and 5 minutes at least.

    Dask has no limit for a task, and a worker whose thread waits for ever still answers its scheduler.
    """

    def __init__(self, client: Client) -> None:
        self.client = client
        self.last: dict[str, float] = {}  # worker -> when it gave a sign of life
        self.took: deque[float] = deque(maxlen=MEDIAN_OF)
        self.restarts: Counter[Any] = Counter()  # of a batch's worker

    @property
    def silence_s(self) -> float:
        """How long is too long."""
        return max(LEAST_SILENCE_S, SILENCE_OF_MEDIAN * median(self.took) if self.took else 0.0)

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Inside the block signs of life are heard."""
        self.client.subscribe_topic(SIGNS, self._heard)
        try:
            yield
        finally:
            self.client.unsubscribe_topic(SIGNS)

    def batch_ended(self, future: Future, seconds: float) -> None:
        """Notes how long a batch took."""
        self.took.append(seconds)
        self.restarts.pop(future.key, None)

    def look(self) -> None:
        """Restarts workers that have work and were silent for too long. Raises OperationalError where that fails."""
        now = time.monotonic()
        for worker, keys in self._processing().items():
            silent_s = now - self.last.setdefault(worker, now)
            if not keys:
                self.last[worker] = now
            elif silent_s > self.silence_s:
                self._restart(worker, keys, silent_s)
            elif silent_s > WARN_S:
                log.warning("worker %s: no sign of life for %.0f s", worker, silent_s)

    def _processing(self) -> Mapping[str, Sequence[str]]:
        """Worker -> the batches that it has. Raises CommClosedError where the scheduler is lost."""
        if self.client.status == "closed":
            raise CommClosedError("its connection is closed")
        try:
            return self.client.processing()  # pyright: ignore[reportReturnType]
        except OSError as error:
            raise CommClosedError(str(error)) from error

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
