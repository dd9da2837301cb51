"""Our deployments on the Prefect server in use: pools, deployments, and the automation for lost machines."""

import logging
from datetime import timedelta
from pathlib import Path

from prefect import get_client
from prefect.automations import Automation
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import WorkPoolCreate, WorkPoolUpdate
from prefect.client.schemas.filters import FlowRunFilter, WorkPoolFilter, WorkPoolFilterName
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.events.actions import ChangeFlowRunState
from prefect.events.schemas.automations import EventTrigger, Posture
from prefect.exceptions import ObjectNotFound
from prefect.states import Cancelled
from prefect.workers.process import ProcessWorker

from flows.services.runs import AT_WORK
from flows.services.servers import prefect_cli
from schemas.environment import changed

log = logging.getLogger(__name__)

DEPLOYMENTS = Path(__file__).resolve().parents[1] / "prefect.yaml"
CPU = "cpu"  # builds and upkeep
GPU = "gpu"  # trainings, which take the processors where there is no GPU
POOLS = (CPU, GPU)
OLD_POOL = "mcgurk"  # in which earlier versions ran everything
TRAININGS = "trainings"  # the queue of what one machine does one at a time
ZOMBIES = "mcgurk: crash runs without a sign of life"
SILENT_S = 540  # longer than a server may be away, and than the slowest start takes
# All signs that a run is alive: the documented trigger knows only heartbeats, and misses runs that never sent one.
ALIVE = ("Pending", "Submitting", "InfrastructurePending", "Running", "heartbeat")


def deploy(root: str) -> None:
    """Puts pools, deployments for `root` and the automation on the server in use; repeating it changes nothing."""
    with get_client(sync_client=True) as client:
        for pool in POOLS:
            _make(client, pool)
        _tell_of_others(client, root)
        with changed({"MCGURK_ROOT": root}):
            prefect_cli(["deploy", "--all", "--prefect-file", str(DEPLOYMENTS)], DEPLOYMENTS.parents[1])
        # A queue's limit holds no lease, which a training could lose while the server is away.
        queue = client.read_work_queue_by_name(TRAININGS, work_pool_name=GPU)
        client.update_work_queue(queue.id, concurrency_limit=1)
        _retire_old_pool(client)
    put_automation()


def _tell_of_others(client: SyncPrefectClient, root: str) -> None:
    """Warns which roots lose their deployments: a server has one set of them, identified by name."""
    named = {
        str(one.parameters["options"]["root"])
        for one in client.read_deployments()
        if (one.entrypoint or "").startswith("flows.") and "root" in (one.parameters.get("options") or {})
    }
    for other in sorted(named - {root}):
        log.warning(
            "the deployments were for %s, and are for %s from now on: one server schedules one root",
            other,
            root,
        )


def _make(client: SyncPrefectClient, pool: str) -> None:
    try:
        client.read_work_pool(pool)
    except ObjectNotFound:
        template = ProcessWorker.get_default_base_job_template()
        client.create_work_pool(WorkPoolCreate(name=pool, type="process", base_job_template=template))


def _retire_old_pool(client: SyncPrefectClient) -> None:
    """Removes the pool of earlier versions, whose deployments have moved, unless others deploy to it.

    Runs that wait there would wait forever, so they are cancelled: schedules and the next build request them again.
    Runs that have started may finish; the pool takes no more, and a later `deploy` removes it.
    """
    pool = WorkPoolFilter(name=WorkPoolFilterName(any_=[OLD_POOL]))
    if not client.read_work_pools(work_pool_filter=pool) or client.read_deployments(work_pool_filter=pool):
        return
    client.update_work_pool(OLD_POOL, WorkPoolUpdate(is_paused=True))
    for run in _runs(client, pool, "SCHEDULED"):
        client.set_flow_run_state(run.id, Cancelled(message=f"the pool {OLD_POOL} no longer exists"))
    if at_work := _runs(client, pool, *AT_WORK):
        names = ", ".join(run.name for run in at_work)
        log.warning(
            "the pool %s is paused, and a later deploy removes it: %s still runs there", OLD_POOL, names
        )
    else:
        client.delete_work_pool(OLD_POOL)


def _runs(client: SyncPrefectClient, pool: WorkPoolFilter, *states: str) -> list[FlowRun]:
    kinds = FlowRunFilter.model_validate({"state": {"type": {"any_": list(states)}}})
    return client.read_flow_runs(work_pool_filter=pool, flow_run_filter=kinds)


def put_automation() -> None:
    """Makes the server mark runs on any machine as crashed that gave no sign of life for SILENT_S.

    It is the only remedy when a whole machine is lost; on its own machine, `mcgurk serve` notices within seconds.
    """
    wanted = Automation(
        name=ZOMBIES,
        trigger=EventTrigger(
            posture=Posture.Proactive,
            match={"prefect.resource.id": "prefect.flow-run.*"},  # pyright: ignore[reportArgumentType]
            after={f"prefect.flow-run.{name}" for name in ALIVE},
            expect={"prefect.flow-run.*"},
            for_each={"prefect.resource.id"},
            threshold=1,
            within=timedelta(seconds=SILENT_S),
        ),
        actions=[
            ChangeFlowRunState(  # pyright: ignore[reportCallIssue, reportArgumentType]
                state=StateType.CRASHED, message=f"No sign of life for {SILENT_S} s"
            )
        ],
    )
    try:
        wanted.id = Automation.read(name=ZOMBIES).id  # pyright: ignore[reportAttributeAccessIssue]
    except ValueError:  # there is none
        wanted.create()
    else:
        wanted.update()
