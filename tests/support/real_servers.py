"""What tests of flows drive: the command line as a user runs it, a host of media, a root seen as files."""

import base64
import json
import os
import ssl
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from http import HTTPStatus
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Event, Thread
from typing import IO
from uuid import uuid4

import preloaded
import psutil

from flows.services.keeper import KEPT, await_health, start
from flows.services.servers import free_port, mlflow_service, running, stop
from tasks.processes import marked

REPOSITORY = Path(__file__).resolve().parents[2]
ANSWER_S = 60.0  # as Prefect's own clients wait: its server may wait so long for its database
PATIENCE_S = 180.0
DATA_FOLDERS = ("segments", "clips", "features", "shards", "versions")


def run_mcgurk(*arguments: str, code: int = 0) -> str:
    """What one command printed, run as a user would, but with everything imported already."""
    with TemporaryDirectory() as folder:
        return preloaded.run(arguments, Path(folder) / "output", os.environ, code)


@contextmanager
def tracking_server(root: Path, state: Path, *, with_login: bool = False) -> Iterator[str]:
    """The address of an MLflow server over the runs of `root`, as `mcgurk serve` starts it."""
    port = free_port()
    service = mlflow_service(root, state, port, with_login=with_login)
    process = start(service)
    try:
        await_health(process, service)
        yield f"http://127.0.0.1:{port}"
    finally:
        stop(process)


def snapshot(root: Path) -> dict[str, tuple[int, int]]:
    """Every file under the data folders of a root: name -> (size, when it was written in ns)."""
    files = (path for folder in DATA_FOLDERS for path in (root / folder).rglob("*") if path.is_file())
    return {str(p.relative_to(root)): (p.stat().st_size, p.stat().st_mtime_ns) for p in files}


@dataclass
class Host:
    """An HTTP host that serves files by video id, and counts who asked for what."""

    address: str = ""
    files: dict[str, Path] = field(default_factory=dict)
    statuses: dict[str, int] = field(default_factory=dict)  # what it answers instead of a file
    asked: Counter = field(default_factory=Counter)
    gate: Event = field(default_factory=Event)  # until it is set, nobody gets an answer before `patience_s`
    patience_s: float = PATIENCE_S
    knocked: Counter = field(default_factory=Counter)  # who asked, answered or not

    def __post_init__(self) -> None:
        self.gate.set()


@contextmanager
def hosting(files: dict[str, Path]) -> Iterator[Host]:
    host = Host(files=files)
    with answering(partial(_Handler, host)) as host.address:
        yield host


@contextmanager
def answering(handler: Callable, context: ssl.SSLContext | None = None, port: int = 0) -> Iterator[str]:
    """An HTTP server on a free port of loopback, over TLS where there is a context; yields its address."""
    server = _Server(("127.0.0.1", port), handler)
    if context:
        server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    thread = Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256  # with 5, as by default, some of many requests at once wait for seconds

    def handle_error(self, request, client_address):
        """A reader that has what it needs hangs up: yt-dlp reads the head of a file, closes, and comes again."""


class _Handler(SimpleHTTPRequestHandler):
    def __init__(self, host: Host, *arguments) -> None:
        self.host = host
        super().__init__(*arguments)

    def send_head(self):
        """The head of a file, or the error that this video id is given."""
        self.host.knocked[self.path] += 1
        self.host.gate.wait(self.host.patience_s)
        video_id = self.path.strip("/").split(".")[0]
        status = self.host.statuses.get(video_id)
        if status is None:
            return super().send_head()
        self.host.asked[video_id] += 1
        return self.send_error(status)

    def translate_path(self, path: str) -> str:
        video_id = path.strip("/").split(".")[0]
        self.host.asked[video_id] += 1
        return str(self.host.files.get(video_id, "/nonexistent"))

    def log_message(self, *arguments) -> None:
        pass


@contextmanager
def answered(request: urllib.request.Request) -> Iterator[IO[bytes]]:
    """The answer to a request. Raises HTTPError, whose socket is closed."""
    try:
        with urllib.request.urlopen(request, timeout=ANSWER_S) as answer:
            yield answer
    except urllib.error.HTTPError as error:
        error.close()
        raise


def _answer(request: urllib.request.Request) -> tuple | None:
    """What a server answers, in a tuple; None where its database is busy, as clients try again too."""
    try:
        with answered(request) as answer:
            return (json.loads(answer.read() or "null"),)
    except TimeoutError:
        if request.get_method() == "GET":  # what a POST has done is not known
            return None
        raise
    except urllib.error.HTTPError as error:
        if error.code == HTTPStatus.SERVICE_UNAVAILABLE:
            return None
        raise


