"""`mcgurk serve`: runs Prefect with our deployments and workers, and MLflow, on one machine; Ctrl-C ends them all."""

import logging
import socket
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

import psutil

from flows.arguments import Notify, Option, Ping, Root, State
from flows.builds.memory import remember_state
from flows.builds.overview import Renewal, overview_path
from flows.builds.pipeline import state_folder
from flows.services.databases import Databases, choose
from flows.services.keeper import Service, kept, running_in, wake
from flows.services.receivers import Receivers
from flows.services.servers import free_port, given_api, login, mlflow_service, prefect_api, served_api
from schemas.errors import OperationalError, RequestError
from schemas.layout import PREFECT, SERVE
from schemas.mounts import require_local
from schemas.storage import is_local, open_root
from tasks.leases import alone

log = logging.getLogger(__name__)

EXAMPLE = "mcgurk serve --root data"
IS_LONG = True

# The ports in their own documentation
PREFECT_PORT = 4200
MLFLOW_PORT = 5000
HIGHEST_PORT = 65535
LOOK_S = 15.0  # between two checks for runs whose process is gone
POLL_S = 0.5
AS_BEFORE = Receivers()


@dataclass(frozen=True)
class Doors:
    """The ports of the servers, who may use them besides their own pages, and where a login is needed."""

    origins: tuple[str, ...] = ()  # whose pages may use Prefect's API
    mlflow_login: bool = False
    port: int | None = None  # of Prefect, if it must be this one
    mlflow_port: int | None = None
    database: str | None = None  # where the servers store their data, if not where they did before


@dataclass(frozen=True)
class Options:
    """Which root is served, where, and to whom."""

    root: Root
    state: State = None
    origin: Annotated[
        tuple[str, ...],
        Option("other addresses whose pages may use Prefect's API, such as a proxy in front of it", "URL"),
    ] = ()
    mlflow_login: Annotated[bool, Option("make MLflow require Prefect's login")] = False
    port: Annotated[
        int | None, Option(f"port of Prefect; default {PREFECT_PORT}, or a free one if that is taken", "N")
    ] = None
    database: Annotated[
        str | None,
        Option(
            "a PostgreSQL server and a prefix: the databases PREFIX_prefect and PREFIX_mlflow are created there and "
            "used from then on; the password is in PGPASSWORD or ~/.pgpass; default: files, or what was named before",
            "postgresql://USER@HOST/PREFIX",
        ),
    ] = None
    mlflow_port: Annotated[
        int | None, Option(f"port of MLflow; default {MLFLOW_PORT}, or a free one if that is taken", "N")
    ] = None
    notify: Notify = None
    ping: Ping = None


def run(options: Options) -> int:
    """Serves a local root until it is interrupted. Raises HeldError if the state folder is served already."""
    root = open_root(options.root)
    if not is_local(root):
        raise RequestError(f"--root {options.root}: MLflow's database needs a disk: serve a local folder")
    if not root.is_dir():
        raise RequestError(f"--root {options.root}: no such folder: build there first (mcgurk build)")
    state = state_folder(root, options.state)
    require_local(state)
    doors = Doors(options.origin, options.mlflow_login, options.port, options.mlflow_port, options.database)
    receivers = Receivers(options.notify, options.ping)
    receivers.check()
    require_free(doors)
    if options.database:
        Databases.parsed(options.database)  # before anything is written
    with serving(root, state, doors, receivers) as login:
        page = Renewal(root, state)
        page.look()
        print(f"page     {overview_path(root, state).as_uri()}")
        if login:
            print(f"login    {login}" + ("  (of MLflow too)" if doors.mlflow_login else ""))
        print("Deployments: hourly builds, trainings when due, upkeep. Ctrl-C stops everything.", flush=True)
        try:
            watch(state, page)
        finally:
            page.leave()
    return 0


@contextmanager
def serving(root: Path, state: Path, doors: Doors, receivers: Receivers = AS_BEFORE) -> Iterator[str]:
    """Both servers and a worker for each pool of our deployments; on free ports if the usual ones are taken.

    Yields the login that one of them requires; empty if none does. What a killed `serve` left running is ended first.
    Raises HeldError if another process serves this folder.
    """
    with ExitStack() as stack:
        stack.enter_context(alone(state, SERVE, "serves this state folder"))
        remember_state(root, state)
        if doors.database:
            choose(doors.database, root, state)
        api = _prefect(stack, state, doors)
        from flows.services.alarms import deploy_watched  # Prefect reads its settings when it is imported

        stack.enter_context(_reporting(state))
        deploy_watched(str(root), receivers, state)
        _entered(
            stack,
            doors.mlflow_port,
            MLFLOW_PORT,
            lambda port: _workers_and_mlflow(root, state, port, doors),
        )
        is_asked = doors.mlflow_login or api == served_api(state)
        yield login(state) if is_asked else ""


