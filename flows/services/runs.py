"""Flow runs and the processes that execute them: which are running, and what became of runs whose process is gone.

A server considers a run `Running` until it hears otherwise, and a process that was killed reports nothing. So each
run leaves a note of its process in the state folder, and the next process that starts reports to the server what ended.
"""

import json
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar
from uuid import UUID

import httpx
import psutil
from prefect import get_client
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import DeploymentFilter, DeploymentFilterName, FlowRunFilter
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.context import FlowRunContext
from prefect.exceptions import ObjectNotFound, PrefectHTTPStatusError
from prefect.runtime import flow_run
from prefect.settings import PREFECT_API_URL
from prefect.states import Crashed, Running

from flows.services.keeper import OF_A_RUN
from flows.services.servers import served_api
from schemas.errors import OperationalError
from schemas.files import write_text
from schemas.identity import Identity
from tasks.processes import end, is_stopped, marked

T = TypeVar("T")
log = logging.getLogger(__name__)
_DONE: ContextVar[list[Any] | None] = ContextVar("done", default=None)

OURS = ("flows", "tasks", "training")  # loggers whose lines a run's page shows
FOLDER = "runs"  # in the state folder: one note for each running run
AT_WORK = ("RUNNING", "PENDING", "CANCELLING")
UNREACHABLE = (httpx.HTTPError, PrefectHTTPStatusError)  # from the server, or from a proxy in front of it
BEGIN_S = 60.0  # within which a worker starts the process of a run that it has taken
END_S = 5.0  # that a killed process may take to go


@contextmanager
def noted_run(state: Path) -> Iterator[None]:
    """Inside the block the state folder records that this process executes the current flow run."""
    run_id = flow_run.id
    if run_id is None:  # called without Prefect's engine
        yield
        return
    for name in OURS:
        logging.getLogger(name).setLevel(logging.INFO)  # in a worker's process they log only warnings
    path = state / FOLDER / f"{UUID(run_id)}.json"
    since = datetime.now(UTC).isoformat(timespec="seconds")
    write_text(path, json.dumps({**asdict(Identity.own()), "since": since}))
    try:
        yield
    finally:
        path.unlink(missing_ok=True)


def outcome_of(call: Callable[[], T]) -> T:
    """What a flow returns, or passed to `record_result` if the server could not be informed of its end.

    Raises OperationalError if the server was lost before that.
    """
    done: list[Any] = []
    token = _DONE.set(done)
    try:
        return call()
    except UNREACHABLE as error:
        if not done:
            raise OperationalError(f"Prefect's server is lost: {error}") from error
        log.warning("finished, but Prefect's server could not be informed: %s", error)
        return done[-1]
    finally:
        _DONE.reset(token)


def record_result(value: T) -> T:
    """Records the value that a flow is about to return: its work is done, whatever happens to the server now."""
    if (done := _DONE.get()) is not None:
        done.append(value)
    return value


def is_scheduled() -> bool:
    """Whether the current flow run belongs to a deployment."""
    context = FlowRunContext.get()
    return bool(context and context.flow_run and context.flow_run.deployment_id)


def processes_of(state: Path) -> dict[str, Identity]:
    """The process of each flow run that has a note here: it is running, or was killed."""
    found = {}
    for path in (state / FOLDER).glob("*.json"):
        with suppress(OSError, ValueError, KeyError):  # it has just ended
            found[path.stem] = Identity.read(json.loads(path.read_text()))
    return found


def take_over(state: Path) -> None:
    """Before work on a root begins: reports dead runs, and ends stopped ones that the server declared dead."""
    try:
        report_dead(state)
        end_declared_dead(state)
    except UNREACHABLE as error:  # leases keep the order even so
        log.info("Prefect's server does not answer now: %s", error)


