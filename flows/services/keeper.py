"""The keeper of services: a process that starts them, restarts those that die, and ends them when nobody uses them.

A process that uses the services of a folder holds a shared lock on its file `users`; the kernel releases the lock
when that process ends, however it ends. So several commands share one server, and the last one shuts it down.
"""

import fcntl
import json
import logging
import os
import signal
import sqlite3
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO
from urllib.parse import urlsplit

import psutil

from flows.services.rotation import rotate_all
from flows.services.watchdog import MARK
from schemas.databases import compact, copies_of, keep_before, note_opened
from schemas.errors import OperationalError
from schemas.files import write_text
from schemas.identity import Identity
from schemas.storage import make_folder
from tasks.leases import locks
from tasks.processes import end, end_with_parent, marked

log = logging.getLogger(__name__)

KEPT = "MCGURK_KEPT"  # in the environment of everything that a keeper starts: the folder of its services
USERS = "users"
STARTING = "starting"
UP = "up.json"
LOG = "keeper.log"
LOOK_S = 10.0  # between two checks of the length of logs, and of who listens
START_S = 120.0  # Prefect takes 4 to 10 s, MLflow up to 20 on a loaded machine
POLL_S = 0.1
RESTART_S = 1.0  # before a dead service is restarted; twice as long each time, up to MOST_RESTART_S
MOST_RESTART_S = 60.0
WAKE_S = 30.0  # after which stopped services (SIGSTOP) are resumed
STEADY_S = 60.0  # a service that has run this long starts again with the shortest wait
END_S = 1.0  # that services may take to end before they are killed: their databases survive that
RUN_END_S = 1.5  # the same for flow runs, before services: they report their end to a server that is still up
OF_A_RUN = "PREFECT__FLOW_RUN_ID"
TAIL_CHARACTERS = 800
_STARTED: list[subprocess.Popen] = []  # keepers, which may outlive the process that started them


@dataclass(frozen=True)
class Service:
    """A process to run: `health` is an address that answers once the process is up."""

    name: str
    command: tuple[str, ...]
    log: str
    health: str | None = None
    environment: dict[str, str] = field(default_factory=dict)
    has_runs: bool = False  # it starts flow runs, which are ended before it
    package: str = ""  # whose version matters to its databases, which are SQLite files
    databases: tuple[str, ...] = ()
    start_s: float = START_S  # it may take to listen; one that stops listening for as long is restarted


@contextmanager
def kept(folder: Path, services: Sequence[Service], address: str) -> Iterator[str]:
    """Inside the block the services of `folder` run, started here or earlier; yields their address.

    Raises OperationalError, with the end of its log, for a service that fails to start.
    """
    make_folder(folder)
    with (folder / USERS).open("a") as users:
        fcntl.flock(users, fcntl.LOCK_SH)  # waits for a keeper that is ending its services
        with (folder / STARTING).open("a") as starting:
            fcntl.flock(starting, fcntl.LOCK_EX)
            if running_in(folder) is None:
                _start(folder, services, address)
        keeper = wake(folder)
        try:
            yield address_in(folder)
        finally:
            fcntl.flock(users, fcntl.LOCK_UN)
            is_last = _is_free(users)
            fcntl.flock(users, fcntl.LOCK_UN)
            if is_last and keeper:
                wake(folder)
                _await_end(folder, keeper)


def running_in(folder: Path) -> Identity | None:
    """The keeper that runs the services of that folder, if there is one."""
    with suppress(OSError, ValueError, KeyError):
        facts = json.loads((folder / UP).read_text())
        keeper = Identity.read(facts["keeper"])
        is_copied = not folder.samefile(facts.get("folder", folder))  # in a backup of a running root
        return keeper if keeper.process and not is_copied else None
    return None


def wake(folder: Path) -> Identity | None:
    """The keeper of that folder, if there is one; a stopped one (SIGSTOP) is resumed, or nothing would ever end."""
    keeper = running_in(folder)
    if keeper and keeper.process:
        end([keeper.process], signal.SIGCONT)
    return keeper


def address_in(folder: Path) -> str:
    """The address of the services that run there. Raises FileNotFoundError if none do."""
    return json.loads((folder / UP).read_text())["address"]


