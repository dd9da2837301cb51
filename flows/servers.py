"""The servers of one machine: Prefect and MLflow, started quiet and stopped by process id."""

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from tasks.processes import end_with_parent

START_S = 120.0  # Prefect takes 4 to 10 s, MLflow up to 20 on a loaded machine
STOP_S = 10.0
QUIET = {
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "false",
    "PREFECT_SERVER_UI_V2_ENABLED": "false",  # the V2 UI asks an analytics host even so
    "PREFECT_LOGGING_LEVEL": "WARNING",
    "PREFECT_LOGGING_EXTRA_LOGGERS": "flows,tasks,training",  # our lines show in Prefect's UI
    "PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW": "ignore",  # a line outside of a flow run is no mistake
    "PREFECT_CLI_PROMPT": "false",
    "DO_NOT_TRACK": "true",  # MLflow takes only this spelling
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
}


def free_port() -> int:
    """A loopback port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextmanager
def prefect_api(state: Path, port: int | None = None) -> Iterator[str]:
    """The address of a Prefect API, set in PREFECT_API_URL: the one set already, else a quiet server of ours.

    Must be entered before `prefect` is imported, because that is when it reads its settings.
    """
    os.environ.update({name: value for name, value in QUIET.items() if name not in os.environ})
    if "PREFECT_API_URL" in os.environ:
        yield os.environ["PREFECT_API_URL"]
        return
    port = port or free_port()
    address = f"http://127.0.0.1:{port}/api"
    ours = {
        "PREFECT_HOME": str(state / "prefect"),
        "PREFECT_API_URL": address,
        "PREFECT_SERVER_API_PORT": str(port),
        "PREFECT_SERVER_UI_API_URL": address,
    }
    os.environ.update(ours)
    command = [sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port)]
    try:
        with running(command, state / "logs" / "prefect.log", f"{address}/health"):
            yield address
            _send_what_waits()
    finally:
        for name in ours:
            os.environ.pop(name, None)


def _send_what_waits() -> None:
    """Log lines and events that Prefect still holds: at exit it would ask a stopped server for 75 s."""
    if "prefect" not in sys.modules:
        return
    from prefect.events.worker import EventsWorker
    from prefect.logging.handlers import APILogWorker

    for service in (APILogWorker, EventsWorker):
        service.drain_all(timeout=STOP_S)


@contextmanager
def mlflow_server(root: Path, state: Path, port: int | None = None) -> Iterator[str]:
    """The address of an MLflow server over the runs of `root`."""
    port, runs = port or free_port(), root / "mlruns"
    runs.mkdir(parents=True, exist_ok=True)
    address = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port)]
    command += ["--backend-store-uri", f"sqlite:///{runs / 'mlflow.db'}", "--workers", "1"]
    command += ["--artifacts-destination", str(runs / "artifacts")]
    with running(command, state / "logs" / "mlflow.log", f"{address}/health"):
        yield address


@contextmanager
def running(command: Sequence[str], log_path: Path, health: str | None = None) -> Iterator[subprocess.Popen]:
    """A process that is up (its `health` address answers) inside the block and gone after it, even by kill -9.

    Raises RuntimeError with the end of its log if it does not come up.
    """
    log_path.parent.mkdir(parents=True, exist_ok=True)
    with log_path.open("ab") as log:
        process = subprocess.Popen(  # noqa: S603  (our own command)
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env=os.environ,
            start_new_session=True,
            preexec_fn=end_with_parent,  # one call of the kernel: safe beside other threads
        )
    try:
        if health:
            _await_health(process, health, log_path)
        yield process
    finally:
        stop(process)


def stop(process: subprocess.Popen) -> None:
    """Ends a process and its children: TERM twice (a Prefect worker needs it), then KILL."""
    for number in (signal.SIGTERM, signal.SIGTERM, signal.SIGKILL):
        if process.poll() is not None:
            break
        _signal_group(process.pid, number)
        try:
            process.wait(STOP_S / 2)
        except subprocess.TimeoutExpired:
            continue
    _signal_group(process.pid, signal.SIGKILL)  # children that outlive it


def _signal_group(pid: int, number: int) -> None:
    try:
        os.killpg(pid, number)
    except ProcessLookupError:
        return


def _await_health(process: subprocess.Popen, address: str, log_path: Path) -> None:
    ends = time.monotonic() + START_S
    while time.monotonic() < ends and process.poll() is None:
        try:
            with urllib.request.urlopen(address, timeout=2) as answer:  # noqa: S310  (loopback)
                if answer.status == 200:  # noqa: PLR2004
                    return
        except (urllib.error.URLError, OSError):
            time.sleep(0.1)
    raise RuntimeError(f"{' '.join(process.args[:5])} did not come up: {_tail(log_path)}")  # pyright: ignore


def _tail(path: Path) -> str:
    return path.read_text(errors="replace").strip()[-800:]


def prefect_cli(arguments: Sequence[str], cwd: Path, environment: Mapping[str, str] | None = None) -> str:
    """What the prefect command prints. Raises RuntimeError with its complaint."""
    done = subprocess.run(  # noqa: S603  (our own command)
        [sys.executable, "-m", "prefect", "--no-prompt", *arguments],
        cwd=cwd,
        env={**os.environ, **(environment or {})},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"prefect {' '.join(arguments)}: {done.stdout[-500:]}{done.stderr[-1500:]}")
    return done.stdout