def report_dead(state: Path) -> list[str]:
    """Marks runs as `Crashed` whose process on this machine is gone; returns their names."""
    for path in (state / FOLDER).glob(".*.tmp"):
        if not psutil.pid_exists(int(path.name.split(".")[-3])):  # as `replacing` names them
            path.unlink(missing_ok=True)  # killed while it wrote its note
    with get_client(sync_client=True) as client:
        crashed = [_report(client, state, run_id, one) for run_id, one in processes_of(state).items()]
        if served_api(state) == PREFECT_API_URL.value():  # then all its processes are on this machine
            crashed += [_crash(client, run, "it has no process") for run in _without_process(client, state)]
    return [name for name in crashed if name]


def _report(client: SyncPrefectClient, state: Path, run_id: str, process: Identity) -> str | None:
    """Reports a run whose process is gone, and returns its name; None if there was nothing to report."""
    if process.may_live:
        _revive(client, run_id, process)
        return None
    name = None
    with suppress(ObjectNotFound):  # of another server, or deleted
        run = client.read_flow_run(UUID(run_id))
        if run.state and not run.state.is_final():
            name = _crash(client, run, f"process {process.pid} on {process.host} is gone")
    (state / FOLDER / f"{run_id}.json").unlink(missing_ok=True)
    return name


def _revive(client: SyncPrefectClient, run_id: str, identity: Identity) -> None:
    """Marks a run as `Running` again that was declared dead while its process is running here.

    The server goes by the clock: if that jumps by more than a run may be silent, all runs seem to be dead.
    """
    process = identity.process
    if process is None or is_stopped(process):
        return
    with suppress(ObjectNotFound):
        run = client.read_flow_run(UUID(run_id))
        if run.state and run.state.type == StateType.CRASHED:
            client.set_flow_run_state(run.id, Running(message=f"process {process.pid} is alive"), force=True)
            log.warning("run %s was declared dead, but process %d is alive", run.name, process.pid)


def _without_process(client: SyncPrefectClient, state: Path) -> Iterator[FlowRun]:
    """Runs of deployments that a worker started, and that no process executes now."""
    kinds = FlowRunFilter.model_validate({"state": {"type": {"any_": list(AT_WORK)}}})
    notes = processes_of(state)
    begun_before = datetime.now(UTC) - timedelta(seconds=BEGIN_S)
    for run in client.read_flow_runs(flow_run_filter=kinds):
        is_begun = run.deployment_id and run.state and run.state.timestamp < begun_before
        if is_begun and str(run.id) not in notes and not _has_process(str(run.id)):
            yield run


def _has_process(run_id: str) -> bool:
    """Whether a process executes a run: one that a worker started for it, which may be this one."""
    return psutil.Process().environ().get(OF_A_RUN) == run_id or bool(marked(OF_A_RUN, run_id))


def _crash(client: SyncPrefectClient, run: FlowRun, why: str) -> str:
    client.set_flow_run_state(run.id, Crashed(message=f"{why}: the next run does the rest"))
    log.warning("run %s: %s; it is Crashed now", run.name, why)
    return run.name


def end_declared_dead(state: Path) -> None:
    """Ends stopped processes on this machine whose run the server has declared dead: they hold leases.

    A process that is not stopped is left alone, whatever the server says about its run.
    """
    with get_client(sync_client=True) as client:
        for run_id, identity in processes_of(state).items():
            process = identity.process
            if process is None or not is_stopped(process):
                continue
            with suppress(ObjectNotFound):
                run = client.read_flow_run(UUID(run_id))
                if run.state and run.state.type == StateType.CRASHED:
                    log.warning("ending process %d of run %s, which was declared dead", process.pid, run.name)
                    end([process], within_s=END_S)
                    (state / FOLDER / f"{run_id}.json").unlink(missing_ok=True)


def is_waiting(deployment: str, root: str) -> bool:
    """Whether a run of a deployment for `root` is waiting to start. Raises the errors in UNREACHABLE."""
    named = DeploymentFilter(name=DeploymentFilterName(any_=[deployment]))
    waiting = FlowRunFilter.model_validate({"state": {"type": {"any_": ["SCHEDULED", "PENDING"]}}})
    with get_client(sync_client=True) as client:
        runs = client.read_flow_runs(deployment_filter=named, flow_run_filter=waiting)
    return any(run.parameters.get("options", {}).get("root") == root for run in runs)
