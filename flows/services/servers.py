"""The servers of one machine: which Prefect server a command uses, and MLflow; started quietly, kept by a keeper."""

import os
import re
import secrets
import socket
import subprocess
import sys
import tomllib
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import urlsplit

from flows.services.databases import databases_of
from flows.services.keeper import Service, address_in, await_health, end_group, kept, running_in, start
from schemas.environment import changed
from schemas.errors import OperationalError, RequestError
from schemas.files import write_secret_once, write_text
from schemas.identity import account
from schemas.layout import PREFECT, SERVE
from schemas.mounts import require_local
from schemas.storage import make_folder
from training.tracking.store import Store, relocate, upgrade

LOOPBACK = ("127.0.0.1", "localhost")
LOGIN = "login"
ANSWER_S = 10.0  # that a server which is not ours may take to answer
DRAIN_S = 2.0  # for the last log lines and events
QUIET = {
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "false",
    "PREFECT_SERVER_UI_V2_ENABLED": "false",  # the V2 UI contacts an analytics host even so
    "PREFECT_LOGGING_LEVEL": "WARNING",
    "PREFECT_LOGGING_EXTRA_LOGGERS": "flows,tasks,training",  # our lines show in Prefect's UI
    "PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW": "ignore",  # a line outside a flow run is no error
    "PREFECT_CLI_PROMPT": "false",
    "DO_NOT_TRACK": "true",  # MLflow accepts only this spelling
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
}
PATIENT = {
    "PREFECT_CLIENT_MAX_RETRIES": "8",  # bridges 8.5 minutes without a server; the default of 5 bridges one
    "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "30",  # seconds, the minimum: silent runs are found soon
}
# By default Prefect never deletes a run, and keeps every heartbeat, one per 30 s, for a week. It searches for old rows
# again for each 200 that it deletes: slow after a year without deleting. With 5,000 at a time, SQLite's log grows to
# three times the size of the database.
BOUNDED = {
    "PREFECT_SERVER_SERVICES_DB_VACUUM_BATCH_SIZE": "1000",
    "PREFECT_SERVER_SERVICES_DB_VACUUM_ENABLED": "events,flow_runs",  # with their tasks, logs and artifacts
    "PREFECT_SERVER_SERVICES_DB_VACUUM_RETENTION_PERIOD": "90d",
    "PREFECT_SERVER_SERVICES_DB_VACUUM_EVENT_RETENTION_OVERRIDES": '{"prefect.flow-run.heartbeat": 86400}',
}
# Another profile of the user's, or the key of another server, would take precedence over what we set.
FOREIGN = ("PREFECT_API_KEY", "PREFECT_PROFILE", "PREFECT_PROFILES_PATH")


def free_port() -> int:
    """A loopback port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextmanager
def prefect_api(state: Path, port: int | None = None, origins: Sequence[str] = ()) -> Iterator[str]:
    """The address of a Prefect API, which this process uses inside the block.

    It is the first that exists of: the address in the environment or in Prefect's active profile; the server that
    already serves this state folder; one of ours that is started here, on `port` or a free port, and ends with its
    last user. Must be entered before `prefect` is imported, because that is when Prefect reads its settings.

    Raises OperationalError if the user's server does not answer, or ours fails to start; RequestError for a state
    folder on a network file system.
    """
    usual = {name: value for name, value in {**QUIET, **PATIENT}.items() if name not in os.environ}
    with ExitStack() as stack:
        stack.enter_context(changed(usual))
        if given := given_api():
            _require_answer(given)
            yield given
            return
        require_local(state)
        folder = state / PREFECT
        if running_in(folder) is None and (databases := databases_of(state)):
            databases.make()  # says in one sentence what is wrong with them
        address = f"http://127.0.0.1:{port or free_port()}/api"
        service = prefect_service(state, address, origins)
        address = stack.enter_context(kept(folder, [service], address))
        stack.enter_context(changed(client_environment(state, address)))
        stack.callback(
            _send_what_waits
        )  # on an exception too: at exit Prefect would call a stopped server for 75 s
        yield address


def given_api() -> str | None:
    """The address that the environment or Prefect's active profile names. Asking Prefect itself would be slow."""
    if address := os.environ.get("PREFECT_API_URL"):
        return address
    home = Path(os.environ.get("PREFECT_HOME", "~/.prefect")).expanduser()
    path = Path(os.environ.get("PREFECT_PROFILES_PATH", home / "profiles.toml")).expanduser()
    ours = _profiles_of(_package() / "settings" / "profiles.toml")
    theirs = _profiles_of(path)
    name = os.environ.get("PREFECT_PROFILE") or theirs.get("active") or ours.get("active", "")
    profiles = {**ours.get("profiles", {}), **theirs.get("profiles", {})}
    return profiles.get(name, {}).get("PREFECT_API_URL")


