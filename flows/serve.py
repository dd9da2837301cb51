"""`mcgurk serve`: Prefect with our deployments, a worker and MLflow over one root."""

import os
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from flows.servers import free_port, mlflow_server, prefect_api, prefect_cli, running
from schemas.storage import is_local, open_root

REPOSITORY = Path(__file__).parent.parent
POOL = "mcgurk"
PREFECT_PORT, MLFLOW_PORT = 4200, 5000  # the ports that their documentation uses


@dataclass(frozen=True)
class Addresses:
    """Where the servers answer."""

    prefect_api: str
    mlflow: str

    @property
    def prefect(self) -> str:
        """Prefect's pages."""
        return self.prefect_api.removesuffix("/api")


def serve(root: str, state: str | None) -> int:
    """Serves until it is interrupted."""
    folder = open_root(root)
    if not is_local(folder):
        raise ValueError(f"--root {root}: MLflow's database needs a disk: serve a local folder")
    with serving(
        folder, Path(state) if state else folder / "state", (PREFECT_PORT, MLFLOW_PORT)
    ) as addresses:
        print(f"Prefect  {addresses.prefect}\nMLflow   {addresses.mlflow}", flush=True)
        print(
            "Deployments: build-dataset/hourly, run-experiment/on-new-version. Ctrl-C stops all.", flush=True
        )
        threading.Event().wait()
    return 0


@contextmanager
def serving(root: Path, state: Path, ports: tuple[int, int] | None = None) -> Iterator[Addresses]:
    """Both servers and a worker that serves our deployments; on free ports where `ports` are taken or None."""
    if not (REPOSITORY / "prefect.yaml").is_file():
        raise FileNotFoundError(f"no prefect.yaml in {REPOSITORY}: run `mcgurk serve` from a checkout")
    wanted = ports or (0, 0)
    with ExitStack() as stack:
        api = stack.enter_context(prefect_api(state, _free(wanted[0])))
        mlflow = stack.enter_context(mlflow_server(root, state, _free(wanted[1])))
        os.environ["MCGURK_ROOT"] = str(root)
        os.environ["PWD"] = str(REPOSITORY)
        prefect_cli(["work-pool", "create", POOL, "--type", "process", "--overwrite"], REPOSITORY)
        prefect_cli(["deploy", "--all"], REPOSITORY)
        worker = [sys.executable, "-m", "prefect", "worker", "start", "--pool", POOL]
        stack.enter_context(running(worker, state / "logs" / "worker.log"))
        yield Addresses(api, mlflow)


def _free(port: int) -> int:
    """`port` if nobody listens on it, else another."""
    return port if port and _is_free(port) else free_port()


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0