def _start(folder: Path, services: Sequence[Service], address: str) -> None:
    """Ends what an earlier keeper left running when it was killed, and starts a new one."""
    (folder / UP).unlink(missing_ok=True)
    end(marked(KEPT, str(folder)), within_s=END_S)
    facts = {"folder": str(folder), "address": address, "services": [asdict(one) for one in services]}
    environment = {name: value for name, value in os.environ.items() if name not in (MARK, "TMPDIR")}
    with (folder / LOG).open("ab") as output:
        process = subprocess.Popen(  # noqa: S603  (our own command)
            [sys.executable, "-P", "-m", "flows.services.keeper"],
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=output,
            env={**environment, KEPT: str(folder), "PYTHONSAFEPATH": "1"},  # no module of a working directory
            start_new_session=True,
        )
    _STARTED.append(process)
    if process.stdin is None:
        raise AssertionError("Popen was given PIPE")
    process.stdin.write(json.dumps(facts).encode())
    process.stdin.close()
    ends = time.monotonic() + START_S * len(services)
    while running_in(folder) is None:
        if process.poll() is not None or time.monotonic() > ends:
            raise OperationalError(_tail(folder / LOG))
        time.sleep(POLL_S)


def _await_end(folder: Path, keeper: Identity) -> None:
    """Waits until the keeper has ended its services, or another process uses them."""
    began = time.monotonic()
    while keeper.process and time.monotonic() - began < RUN_END_S + 2 * END_S:
        if (folder / UP).is_file() and time.monotonic() - began > 10 * POLL_S:
            return
        time.sleep(POLL_S)
    for process in _STARTED:
        process.poll()  # so that none is left as a zombie


@dataclass
class _Running:
    """A service with its process, and when it may be started again."""

    service: Service
    process: subprocess.Popen
    began: float
    listened: float = 0.0
    wait_s: float = RESTART_S
    again: float | None = None


class Keeper:
    """Runs services until nobody uses them."""

    def __init__(self, folder: Path, services: Sequence[Service]) -> None:
        self.folder = folder
        self.services = services
        self.running: list[_Running] = []
        self.woken = time.monotonic()

    def keep(self, address: str) -> None:
        """Starts the services in order, keeps them up, and ends them."""
        with (self.folder / USERS).open("a") as users:
            try:
                for service in self.services:
                    self.running.append(_Running(service, _opened(service), time.monotonic()))
                    await_health(self.running[-1].process, service, lambda: _is_free(users))
                    _note_new(service)
                facts = {"keeper": asdict(Identity.own()), "folder": str(self.folder), "address": address}
                write_text(self.folder / UP, json.dumps(facts))
                looked = time.monotonic()
                while not _is_free(users):
                    for one in self.running:
                        self._revive(one)
                    self._wake()
                    if time.monotonic() - looked > LOOK_S:
                        self._end_deaf()
                        rotate_all(self.logs)
                        looked = time.monotonic()
                    time.sleep(POLL_S)
            finally:
                self._end()  # before the lock is released: new users wait

    @property
    def logs(self) -> list[Path]:
        """Its own log, and all logs in the folders of its services' logs, such as that of the commands."""
        folders = {Path(one.log).parent for one in self.services}
        return [self.folder / LOG, *sorted(path for folder in folders for path in folder.glob("*.log"))]

    def _revive(self, one: _Running) -> None:
        now = time.monotonic()
        if one.process.poll() is None:
            return
        if one.again is None:
            is_steady = now - one.began > STEADY_S
            one.wait_s = RESTART_S if is_steady else min(2 * one.wait_s, MOST_RESTART_S)
            one.again = now + one.wait_s
            log.warning("%s ended with code %s: restarting it", one.service.name, one.process.returncode)
        elif now >= one.again:
            end_group(one.process)  # a process that it started may hold its port
            try:
                one.process = _opened(one.service)
            except OperationalError as error:
                log.warning("%s is not started: %s", one.service.name, error)
                one.again = now + MOST_RESTART_S
                return
            one.began = now
            one.again = None

    def _end_deaf(self) -> None:
        """Kills a service whose process lives but no longer listens, so that it is restarted.

        A service that is busy or stopped still listens: only a listener that is gone counts.
        """
        for one in self.running:
            now = time.monotonic()
            if one.process.poll() is not None or not one.service.health:
                continue
            if _listens(one.process.pid, one.service.health):
                one.listened = now
            elif now - max(one.began, one.listened) > one.service.start_s:
                log.warning(
                    "%s has not listened for %.0f s: ending it", one.service.name, one.service.start_s
                )
                end_group(one.process)

    def _wake(self) -> None:
        """Resumes services that were stopped (SIGSTOP): they would not be restarted, and their clients would hang."""
        if time.monotonic() - self.woken > WAKE_S:
            for one in self.running:
                if one.process.poll() is None:
                    os.killpg(one.process.pid, signal.SIGCONT)
            self.woken = time.monotonic()

    def _end(self) -> None:
        """Ends flow runs first: the worker that started them would kill them. What doesn't end in time is killed."""
        (self.folder / UP).unlink(missing_ok=True)
        if any(one.service.has_runs for one in self.running):
            end([one for one in marked(KEPT, str(self.folder)) if _is_run(one)], signal.SIGTERM, RUN_END_S)
        for one in self.running:
            one.process.terminate()
        ends = time.monotonic() + END_S
        for one in self.running:
            with suppress(subprocess.TimeoutExpired):
                one.process.wait(max(0.0, ends - time.monotonic()))
            end_group(one.process)
        self.running = []
        end(marked(KEPT, str(self.folder)), within_s=END_S)