def _package() -> Path:
    found = find_spec("prefect")  # without importing it
    if found is None or found.origin is None:
        raise OperationalError("Prefect is not installed: pip install mcgurk")
    return Path(found.origin).parent


def _profiles_of(path: Path) -> dict:
    if not path.is_file():
        return {}
    try:
        return tomllib.loads(path.read_text())
    except tomllib.TOMLDecodeError as error:
        raise RequestError(
            f"{path} is not valid TOML ({error}): correct it, or set PREFECT_API_URL"
        ) from error


def _require_answer(address: str) -> None:
    """Raises OperationalError if nothing answers at the address of the user's server; any answer will do."""
    try:
        urllib.request.urlopen(f"{address}/health", timeout=ANSWER_S).close()  # noqa: S310  (the user's server)
    except urllib.error.HTTPError:
        return
    except (OSError, ValueError) as error:
        raise OperationalError(
            f"Prefect's server {address} does not answer ({error}): start it; or unset PREFECT_API_URL and the "
            "profile that names it, and mcgurk uses its own server"
        ) from error


def prefect_service(state: Path, address: str, origins: Sequence[str] = ()) -> Service:
    """Our server, which requires a login, and answers no pages but its own and those of `origins`."""
    port = address.removesuffix("/api").rpartition(":")[2]
    own = [f"http://{host}:{port}" for host in ("127.0.0.1", "localhost")]
    environment = {
        **client_environment(state, address),
        **BOUNDED,
        "PREFECT_SERVER_API_PORT": port,
        "PREFECT_SERVER_UI_API_URL": address,
        "PREFECT_SERVER_API_AUTH_STRING": login(state),
        "PREFECT_SERVER_API_CSRF_PROTECTION_ENABLED": "true",
        "PREFECT_SERVER_API_CORS_ALLOWED_ORIGINS": ",".join([*own, *origins]),
        # In memory, leases are lost with the server, and it would end every run that renews one.
        "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": "prefect.server.concurrency.lease_storage.filesystem",
    }
    if databases := databases_of(state):
        prefect, _ = databases.names
        environment["PREFECT_SERVER_DATABASE_CONNECTION_URL"] = databases.address(prefect, "asyncpg")
    return Service(
        "Prefect's server",
        (sys.executable, "-P", "-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", port),
        str(state / "logs" / "prefect.log"),
        f"{address}/health",
        {name: value for name, value in environment.items() if value is not None},
        package="prefect",
        databases=(str(state / PREFECT / "prefect.db"),),
    )


def client_environment(state: Path, address: str) -> dict[str, str | None]:
    """The variables that a process needs to use our server; None marks one that must not be set."""
    return {
        **dict.fromkeys(FOREIGN),
        "PREFECT_HOME": str(state / PREFECT),
        "PREFECT_API_URL": address,
        "PREFECT_API_AUTH_STRING": login(state),
        "PREFECT_SERVER_EPHEMERAL_ENABLED": "false",  # no hidden second server on the same database
    }


def login(state: Path) -> str:
    """`user:password` of our Prefect server: made once, and kept where only this account can read it."""
    path = state / PREFECT / LOGIN
    write_secret_once(path, f"mcgurk:{secrets.token_urlsafe(24)}")
    return path.read_text()


def served_api(state: Path) -> str | None:
    """The address of our server that serves this state folder now."""
    folder = state / PREFECT
    return address_in(folder) if running_in(folder) else None


def served_mlflow(state: Path) -> str | None:
    """The address of the MLflow server that serves the root of this state folder now."""
    folder = state / SERVE
    return address_in(folder) if running_in(folder) else None


def addresses_of(state: Path) -> dict[str, str]:
    """Where Prefect and MLflow answer while `mcgurk serve` runs over this state folder; empty while it doesn't."""
    mlflow = served_mlflow(state)
    if mlflow is None:
        return {}
    api = given_api() or served_api(state) or ""
    prefect = re.sub(r"//[^/@]*@", "//", api.removesuffix("/api"))  # without a login
    found = {"Prefect": prefect, "MLflow": mlflow}
    return {name: address for name, address in found.items() if address}