def _prefect(stack: ExitStack, state: Path, doors: Doors) -> str:
    """The address of the Prefect server that is already up, the user's or a build's; else of one that is started."""

    def entered(port: int | None) -> AbstractContextManager[str]:
        return prefect_api(state, port, doors.origins)

    if not (standing := given_api() or served_api(state)):
        return _entered(stack, doors.port, PREFECT_PORT, entered)
    if doors.port not in (None, urlsplit(standing).port):
        log.warning("--port %d is not used: another Prefect server is up; the page names it", doors.port)
    return stack.enter_context(entered(None))


def _entered(
    stack: ExitStack, named: int | None, usual: int, servers: Callable[[int], AbstractContextManager[str]]
) -> str:
    """The address of servers on the port that was named, and on no other.

    If none was named, they use their usual port, or a free one if that is taken, even at the last moment.
    """
    if named is not None:
        return stack.enter_context(servers(named))
    if _is_free(usual):
        try:
            return stack.enter_context(servers(usual))
        except OperationalError:
            if _is_free(usual):
                raise
    port = free_port()
    log.warning("port %d is taken by %s: using %d instead", usual, holder_of(usual), port)
    return stack.enter_context(servers(port))


def require_free(doors: Doors) -> None:
    """Raises RequestError for a named port that is invalid, is taken, or was named for both servers."""
    named = {"--port": doors.port, "--mlflow-port": doors.mlflow_port}
    if doors.port is not None and doors.port == doors.mlflow_port:
        raise RequestError(f"--mlflow-port {doors.port}: --port gives it to Prefect: name another one")
    for flag, port in named.items():
        if port is None:
            continue
        if not 0 < port <= HIGHEST_PORT:
            raise RequestError(f"{flag} {port}: a port is a number from 1 to {HIGHEST_PORT}")
        if not _is_free(port):
            raise RequestError(
                f"{flag} {port}: taken by {holder_of(port)}: name another one, or leave {flag} out for any free port"
            )


def holder_of(port: int) -> str:
    """The program that listens on a loopback port, if this account may see it."""
    for one in psutil.net_connections("tcp"):
        if one.status == psutil.CONN_LISTEN and one.laddr and one.laddr.port == port and one.pid:
            with suppress(psutil.Error):
                return f"process {one.pid} ({psutil.Process(one.pid).name()})"
    return "another program"


def _workers_and_mlflow(root: Path, state: Path, port: int, doors: Doors) -> AbstractContextManager[str]:
    from flows.services.deployments import POOLS

    mlflow = mlflow_service(root, state, port, with_login=doors.mlflow_login)
    workers = [worker_service(state, pool) for pool in POOLS]
    return kept(state / SERVE, [mlflow, *workers], f"http://127.0.0.1:{port}")


def watch(state: Path, page: Renewal) -> None:
    """Renews the page and looks for runs whose process is gone, until it is interrupted.

    Raises OperationalError if a keeper is gone.
    """
    looked = time.monotonic()
    keepers = [folder for folder in (state / PREFECT, state / SERVE) if running_in(folder)]
    while True:
        time.sleep(POLL_S)
        for folder in keepers:
            if running_in(folder) is None:
                raise OperationalError(
                    f"the process that kept the servers of {folder} was killed: run mcgurk serve again"
                )
        if time.monotonic() - looked > LOOK_S:
            for folder in keepers:
                wake(folder)
            _report(state)
            page.look()
            looked = time.monotonic()


@contextmanager
def _reporting(state: Path) -> Iterator[None]:
    """Before the block and after it, reports to the server the runs whose process is gone."""
    _report(state)
    try:
        yield
    finally:
        _report(state)


def _report(state: Path) -> None:
    from flows.services.runs import UNREACHABLE, report_dead

    try:
        report_dead(state)
    except UNREACHABLE as error:  # its keeper starts it again
        log.info("Prefect's server does not answer now: %s", error)


def worker_service(state: Path, pool: str) -> Service:
    """A worker of one of our pools."""
    command = (sys.executable, "-P", "-m", "prefect", "worker", "start", "--pool", pool, "--name", pool)
    return Service(f"worker {pool}", command, str(state / "logs" / f"worker-{pool}.log"), has_runs=True)


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0
