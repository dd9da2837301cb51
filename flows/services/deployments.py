"""Our deployments on the Prefect server in use: pool, deployments, and the automation for machines that are lost."""

from datetime import timedelta
from pathlib import Path

from prefect import get_client
from prefect.automations import Automation
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.client.schemas.objects import StateType
from prefect.events.actions import ChangeFlowRunState
from prefect.events.schemas.automations import EventTrigger, Posture
from prefect.exceptions import ObjectNotFound
from prefect.workers.process import ProcessWorker

from flows.services.servers import prefect_cli
from schemas.environment import changed
from schemas.errors import MissingError

REPOSITORY = Path(__file__).resolve().parents[2]
POOL = "mcgurk"
TRAININGS = "trainings"  # the queue of what one machine does one at a time
ZOMBIES = "mcgurk: crash runs without a sign of life"
SILENT_S = 540  # more than the longest time for which a server may be away, and than the slowest start
# All that says that a run lives: the documented trigger knows heartbeats only, and misses who never sent one.
ALIVE = ("Pending", "Submitting", "InfrastructurePending", "Running", "heartbeat")


def deploy(root: str) -> None:
    """Puts pool, deployments for `root` and the automation on the server in use; the same again changes nothing.

    Raises MissingError where the deployments are not beside the code.
    """
    if not (REPOSITORY / "prefect.yaml").is_file():
        raise MissingError(f"no prefect.yaml in {REPOSITORY}: run mcgurk from a checkout")
    with get_client(sync_client=True) as client:
        try:
            client.read_work_pool(POOL)
        except ObjectNotFound:
            template = ProcessWorker.get_default_base_job_template()
            client.create_work_pool(WorkPoolCreate(name=POOL, type="process", base_job_template=template))
        with changed({"MCGURK_ROOT": root}):
            prefect_cli(["deploy", "--all"], REPOSITORY)
        # A queue's limit holds no lease, which a server's absence could cost a training.
        queue = client.read_work_queue_by_name(TRAININGS, work_pool_name=POOL)
        client.update_work_queue(queue.id, concurrency_limit=1)
    put_automation()


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
