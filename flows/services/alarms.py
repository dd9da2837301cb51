"""Alarms: one message when something starts to fail, and one when it works again, sent by Prefect's server.

Their address is in a block on the server, so no run, parameter or page holds the URL. The server also knows whether a
deployment fails: for each one it keeps which event it waits for next. Other failures are found by builds and trainings
(`flows/builds/signs.py`), which record them in the state folder and notify the server with an event.
"""

import json
from collections.abc import Iterable, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

from prefect import get_client
from prefect.automations import Automation
from prefect.blocks.core import Block
from prefect.blocks.notifications import SlackWebhook
from prefect.blocks.webhook import Webhook
from prefect.client.orchestration import SyncPrefectClient
from prefect.events import Event
from prefect.events.actions import CallWebhook, SendNotification
from prefect.events.schemas.automations import EventTrigger, Posture

from flows.services.deployments import deploy
from flows.services.receivers import BLOCK, NONE, RESOURCE, SIGN, Receivers, require_known
from schemas.errors import RequestError
from schemas.files import digest_of
from schemas.layout import SIGNS

ALARMS_BLOCK = "mcgurk-alarms"
PING_BLOCK = "mcgurk-ping"
FAILS = "mcgurk: runs fail"
WORKS = "mcgurk: runs work again"
SILENT = "mcgurk: the canary is silent"
FOUND = "mcgurk: what builds find"  # and trainings
PING = "mcgurk: ping at each success of a build"
OF_ALARMS = (FAILS, WORKS, SILENT, FOUND)
BUILD = "build-dataset"
CANARY = "canary"
WATCHED = (BUILD, "run-experiment", "compare-models", "recheck-take-downs", "prune")  # flows
SUCCESS = "prefect.flow-run.Completed"
FAILURES = frozenset(f"prefect.flow-run.{name}" for name in ("Failed", "Crashed", "TimedOut"))
NEW = "mcgurk.alarms.new"  # from now on the next failure is reported
STARTED = "mcgurk.alarms.started"  # from now on a success of the canary is expected
ALWAYS = timedelta(days=3650)  # how long the server waits for the next event
SILENT_FOR = timedelta(hours=2)
MOST_EVENTS = 50  # that a server returns per request; the latest come first
FLOW_RUNS = "prefect.flow-run.*"
DEPLOYMENT = {"prefect.resource.role": "deployment"}
TITLE = "mcgurk: {{ flow.name }}/{{ deployment.name }}"
FAILED_TEXT = """What: {{ flow_run.name }} is {{ flow_run.state.name }}
Since: {{ event.occurred }}
Evidence: {{ flow_run.state.message }}
Next: mcgurk status --root ROOT. The next scheduled run tries again; you hear of it when one succeeds
Run: {{ flow_run|ui_url }}"""
WORKS_TEXT = """What: {{ flow_run.name }} is {{ flow_run.state.name }}
Since: {{ event.occurred }}
Run: {{ flow_run|ui_url }}"""
SILENT_TEXT = """What: no run of the canary has succeeded for 2 hours, so other runs may not begin or not work either
Evidence: there was no success of it; its runs wait, hang or fail, or there are none
Next: mcgurk doctor. Do `mcgurk serve`, or a worker for each pool, still run?"""


def deploy_watched(root: str, receivers: Receivers, state: Path | None = None) -> None:
    """Deploys with the alarms that are set now, or were set earlier. Raises RequestError for a missing block."""
    with get_client(sync_client=True) as client:
        _remove(client, receivers)
        block = _alarms_block(client, receivers.notify)
        is_new = block is not None and _put_alarms(client, block, root)
        if url := receivers.ping_url():
            _put_ping(client, url)
        deploy(root)  # takes longer than the server needs to activate an automation
        _send(client, NEW if is_new else STARTED)
    if is_new and state is not None:
        (state / SIGNS).unlink(missing_ok=True)  # no one received the alarms recorded in it


def was_told(alarm: str, since: str) -> bool:
    """Whether the server in use has sent the alarm of that name since a moment (ISO 8601).

    Raises the errors in UNREACHABLE of `flows.services.runs`.
    """
    wanted = {"event": {"name": ["prefect.automation.triggered"]}, "occurred": {"since": since}}
    with get_client(sync_client=True) as client:
        answer = client.request("POST", "/events/filter", json={"filter": wanted, "limit": MOST_EVENTS})  # pyright: ignore[reportArgumentType]
    answer.raise_for_status()
    return any(event["resource"].get("prefect.resource.name") == alarm for event in answer.json()["events"])


def _remove(client: SyncPrefectClient, receivers: Receivers) -> None:
    if receivers.notify == NONE:
        _take_away(client, OF_ALARMS, ALARMS_BLOCK)
    if receivers.ping == NONE:
        _take_away(client, (PING,), PING_BLOCK)


def _take_away(client: SyncPrefectClient, automations: Iterable[str], block: str) -> None:
    for name in automations:
        for one in client.read_automations_by_name(name):
            client.delete_automation(one.id)
    for document in client.read_block_documents(include_secrets=False):
        if document.name == block:
            client.delete_block_document(document.id)


