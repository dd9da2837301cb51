"""The page of a run in Prefect: its name, its progress, what became of every segment, and links.

What changes during a run is sent by a separate thread, so a lost server delays nothing.
"""

import contextvars
import logging
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

from prefect import get_client
from prefect.artifacts import create_markdown_artifact, create_table_artifact
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import ArtifactCreate
from prefect.events import emit_event
from prefect.runtime import flow_run

from flows.services.receivers import RESOURCE, SIGN, Message
from flows.services.runs import UNREACHABLE
from flows.services.servers import served_mlflow
from schemas.outcome import Funnel
from tasks.progress import observing

log = logging.getLogger(__name__)

PROGRESS = "progress"
FUNNEL = "funnel"
LINKS = "links"
EVERY_S = 5.0  # between two requests of a run to show its progress
LAST_S = 2.0  # that the last one may take before the run continues without it
FATES = ("quarantined", "unavailable", "waiting")


class _Teller:
    """What the page should show now, and the thread that sends it when it has changed."""

    def __init__(self, run_id: UUID) -> None:
        self.run_id = run_id
        self.name = ""
        self.said: tuple[str, float] | None = None  # what is done, and its share of the whole in percent
        self.is_over = threading.Event()
        self.thread = threading.Thread(target=contextvars.copy_context().run, args=(self._send,), daemon=True)

    def _send(self) -> None:
        try:
            with get_client(sync_client=True) as client:
                self._send_to(client)
        except UNREACHABLE as error:
            log.info("Prefect's page of this run is no longer updated: %s", error)

    def _send_to(self, client: SyncPrefectClient) -> None:
        artifact: UUID | None = None
        name = ""
        said = None
        is_over = False
        while not is_over:
            is_over = self.is_over.wait(EVERY_S)
            if self.name != name:
                name = self.name
                client.set_flow_run_name(self.run_id, name)
            if self.said and self.said != said:
                said = self.said
                artifact = self._show(client, artifact, *said)

    def _show(self, client: SyncPrefectClient, artifact: UUID | None, text: str, percent: float) -> UUID:
        if artifact is None:
            wanted = ArtifactCreate(
                key=PROGRESS, type="progress", data=percent, description=text, flow_run_id=self.run_id
            )
            return client.create_artifact(wanted).id
        # Not with the client's own method: it would create an event for each change, of 5 KB in the database.
        changes = {"data": percent, "description": text}
        client.request("PATCH", "/artifacts/{id}", json=changes, path_params={"id": artifact})
        return artifact


_TELLER: ContextVar[_Teller | None] = ContextVar("teller", default=None)


@contextmanager
def followed() -> Iterator[None]:
    """Inside the block the page of the current run shows its progress, updated every few seconds."""
    run_id = flow_run.id
    if run_id is None:  # called without Prefect's engine
        yield
        return
    teller = _Teller(UUID(run_id))
    token = _TELLER.set(teller)
    teller.thread.start()
    try:
        yield
        if teller.said:
            teller.said = ("done", 100.0)
    finally:
        _TELLER.reset(token)
        teller.is_over.set()
        teller.thread.join(LAST_S)


def show_progress(text: str, share: float) -> None:
    """Sets what the run is doing, and which share of that is done."""
    if (teller := _TELLER.get()) is not None:
        teller.said = (text, round(100 * share, 1))


def rename(name: str) -> None:
    """Gives the run another name."""
    if (teller := _TELLER.get()) is not None:
        teller.name = name


@contextmanager
def stretch(begin: float, end: float) -> Iterator[None]:
    """Inside the block, the progress of what is `tracked` is shown between two shares of the whole."""

    def show(what: str, done: int, total: int) -> None:
        show_progress(f"{what}: {done:,} of {total:,}", begin + (end - begin) * done / total)

    with observing(show):
        yield


def named(*words: str) -> str:
    """The name of a run that starts now: `build demo 432 clips 2026-11-28 21:17`, in UTC."""
    return " ".join([*filter(None, words), f"{datetime.now(UTC):%Y-%m-%d %H:%M}"])


def show_funnel(counts: Funnel) -> None:
    """Shows what became of every segment, as a table."""
    rows = [
        {"fate": fate, "reason": reason, "segments": n}
        for fate in FATES
        for reason, n in counts[fate].items()
    ]
    rows.insert(0, {"fate": "in shards", "reason": "", "segments": counts["in_shards"]})
    try:
        create_table_artifact(rows, key=FUNNEL, description="What became of every segment")
    except UNREACHABLE as error:  # the page lacks it; the root does not
        log.warning("Prefect's server did not get the funnel of this run: %s", error)


def show_links(places: Mapping[str, Path | str]) -> None:
    """Shows where to open what a run made. Files are paths: browsers open no local files from a server's page."""
    lines = ["| what | where |", "|---|---|"]
    lines += [f"| {what} | {_written(place)} |" for what, place in places.items()]
    try:
        create_markdown_artifact("\n".join(lines), key=LINKS, description="What this run made")
    except UNREACHABLE as error:
        log.warning("Prefect's server did not get the links of this run: %s", error)


def sound_alarms(messages: Sequence[Message]) -> None:
    """Tells Prefect's server what started to fail, and what works again: the server sends the alarms."""
    for message in messages:
        log.warning("%s", message.subject)
        emit_event(SIGN, resource={"prefect.resource.id": RESOURCE}, payload=asdict(message))


def mlflow_place(state: Path, page: str, root: Path) -> str:
    """The address of a page of MLflow if MLflow is served now; else the command that serves it."""
    address = served_mlflow(state)
    return f"{address}/{page}" if address else f"{page} of `mcgurk serve --root {root}`"


def _written(place: Path | str) -> str:
    text = str(place).replace("|", "\\|").replace("\n", " ")
    if text.startswith("http"):
        return f"[{text}]({text})"
    return text if "`" in text else f"`{text}`"
