"""A Dask cluster on this machine, for one build: it listens on loopback, speaks TLS, and starts in bounded time."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from threading import Event, Thread

import dask
import psutil
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from distributed import LocalCluster, Security

from schemas.environment import restored
from schemas.errors import InternalError, OperationalError
from tasks.processes import command_of, end

log = logging.getLogger(__name__)

PAGES = "127.0.0.1:0"  # Dask's pages: None would mean every interface
STARTS = 2  # attempts to start a cluster: one of its workers may be killed by accident
START_S = 120.0  # for a cluster to start, which takes 2 s, or 10 on a busy machine
EVER = (datetime(1970, 1, 1, tzinfo=UTC), datetime(9999, 12, 31, tzinfo=UTC))
# Dask sets these for its workers, and in the process that starts them too: a training would run on one thread there.
SPAWNED = "distributed.nanny.pre-spawn-environ"
FOR_NANNIES = dict.fromkeys(("PYTHONHASHSEED", "__DASK_PARENT_PID"))


@contextmanager
def open_cluster(num_workers: int) -> Iterator[LocalCluster]:
    """A cluster of single-threaded processes, which leaves the environment of this process unchanged.

    It speaks TLS with its own certificate: loopback is no authentication, and anyone who reaches a scheduler without
    TLS can run code as this account. Raises OperationalError if its workers fail to start.
    """
    with restored({**dask.config.get(SPAWNED), **FOR_NANNIES}), _started(num_workers) as cluster:
        yield cluster  # pyright: ignore[reportReturnType]


def _started(num_workers: int) -> LocalCluster:
    """A cluster whose workers have started. Raises OperationalError if they fail to, STARTS times."""
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
                    # A batch returns its own errors; others come from the shutdown, such as a late last heartbeat.
                    silence_logs=logging.CRITICAL,
                )
        except RuntimeError as error:
            if not left:
                raise OperationalError(
                    f"the workers of a local cluster failed to start ({error}): the same command continues; "
                    "--compute threads needs none"
                ) from error
            log.warning("the workers of a local cluster failed to start (%s): starting them once more", error)
    raise InternalError("a cluster is started at least once")


@contextmanager
def _bounded_start() -> Iterator[None]:
    """Ends workers that have not started within START_S: Dask would wait forever for one that is stopped."""
    before = _spawned()
    is_over = Event()

    def end_new() -> None:
        while not is_over.wait(START_S):  # repeatedly, because a nanny starts another one
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
    children = psutil.Process().children()
    return [one for one in children if any("spawn_main" in word for word in command_of(one))]


def _own_security() -> Security:
    """A key and its certificate, as `Security.temporary` makes them, but valid whatever the clock says.

    Dask's is valid from now on: if the clock is set back by a second, no worker can connect to its scheduler.
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
