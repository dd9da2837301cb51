"""The form in which people outgrow one machine: a store, a Dask cluster, PostgreSQL and a Prefect server of their own.

Each is a process that can meet with an accident, and that its owner's supervisor starts again.
"""

import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil
from postgres import Postgres, postgres_programs, postgres_server
from preloaded import is_listening
from real_servers import REPOSITORY, Api, started, wait_for

from benchmarks.chaos.ground import DEPLOYMENT, POOL, Ground, below, is_alive
from flows.services.keeper import answers
from flows.services.servers import free_port
from tasks.processes import command_of

BUCKET = "bucket"
NUM_WORKERS = 3
START_S = 120.0
NAMES = ("store", "scheduler", *(f"nanny{n}" for n in range(NUM_WORKERS)), "server", "worker")


@dataclass
class Outgrown(Ground):
    """A root on a store that is built by a cluster, by the order of a Prefect server over PostgreSQL."""

    ports: dict[str, int] = field(default_factory=lambda: {name: free_port() for name in NAMES})
    database: Postgres | None = None
    running: dict[str, psutil.Process] = field(default_factory=dict)

    @property
    def root(self) -> Path:
        """The objects, as they lie on the disk of the store."""
        return self.folder / "objects" / BUCKET / "root"

    @property
    def address(self) -> str:
        """The root, as commands name it."""
        return f"s3://{BUCKET}/root"

    @property
    def state(self) -> Path:
        """Its state folder."""
        return self.folder / "state"

    @property
    def api(self) -> Api:
        """The Prefect server."""
        return Api(f"http://127.0.0.1:{self.ports['server']}/api", "")

    @property
    def where(self) -> list[str]:
        """The options that say which root is built, where, and by whom."""
        return ["--root", self.address, "--state", str(self.state), "--compute", self.cluster]

    @property
    def cluster(self) -> str:
        """The scheduler's address."""
        return f"tcp://127.0.0.1:{self.ports['scheduler']}"

    @property
    def environment(self) -> dict[str, str]:
        """What a command needs to reach store and server."""
        return {
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{self.ports['store']}",
            "AWS_ACCESS_KEY_ID": "chaos",
            "AWS_SECRET_ACCESS_KEY": "of this store only",
            "AWS_DEFAULT_REGION": "us-east-1",
            "PREFECT_API_URL": self.api.address,
            "PREFECT_HOME": str(self.folder / "prefect"),
            "PYTHONPATH": str(REPOSITORY),
        }

    @property
    def is_served(self) -> bool:
        """Whether all of it is alive."""
        process = self.database.process if self.database else None
        is_there = process is not None and process.poll() is None
        return is_there and len(self.running) == len(NAMES) and all(map(is_alive, self.running.values()))

    def begin(self) -> str:
        """Has a build begun as the schedule begins it; returns the id of its run."""
        options = {"root": self.address, "state": str(self.state), "compute": self.cluster}
        return self.api.begin(DEPLOYMENT, {"options": options})

    def renew(self) -> None:
        """Another root, and all that it needs."""
        self._end_left() if self.database is None else self.end()
        self.clear()
        (self.folder / "objects" / BUCKET).mkdir(parents=True)
        programs = postgres_programs()
        assert programs, "no PostgreSQL: apt-get install postgresql"
        self.database = self._serving.enter_context(postgres_server(programs))
        os.environ |= {name: value for name, value in self.environment.items() if name.startswith("AWS_")}
        self._start_all(NAMES[:-1])
        self.first_build()
        output = self.folder / "deploy.out"
        with started("deploy", "--root", self.address, output=output, **self.environment) as process:
            assert process.wait(START_S) == 0, output.read_text()
        self._start_all(NAMES)

    def serve_again(self) -> None:
        """Starts what is not alive, as a supervisor does."""
        assert self.database
        self.database.begin()
        self._start_all(NAMES)

    def supervise(self) -> None:
        """The same, later: workers leave a scheduler that was killed when they notice it."""
        self.serve_again()

    def _start_all(self, names: Sequence[str]) -> None:
        for name in names:
            if name not in self.running or not is_alive(self.running[name]):
                self.running[name] = self._start(name)

    def stop_serving(self) -> None:
        """Ends all of it."""
        for one in reversed(self.running.values()):
            with suppress(psutil.Error):
                for each in (*one.children(recursive=True), one):
                    each.kill()
        self.running = {}
        self.database = None
        self._serving.close()

    def processes(self, run: str) -> dict[str, list[psutil.Process]]:
        """Who can meet with an accident now, by what it is."""
        nannies = [one for name, one in self.running.items() if name.startswith("nanny")]
        under = [child for one in nannies for child in below(one)]
        flow = self.flow(run)
        database = self.database.process if self.database else None
        return {
            "store": [self.running["store"]],
            "PostgreSQL": [psutil.Process(database.pid)] if database else [],
            "server": [self.running["server"]],
            "worker": [self.running["worker"]],
            "scheduler": [self.running["scheduler"]],
            "nanny": nannies,
            "worker of the cluster": [one for one in under if "spawn_main" in " ".join(command_of(one))],
            "media process": [one for one in under if "tasks.media.sandbox" in command_of(one)],
            "flow": [flow] if flow else [],
        }

    def _start(self, name: str) -> psutil.Process:
        folder = self.folder / name
        folder.mkdir(exist_ok=True)
        program, *arguments = self._command(name)
        environment = {**self.environment, **(self._of_server if name == "server" else {})}
        stack = self._serving
        process = stack.enter_context(
            started(*arguments, program=program, output=folder / "log", **environment)
        )
        port = self.ports[name]
        if name in ("store", "scheduler"):
            wait_for(lambda: is_listening(port) or process.poll() is not None, name)
        if name == "server":
            wait_for(lambda: answers(f"{self.api.address}/health") or process.poll() is not None, name)
        assert process.poll() is None, (folder / "log").read_text()[-2000:]
        return psutil.Process(process.pid)

    @property
    def _of_server(self) -> dict[str, str]:
        assert self.database
        url = self.database.url("postgres").replace("postgresql:", "postgresql+asyncpg:")
        return {
            "PREFECT_SERVER_DATABASE_CONNECTION_URL": url,
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        }

    def _command(self, name: str) -> list[str]:
        here = ["--host", "127.0.0.1"]
        port = str(self.ports[name])
        if name == "store":
            options = ["--addr", f"127.0.0.1:{port}", "--auth-key", "chaos,of this store only"]
            return ["rclone", "serve", "s3", str(self.folder / "objects"), *options]
        if name == "scheduler":
            return ["dask", "scheduler", *here, "--no-dashboard", "--port", port]
        if name == "server":
            return ["prefect", "server", "start", *here, "--port", port]
        if name == "worker":
            return ["prefect", "worker", "start", "--pool", POOL, "--name", POOL]
        scratch = ["--local-directory", str(self.folder / name)]
        return ["dask", "worker", self.cluster, *here, "--no-dashboard", "--nthreads", "1", *scratch]