def tunnel(addresses: Sequence[str]) -> str:
    """The ssh command that makes the loopback ones of these addresses reachable from elsewhere; empty if none is."""
    parts = [urlsplit(address) for address in addresses]
    ports = [one.port for one in parts if one.hostname in LOOPBACK and one.port]
    ways = [f"-L {port}:127.0.0.1:{port}" for port in ports]
    return f"ssh {' '.join(ways)} {account()}@{socket.gethostname()}" if ways else ""


def _send_what_waits() -> None:
    """Sends the log lines and events that Prefect still holds."""
    if "prefect" not in sys.modules:
        return
    from prefect.events.worker import EventsWorker
    from prefect.logging.handlers import APILogWorker

    for service in (APILogWorker, EventsWorker):
        service.drain_all(timeout=DRAIN_S)


def mlflow_service(root: Path, state: Path, port: int, *, with_login: bool = False) -> Service:
    """An MLflow server for the runs of `root`, which answers only to its own names; with Prefect's login on request."""
    store = Store(root)
    runs = store.folder
    make_folder(runs)
    databases = [store.database] if store.database else []
    for database in databases:
        upgrade(database)
        relocate(database)
    command = [sys.executable, "-P", "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port)]
    command += ["--backend-store-uri", store.tracking_uri, "--workers", "1"]
    command += ["--artifacts-destination", str(runs / "artifacts")]
    command += ["--allowed-hosts", f"127.0.0.1:{port},localhost:{port}"]
    # These would be eight processes of 240 MB, for jobs that nobody submits.
    environment = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    if with_login:
        command += ["--app-name", "basic-auth"]
        environment |= _mlflow_login(state)
        databases.append(state / "mlflow" / "users.db")
    log = str(state / "logs" / "mlflow.log")
    health = f"http://127.0.0.1:{port}/health"
    opened = tuple(map(str, databases))
    return Service("MLflow", tuple(command), log, health, environment, package="mlflow", databases=opened)


def _mlflow_login(state: Path) -> dict[str, str]:
    """What MLflow's login needs. MLflow keeps its users in a database; the first is that of `login`."""
    user, _, password = login(state).partition(":")
    folder = state / "mlflow"
    make_folder(folder)
    folder.chmod(0o700)  # its users' passwords are stored there, hashed
    write_text(
        folder / "login.ini",
        f"[mlflow]\ndefault_permission = NO_PERMISSIONS\nadmin_username = {user}\n"
        f"database_uri = sqlite:///{folder / 'users.db'}\n"
        "authorization_function = mlflow.server.auth:authenticate_request_basic_auth\n",
    )
    return {
        "MLFLOW_AUTH_CONFIG_PATH": str(folder / "login.ini"),
        "MLFLOW_AUTH_ADMIN_PASSWORD": password,
        "MLFLOW_FLASK_SERVER_SECRET_KEY": secrets.token_urlsafe(32),
    }


@contextmanager
def running(command: Sequence[str], log_path: Path, health: str | None = None) -> Iterator[subprocess.Popen]:
    """A process that is up (its `health` address answers) inside the block and gone after it, if need be by kill -9.

    Raises OperationalError with the end of its log if it fails to start.
    """
    service = Service(" ".join(command[:5]), tuple(command), str(log_path), health)
    process = start(service)
    try:
        await_health(process, service)
        yield process
    finally:
        stop(process)


def stop(process: subprocess.Popen, within_s: float = 5.0) -> None:
    """Ends a process and its children: TERM, then KILL."""
    process.terminate()
    with suppress(subprocess.TimeoutExpired):
        process.wait(within_s)
    end_group(process)


def prefect_cli(arguments: Sequence[str], cwd: Path, environment: Mapping[str, str] | None = None) -> str:
    """What the prefect command prints. Raises OperationalError with its error output."""
    done = subprocess.run(  # noqa: S603  (our own command)
        [sys.executable, "-m", "prefect", "--no-prompt", *arguments],
        cwd=cwd,
        env={**os.environ, **(environment or {})},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise OperationalError(f"prefect {' '.join(arguments)}: {done.stdout[-500:]}{done.stderr[-1500:]}")
    return done.stdout