def _is_run(process: psutil.Process) -> bool:
    with suppress(psutil.Error):
        return OF_A_RUN in process.environ()
    return False


def _opened(service: Service) -> subprocess.Popen:
    """Starts a service. Before that, databases that another version used last are copied, and all are compacted."""
    for path in service.databases:
        if copy := keep_before(Path(path), service.package):
            log.warning(
                "another version of %s opened %s last: a copy of it is kept as %s",
                service.package,
                path,
                copy.name,
            )
        compact(Path(path))
    return start(service)


def _note_new(service: Service) -> None:
    """Notes, in the databases that a service has just created, which version created them."""
    with suppress(sqlite3.Error):  # too busy: then the next start keeps an unnecessary copy
        for path in service.databases:
            note_opened(Path(path), service.package)


def start(service: Service) -> subprocess.Popen:
    """Starts a service's process, which the kernel ends with this one."""
    path = Path(service.log)
    make_folder(path.parent)
    with path.open("ab") as output:
        return subprocess.Popen(  # noqa: S603  (our own command)
            service.command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env={**os.environ, **service.environment},
            start_new_session=True,
            preexec_fn=_begin,
        )


def _begin() -> None:
    """Runs between fork and exec: a few system calls, safe beside other threads."""
    end_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # a worker that ignores it does not stop by SIGTERM either


def await_health(
    process: subprocess.Popen, service: Service, is_unwanted: Callable[[], bool] = lambda: False
) -> None:
    """Waits until a service answers. Raises OperationalError with the end of its log if it does not.

    The service's own process must listen: another program may have taken the port first, and answer as well.
    """
    ends = time.monotonic() + service.start_s
    while service.health and not (answers(service.health) and _listens(process.pid, service.health)):
        if is_unwanted():
            raise OperationalError(f"nobody waits for {service.name} any more")
        if process.poll() is not None or time.monotonic() > ends:
            said = _tail(Path(service.log))
            raise OperationalError(f"{service.name} failed to start: {said}{_way_back(service)}")
        time.sleep(POLL_S)


def _way_back(service: Service) -> str:
    """The remedy when a server fails to start after an upgrade."""
    copies = [str(copy) for path in service.databases for copy in copies_of(Path(path))]
    if not copies:
        return ""
    return f" (from before an upgrade: {', '.join(copies)}; docs/operating.md says how to go back)"


def answers(address: str) -> bool:
    """Whether a server on loopback answers there with status 200."""
    try:
        with urllib.request.urlopen(address, timeout=2) as answer:  # noqa: S310  (loopback)
            return answer.status == 200  # noqa: PLR2004
    except (urllib.error.URLError, OSError):
        return False


def _listens(pid: int, address: str) -> bool:
    """Whether a process, or one that it started, listens on the port of an address."""
    with suppress(psutil.Error):
        process = psutil.Process(pid)
        sockets = [one for each in (process, *process.children(True)) for one in each.net_connections("inet")]
        port = urlsplit(address).port
        return any(one.status == psutil.CONN_LISTEN and one.laddr.port == port for one in sockets)
    return False


def end_group(process: subprocess.Popen) -> None:
    """Kills a process that leads its own session, and everything it started there."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _is_free(users: IO[str]) -> bool:
    return locks(users, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _tail(path: Path) -> str:
    return path.read_text(errors="replace").strip()[-TAIL_CHARACTERS:]


def _unmoved(number: int, frame: object) -> None:
    del number, frame


def main() -> None:
    """Keeps the services that standard input describes."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _unmoved)  # it ends with its users; services inherit ignored signals
    facts = json.load(sys.stdin)
    services = [Service(**{**one, "command": tuple(one["command"])}) for one in facts["services"]]
    try:
        Keeper(Path(facts["folder"]), services).keep(facts["address"])
    except OperationalError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
