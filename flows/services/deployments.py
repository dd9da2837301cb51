"""Our deployments on the Prefect server in use: pools, deployments, and the automation for machines that are lost."""

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
SILENT_S = 540  # more than the longest time for which a server may be away, and than the slowest start
# All that says that a run lives: the documented trigger knows heartbeats only, and misses who never sent one.
ALIVE = ("Pending", "Submitting", "InfrastructurePending", "Running", "heartbeat")


def deploy(root: str) -> None:
    """Puts pools, deployments for `root` and the automation on the server in use; the same again changes nothing."""
    with get_client(sync_client=True) as client:
        for pool in POOLS:
            _make(client, pool)
        with changed({"MCGURK_ROOT": root}):
            prefect_cli(["deploy", "--all", "--prefect-file", str(DEPLOYMENTS)], DEPLOYMENTS.parents[1])
        # A queue's limit holds no lease, which a server's absence could cost a training.
        queue = client.read_work_queue_by_name(TRAININGS, work_pool_name=GPU)
        client.update_work_queue(queue.id, concurrency_limit=1)
        _retire_old_pool(client)
    put_automation()


def _make(client: SyncPrefectClient, pool: str) -> None:
    try:
        client.read_work_pool(pool)
    except ObjectNotFound:
        template = ProcessWorker.get_default_base_job_template()
        client.create_work_pool(WorkPoolCreate(name=pool, type="process", base_job_template=template))


def _retire_old_pool(client: SyncPrefectClient) -> None:
    """Removes the pool of earlier versions, whose deployments have moved, unless others deploy to it.

    What waits there would wait for ever, and is cancelled: schedules and the next build ask again. Where runs of it
    are at work they end in peace; the pool takes no more, and the next `deploy` removes it.
    """
    pool = WorkPoolFilter(name=WorkPoolFilterName(any_=[OLD_POOL]))
    if not client.read_work_pools(work_pool_filter=pool) or client.read_deployments(work_pool_filter=pool):
        return
    client.update_work_pool(OLD_POOL, WorkPoolUpdate(is_paused=True))
    for run in _runs(client, pool, "SCHEDULED"):
        client.set_flow_run_state(run.id, Cancelled(message=f"the pool {OLD_POOL} is no more"))
    if at_work := _runs(client, pool, *AT_WORK):
        names = ", ".join(run.name for run in at_work)
        log.warning(
            "the pool %s is paused, and removed by a later deploy: %s is at work there", OLD_POOL, names
        )
    else:
        client.delete_work_pool(OLD_POOL)


def _runs(client: SyncPrefectClient, pool: WorkPoolFilter, *states: str) -> list[FlowRun]:
    kinds = FlowRunFilter.model_validate({"state": {"type": {"any_": list(states)}}})
    return client.read_flow_runs(work_pool_filter=pool, flow_run_filter=kinds)


def put_automation() -> None:
    """Has the server crash runs that gave no sign of life for SILENT_S, on whatever machine.

    It is the only remedy for machines that are gone as a whole; for its own, `mcgurk serve` knows after seconds.
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
