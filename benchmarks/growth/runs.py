"""A year of runs of `hourly` on a Prefect server.

One run as `mcgurk serve` does it is written as often as a year has hours through the API of our server, which dates it
now; so the rows get their dates in the year by SQL. (Under Debian's `faketime` the server needs ten times as long for
a run.)
"""

import json
import re
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from http import HTTPStatus
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
from real_servers import DATA_FOLDERS, Api, serving, started, wait_for
from roots import write_clips

from benchmarks.growth.server import ANSWER_S, HEARTBEAT, Server
from flows.services.servers import login
from schemas.layout import ATTEMPTS

IDS = [f"clip{n:02d}" for n in range(14)]
HEARTBEATS = 20  # of a run that lasts for ten minutes, in place of its own
UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
MOMENT = re.compile(r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?(?:Z|\+00:00)")
BUSY_S = 0.03
SETTLED_S = 3600.0
UNBOUNDED = {
    "PREFECT_SERVER_SERVICES_DB_VACUUM_ENABLED": "",
    "PREFECT_SERVER_API_CSRF_PROTECTION_ENABLED": "false",
}
AT_ONCE = 1000  # runs that one server writes: without a collector it grows by 1.5 MB a run
EVENT = ("occurred", "event", "resource", "related", "payload", "follows")
LOG = ("name", "level", "message", "timestamp", "flow_run_id", "task_run_id")
ARTIFACT = ("key", "type", "description", "data", "flow_run_id", "task_run_id")


@dataclass(frozen=True)
class Pattern:
    """What one run leaves on a server, as its API says it; ids and times are replaced in each copy."""

    run_id: str
    began: datetime
    states: list[dict]
    events: list[dict]
    logs: list[dict]
    artifacts: list[dict]

    def copy(self, run_id: str, began: datetime) -> "Pattern":
        """The same for another run."""
        ids: dict[str, str] = {self.run_id: run_id}
        later = began - self.began

        def moved(text: str) -> str:
            text = UUID.sub(lambda found: ids.setdefault(found[0], str(uuid4())), text)
            return MOMENT.sub(lambda found: (datetime.fromisoformat(found[0]) + later).isoformat(), text)

        kinds = {
            kind: json.loads(moved(json.dumps(getattr(self, kind))))
            for kind in ("events", "logs", "artifacts")
        }
        return replace(self, run_id=run_id, began=began, **kinds)


def real_run(folder: Path) -> Pattern:
    """A run of the deployment `hourly` over 14 clips of which nothing is there yet."""
    root = folder / "real"
    (listed,) = write_clips(folder / "media", IDS)
    options = ["--preset", "demo", "--segments", str(listed), "--source", f"folder:{folder / 'media'}"]
    with started("build", "--root", str(root), *options, output=folder / "build.out") as process:
        process.wait()
    for name in set(DATA_FOLDERS) - {"segments"}:
        shutil.rmtree(root / name)
    shutil.rmtree(root / "state" / ATTEMPTS)
    with serving(root, folder / "serve.out") as (_, api):
        run = api.begin("hourly")
        wait_for(lambda: api.state_of(run)[0] == "Completed", "the end of the run", within_s=600)
        ends = "prefect.flow-run.Completed"
        wait_for(lambda: run in json.dumps(api.events(ends)), "its events")
        return _pattern(api, run)


def _pattern(api: Api, run_id: str) -> Pattern:
    run = api.ask(f"/flow_runs/{run_id}")
    logs = api.ask("/logs/filter", {"logs": {"flow_run_id": {"any_": [run_id]}}})
    artifacts = api.ask("/artifacts/filter", {"flow_runs": {"id": {"any_": [run_id]}}})
    states = api.ask(f"/flow_run_states/?flow_run_id={run_id}")
    found = [event for event in _all_events(api) if run_id in json.dumps(event)]
    # Those of its states come from the server itself, when a copy is written.
    sent = [event for event in found if not event["event"].startswith("prefect.flow-run.")]
    sent += [event for event in found if event["event"] == HEARTBEAT][:1] * HEARTBEATS
    return Pattern(
        run_id,
        datetime.fromisoformat(run["start_time"]),
        [_only(one, ("type", "name", "message")) for one in states],
        [{**_only(one, EVENT), "id": str(uuid4())} for one in sent],
        [_only(one, LOG) for one in logs],
        [_only(one, ARTIFACT) for one in artifacts],
    )


def _all_events(api: Api) -> list[dict]:
    page = api.ask("/events/filter", {"limit": 50})
    found = page["events"]
    while page["next_page"]:
        page = api.ask(page["next_page"].partition("/api")[2])
        found += page["events"]
    return found


def _only(one: Mapping, names: Sequence[str]) -> dict:
    return {name: one[name] for name in names}


@dataclass(frozen=True)
class Writer:
    """Writes copies of a run through the API of a server, one after the other: two at once wait for SQLite's lock."""

    client: httpx.Client
    pattern: Pattern
    flow_id: str

    def write(self, began: datetime) -> None:
        """One copy: created, its states, and what it sends."""
        first, *later = self.pattern.states
        run_id = self._post("/flow_runs/", {"flow_id": self.flow_id, "state": first})["id"]
        copy = self.pattern.copy(run_id, began)
        for state in later:
            self._post(f"/flow_runs/{run_id}/set_state", {"state": state, "force": True})
        self._post("/events", copy.events)
        self._post("/logs/", copy.logs)
        for artifact in copy.artifacts:
            self._post("/artifacts/", artifact)

    def _post(self, path: str, body: Any) -> Any:
        while (answer := self.client.post(path, json=body)).status_code == HTTPStatus.SERVICE_UNAVAILABLE:
            time.sleep(BUSY_S)  # its database is locked: Prefect's clients wait, too
        answer.raise_for_status()
        return answer.json() if answer.content else None


def write_year(server: Server, pattern: Pattern, runs: int) -> None:
    """Writes so many runs, and waits for the last of their events."""
    changes = {**UNBOUNDED, **_without_collector(server.state.parent)}
    for done in range(0, runs, AT_ONCE):
        with server.up(changes) as address:
            _write(server, address, pattern, min(AT_ONCE, runs - done))


def _write(server: Server, address: str, pattern: Pattern, runs: int) -> None:
    num_events = server.counts()["events"] + len(pattern.events) * runs
    auth = httpx.BasicAuth(*login(server.state).split(":", 1))
    with httpx.Client(base_url=address, auth=auth, timeout=ANSWER_S) as client:
        answer = client.post("/flows/", json={"name": "build-dataset"}).raise_for_status()
        writer = Writer(client, pattern, answer.json()["id"])
        for _ in range(runs):
            writer.write(datetime.now(UTC))
    wait_for(lambda: server.is_settled(num_events), "the last event", within_s=SETTLED_S)


def _without_collector(folder: Path) -> dict[str, str]:
    """What of the environment has a server collect no garbage.

    Under so many requests a collection finalizes a cursor of a connection that waits for SQLite's lock. It then waits
    too, and so does the one that has the lock: the server stands still for a minute, again and again.
    """
    path = folder / "startup"
    path.mkdir(exist_ok=True)
    (path / "sitecustomize.py").write_text("import gc\n\ngc.disable()\n")
    return {"PYTHONPATH": str(path)}
