"""A PostgreSQL server of a test's own, by Debian's programs: on a free port of loopback, ended by its process id."""

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from real_servers import wait_for

from flows.services.servers import free_port

ACCOUNT = "postgres"  # Debian's: PostgreSQL refuses to run as root
PASSWORD = "only for this test"  # with blanks, which an address must quote
END_S = 20.0


def postgres_programs() -> Path | None:
    """The folder of PostgreSQL's programs, which Debian keeps off the path."""
    if found := shutil.which("initdb"):
        return Path(found).resolve().parent
    return next((path.parent for path in sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))), None)


@dataclass
class Postgres:
    """A cluster of databases, whose server can be killed and started again."""

    folder: Path
    programs: Path
    port: int = field(default_factory=free_port)
    process: subprocess.Popen | None = None

    @property
    def address(self) -> str:
        """Without user, password and database."""
        return f"127.0.0.1:{self.port}"

    def url(self, name: str) -> str:
        """A database's address, with its login."""
        return f"postgresql://{ACCOUNT}:{PASSWORD.replace(' ', '%20')}@{self.address}/{name}"

    def begin(self) -> None:
        """Starts the server, and waits until it answers."""
        wait_for(self._is_up, "PostgreSQL")

    def end(self, number: int = signal.SIGINT) -> None:
        """Ends the server by a signal: SIGINT is its fast shutdown, SIGKILL an accident."""
        if self.process and self.process.poll() is None:
            self.process.send_signal(number)
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(END_S)
            self.process.kill()
            self.process.wait()

    def ask(self, query: str, database: str = "postgres") -> list[str]:
        """The lines that a query answers."""
        done = self._run("psql", "-X", "-q", "-A", "-t", "-c", query, self.url(database))
        assert done.returncode == 0, done.stderr
        return done.stdout.splitlines()

    def _is_up(self) -> bool:
        if (
            self.process is None or self.process.poll() is not None
        ):  # after kill -9 the first try may come too soon
            self.process = self._started()
        return self._run("pg_isready", "-q", "-h", "127.0.0.1", "-p", str(self.port)).returncode == 0

    def _started(self) -> subprocess.Popen:
        # Its files outlive any process without it; only a power cut would miss what it does not wait for.
        options = ("-h", "127.0.0.1", "-p", str(self.port), "-k", "", "-c", "fsync=off")
        with (self.folder / "log").open("ab") as log:
            return subprocess.Popen(
                [self.programs / "postgres", "-D", self.folder / "data", *options],
                stdout=log,
                stderr=log,
                start_new_session=True,
                **_account(),
            )

    def _run(self, program: str, *arguments: str) -> subprocess.CompletedProcess:
        command = [self.programs / program, *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=False, cwd="/", **_account())


def _account() -> dict:
    """For Popen: another account than root."""
    return {} if os.getuid() else {"user": ACCOUNT, "group": ACCOUNT, "extra_groups": []}


@contextmanager
def postgres_server(programs: Path) -> Iterator[Postgres]:
    """A new cluster, with a login for all, and its server."""
    # Not below pytest's folders, which only the account of the tests may enter.
    with tempfile.TemporaryDirectory(prefix="mcgurk-postgres-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        (folder / "password").write_text(PASSWORD)
        if not os.getuid():
            for path in (folder, folder / "password"):
                shutil.chown(path, ACCOUNT, ACCOUNT)
        server = Postgres(folder, programs)
        options = (
            "-U",
            ACCOUNT,
            "--auth",
            "scram-sha-256",
            "--encoding",
            "UTF8",
            "--locale",
            "C.UTF-8",
            "--no-sync",
        )
        done = server._run(
            "initdb", "-D", str(folder / "data"), "--pwfile", str(folder / "password"), *options
        )
        assert done.returncode == 0, done.stderr
        try:
            server.begin()
            yield server
        finally:
            server.end()