@dataclass
class Api:
    """A Prefect server of ours as a program sees it that was told its address and login."""

    address: str
    login: str
    client: str = field(default_factory=lambda: str(uuid4()))

    @staticmethod
    def of(state: Path) -> "Api":
        """The server that serves a state folder."""
        up = json.loads((state / "prefect" / "up.json").read_text())
        return Api(up["address"], (state / "prefect" / "login").read_text())

    def ask(self, path: str, body: dict | list | None = None):
        """The answer to a GET, or to a POST of `body`."""
        return self.send("GET" if body is None else "POST", path, body)

    def send(self, method: str, path: str, body: dict | list | None = None):
        """The answer to any method."""
        headers = {"Content-Type": "application/json", "Authorization": f"Basic {self.secret}"}
        data = None if body is None else json.dumps(body).encode()
        if method != "GET" and self.login:  # a server without one asks for no token
            token = self.ask(f"/csrf-token?client={self.client}")["token"]
            headers |= {"Prefect-Csrf-Token": token, "Prefect-Csrf-Client": self.client}
        request = urllib.request.Request(f"{self.address}{path}", data, headers, method=method)
        return wait_for(lambda: _answer(request), f"an answer to {method} {path}")[0]

    @property
    def secret(self) -> str:
        """The login as HTTP's basic authentication has it."""
        return base64.b64encode(self.login.encode()).decode()

    def runs(self, deployment: str) -> list[dict]:
        """The flow runs of a deployment."""
        return self.ask("/flow_runs/filter", _named(deployment))

    def deployment(self, name: str) -> dict:
        """One deployment, as `_named` finds it."""
        (found,) = self.ask("/deployments/filter", _named(name))
        return found

    def events(self, name: str) -> list[dict]:
        """The events of a name, the latest first."""
        return self.ask("/events/filter", {"filter": {"event": {"name": [name]}}})["events"]

    def begin(self, deployment: str, parameters: dict | None = None) -> str:
        """Has a run of a deployment begun now, as its page does; returns the run's id."""
        body = {"state": {"type": "SCHEDULED"}, "parameters": parameters or {}}
        return self.ask(f"/deployments/{self.deployment(deployment)['id']}/create_flow_run", body)["id"]

    def state_of(self, run_id: str) -> tuple[str, str]:
        """The name of a run's state, and its message."""
        state = self.ask(f"/flow_runs/{run_id}")["state"] or {}
        return state.get("name", ""), state.get("message") or ""


def _named(deployment: str) -> dict:
    """What finds `canary/hourly`; without its flow, the one that builds (`hourly`) or trains (`on-new-version`)."""
    flow, _, name = deployment.rpartition("/")
    usual = "run-experiment" if name == "on-new-version" else "build-dataset"
    return {"flows": {"name": {"any_": [flow or usual]}}, "deployments": {"name": {"any_": [name]}}}


@contextmanager
def started(
    *arguments: str, output: Path, program: str = "mcgurk", **environment: str
) -> Iterator[subprocess.Popen]:
    """A command as a user starts it: nothing of Prefect or MLflow in its environment. Killed after the block."""
    given = {
        name: value for name, value in os.environ.items() if not name.startswith(("PREFECT_", "MLFLOW_"))
    }
    command = [str(Path(sys.executable).parent / program), *arguments]
    with output.open("a") as file:
        process = subprocess.Popen(
            command, stdout=file, stderr=file, env={**given, **environment}, start_new_session=True
        )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def text_of(path: Path) -> str:
    return path.read_text() if path.exists() else ""


@contextmanager
def serving(root: Path, output: Path, *options: str) -> Iterator[tuple[psutil.Process, Api]]:
    """`mcgurk serve` over a root, and its Prefect."""
    root.mkdir(parents=True, exist_ok=True)  # one that is not there is refused
    output.unlink(missing_ok=True)
    with started("serve", "--root", str(root), *options, output=output) as process:
        wait_for(lambda: "Deployments" in text_of(output) or process.poll() is not None, "serve")
        assert process.poll() is None, output.read_text()
        yield psutil.Process(process.pid), Api.of(root / "state")


def kept_processes(root: Path) -> list[psutil.Process]:
    """All that the keepers of a root's servers have started."""
    folders = (root / "state" / name for name in ("prefect", "serve"))
    return [process for folder in folders for process in marked(KEPT, str(folder))]


@contextmanager
def object_store(folder: Path) -> Iterator[dict[str, str]]:
    """An S3-compatible store on loopback with an empty bucket `bucket`; yields the environment of its clients."""
    port = free_port()
    address = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    with running(command, folder / "store.log", f"{address}/moto-api/"):
        urllib.request.urlopen(urllib.request.Request(f"{address}/bucket", method="PUT")).close()
        yield {
            "AWS_ENDPOINT_URL": address,
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_DEFAULT_REGION": "us-east-1",
        }


@contextmanager
def dask_cluster(folder: Path, num_workers: int, environment: Mapping[str, str]) -> Iterator["Cluster"]:
    """A scheduler and workers that somebody else started, each in a folder of its own, all on loopback."""
    port = free_port()
    address = f"tcp://127.0.0.1:{port}"
    dask = [sys.executable, "-m", "dask"]
    options = ["--host", "127.0.0.1", "--no-dashboard"]
    with ExitStack() as stack:
        command = [*dask, "scheduler", *options, "--port", str(port)]
        scheduler = stack.enter_context(_elsewhere(folder / "scheduler", command, environment))
        wait_for(lambda: preloaded.is_listening(port) or scheduler.poll() is not None, "the scheduler")
        command = [*dask, "worker", address, *options, "--nthreads", "1", "--no-nanny"]
        workers = [
            stack.enter_context(_elsewhere(folder / f"worker{n}", command, environment))
            for n in range(num_workers)
        ]
        yield Cluster(address, scheduler, workers)


@dataclass
class Cluster:
    """The processes of a cluster, and the address of its scheduler."""

    address: str
    scheduler: subprocess.Popen
    workers: list[subprocess.Popen]


@contextmanager
def _elsewhere(
    folder: Path, command: Sequence[str], environment: Mapping[str, str]
) -> Iterator[subprocess.Popen]:
    folder.mkdir(parents=True)
    given = {**os.environ, "PYTHONPATH": str(REPOSITORY), **environment}
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            command, cwd=folder, env=given, stdout=log, stderr=log, start_new_session=True
        )
    try:
        yield process
    finally:
        stop(process)


def wait_for(condition, what: str, within_s: float = PATIENCE_S):
    """The first true answer of `condition`; fails with `what` when patience ends."""
    ends = time.monotonic() + within_s
    while time.monotonic() < ends:
        found = condition()
        if found:
            return found
        time.sleep(0.2)
    raise AssertionError(f"{what} did not happen within {within_s:g} s")