def _alarms_block(client: SyncPrefectClient, given: str | None) -> UUID | None:
    """The block that sends the alarms: the earlier one if none is named; None if there is none."""
    if given == NONE:
        return None
    if given is None:
        return _block_of_before(client)
    if not given.startswith(BLOCK):
        return _save(SlackWebhook(url=Receivers(given).apprise_url()), ALARMS_BLOCK)  # pyright: ignore[reportArgumentType]
    name = given.removeprefix(BLOCK)
    found = [one for one in client.read_block_documents() if one.name == name]
    for one in found:
        if one.block_schema and "notify" in one.block_schema.capabilities:
            return one.id
    secret = next((one for one in found if one.block_type and one.block_type.slug == "secret"), None)
    if secret is None:
        raise RequestError(
            f"--notify {given}: Prefect has no Secret or notification block {name}: make one there"
        )
    url = require_known(str(secret.data.get("value")), given)
    return _save(SlackWebhook(url=url), ALARMS_BLOCK)  # pyright: ignore[reportArgumentType]


def _block_of_before(client: SyncPrefectClient) -> UUID | None:
    for one in client.read_automations_by_name(FAILS):
        return next(
            action.block_document_id for action in one.actions if isinstance(action, SendNotification)
        )
    return None


def _save(block: Block, name: str) -> UUID:
    return block.save(name, overwrite=True)  # pyright: ignore[reportReturnType]


def _put_alarms(client: SyncPrefectClient, block: UUID, root: str) -> bool:
    """Puts the alarms. True if the one about runs is new or changed: then the server does not know what fails."""
    of_runs = {
        "match": {"prefect.resource.id": [FLOW_RUNS, RESOURCE]},
        "match_related": [_flows(*WATCHED), DEPLOYMENT],
        "for_each": {"related:deployment:prefect.resource.id"},
        "within": ALWAYS,
    }
    fails = EventTrigger(after={SUCCESS, NEW}, expect=set(FAILURES), **of_runs)
    works = EventTrigger(after=set(FAILURES), expect={SUCCESS}, **of_runs)
    found = EventTrigger(expect={SIGN}, match={"prefect.resource.id": RESOURCE})  # pyright: ignore[reportArgumentType]
    text = FAILED_TEXT.replace("ROOT", root)
    _put(client, WORKS, works, [_message(block, f"{TITLE} works again", WORKS_TEXT)])
    _put(client, FOUND, found, [_message(block, "{{ event.payload.subject }}", "{{ event.payload.body }}")])
    _put_canary(client, block)
    return _put(client, FAILS, fails, [_message(block, f"{TITLE} fails", text)])


def _put_canary(client: SyncPrefectClient, block: UUID) -> None:
    """The alarm of a silent canary: sent once, because the server waits again only after its next success."""
    awaited = {"after": {SUCCESS, NEW, STARTED}, "expect": {SUCCESS}, "within": SILENT_FOR}
    silent = EventTrigger(
        posture=Posture.Proactive,
        match={"prefect.resource.id": [FLOW_RUNS, RESOURCE]},  # pyright: ignore[reportArgumentType]
        match_related=[_flows(CANARY), DEPLOYMENT],  # pyright: ignore[reportArgumentType]
        for_each={"related:deployment:prefect.resource.id"},
        **awaited,
    )
    _put(client, SILENT, silent, [_message(block, SILENT, SILENT_TEXT)])


def _put_ping(client: SyncPrefectClient, url: str) -> None:
    block = _save(Webhook(url=url, method="GET"), PING_BLOCK)  # pyright: ignore[reportArgumentType]
    of_builds = {"match": {"prefect.resource.id": FLOW_RUNS}, "match_related": [_flows(BUILD), DEPLOYMENT]}
    trigger = EventTrigger(expect={SUCCESS}, **of_builds)
    _put(client, PING, trigger, [CallWebhook(block_document_id=block)])  # pyright: ignore[reportCallIssue]


def _flows(*names: str) -> dict[str, Any]:
    return {"prefect.resource.role": "flow", "prefect.resource.name": list(names)}


def _message(block: UUID, subject: str, body: str) -> SendNotification:
    return SendNotification(block_document_id=block, subject=subject, body=body)  # pyright: ignore[reportCallIssue]


def _put(client: SyncPrefectClient, name: str, trigger: EventTrigger, actions: list) -> bool:
    """Puts an automation. True if the server had none of this name, or a different one; the same one is left alone.

    Otherwise the server would forget what it waits for, and a restart would report known failures again.
    """
    wanted = Automation(name=name, trigger=trigger, actions=actions)
    wanted.description = f"of mcgurk; {digest_of(_text(wanted.model_dump(exclude={'id', 'enabled'})))[:16]}"
    standing = next(iter(client.read_automations_by_name(name)), None)
    if standing is None:
        wanted.create()
        return True
    if standing.description == wanted.description:
        return False
    wanted.id = standing.id
    wanted.enabled = standing.enabled
    wanted.update()
    return True


def _text(definition: Mapping[str, Any]) -> str:
    """A definition as text, which is the same in every process: sets have no order."""
    return json.dumps(
        definition, sort_keys=True, default=lambda one: sorted(one) if isinstance(one, set) else str(one)
    )


def _send(client: SyncPrefectClient, name: str) -> None:
    """Sends an event about each of our deployments."""
    events = []
    for one in client.read_deployments():
        if (one.entrypoint or "").startswith("flows."):
            flow = client.read_flow(one.flow_id)
            related = [
                {
                    **DEPLOYMENT,
                    "prefect.resource.id": f"prefect.deployment.{one.id}",
                    "prefect.resource.name": one.name,
                },
                {
                    **_flows(flow.name),
                    "prefect.resource.id": f"prefect.flow.{flow.id}",
                    "prefect.resource.name": flow.name,
                },
            ]
            events.append(Event(event=name, resource={"prefect.resource.id": RESOURCE}, related=related))  # pyright: ignore[reportArgumentType]
    body = [event.model_dump(mode="json") for event in events]
    client.request("POST", "/events", json=body).raise_for_status()  # pyright: ignore[reportArgumentType]
