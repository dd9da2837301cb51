"""`python -m benchmarks.growth [--of database root]`: what a year of hourly runs adds to a disk, and what is kept.

The database: one run of `hourly` as `mcgurk serve` does it, written as often as a year has hours through the API of our
server, which dates it now; so the rows get their dates in the year by SQL. Then our server vacuums it. (Under Debian's
`faketime` the server needs ten times as long for a run.) The root: the same clips packed anew and published each hour,
a training on the last version and an upkeep each week.
"""

import argparse
import json
import os
import platform
import re
import shutil
import sqlite3
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "support"))

from real_servers import DATA_FOLDERS, Api, serving, started, wait_for
from roots import Root, write_clips

from flows.builds.options import BuildOptions
from flows.builds.pipeline import resolve
from flows.experiments.upkeep import keep_up
from flows.services.keeper import await_health, start
from flows.services.servers import free_port, login, prefect_service, stop
from schemas.layout import ATTEMPTS, FEATURES, PREFECT, SHARDS, VERSIONS
from schemas.manifest import part_numbers
from schemas.receipt import Settings
from schemas.shard import latest_digest, read_history
from tasks import pack
from tasks.pack import PackConfig
from tasks.publish import publish
from training.tracking.runs import RunSpec, VersionSource, experiment_run
from training.tracking.store import Store

YEAR = timedelta(days=365)
STEP = timedelta(weeks=1)
TOLD_WEEKS = (1, 13, 26, 39, 52)
HEARTBEATS = 20  # of a run that lasts for ten minutes, in place of its own
HEARTBEAT = "prefect.flow-run.heartbeat"
IDS = [f"clip{n:02d}" for n in range(14)]
UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
MOMENT = re.compile(r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?(?:Z|\+00:00)")
ANSWER_S = 120.0
BUSY_S = 0.5
QUIET_S = 5.0  # without a new row: all is written
SETTLED_S = 3600.0
MOMENTS = "%Y-%m-%d %H:%M:%f"
# Table, its run, and its columns of moments.
DATED = (
    ("flow_run", "flow_run.id", ("created", "updated", "start_time", "end_time", "expected_start_time")),
    ("flow_run_state", "flow_run_state.flow_run_id", ("created", "updated", "timestamp")),
    ("task_run", "task_run.flow_run_id", ("created", "updated", "start_time", "end_time")),
    ("artifact", "artifact.flow_run_id", ("created", "updated")),
    ("log", "log.flow_run_id", ("created", "updated", "timestamp")),
)
TABLES = ("flow_run", "task_run", "log", "artifact", "events", "event_resources")
UNBOUNDED = {
    "PREFECT_SERVER_SERVICES_DB_VACUUM_ENABLED": "",
    "PREFECT_SERVER_API_CSRF_PROTECTION_ENABLED": "false",
}
EVENT = ("occurred", "event", "resource", "related", "payload", "follows")
LOG = ("name", "level", "message", "timestamp", "flow_run_id", "task_run_id")
ARTIFACT = ("key", "type", "description", "data", "flow_run_id", "task_run_id")
Row = tuple[str, str]


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
class Server:
    """Our Prefect server over a state folder, as `serve` starts it but for what `changes` of its environment."""

    state: Path

    @property
    def database(self) -> Path:
        """Its file."""
        return self.state / PREFECT / "prefect.db"

    @contextmanager
    def up(self, changes: Mapping[str, str]) -> Iterator[str]:
        """Its address, while it runs."""
        address = f"http://127.0.0.1:{free_port()}/api"
        service = prefect_service(self.state, address)
        process = start(replace(service, environment={**service.environment, **changes}))
        try:
            await_health(process, service)
            yield address
        finally:
            stop(process, within_s=ANSWER_S)

    # ruff: noqa: S608  (queries of ours, over a database of ours)
    def counts(self) -> dict[str, int]:
        """How many rows each table has."""
        return {table: self._number(f"SELECT count(*) FROM {table}") for table in TABLES}

    def is_settled(self, num_events: int) -> bool:
        """Whether so many events have been written, and nothing more comes."""
        before = self.counts()
        time.sleep(QUIET_S)
        return before["events"] >= num_events and before == self.counts()

    def is_vacuumed(self) -> bool:
        """Whether nothing is left that the settings of `serve` call old."""
        now = datetime.now(UTC)
        day, week, runs = ((now - timedelta(days=days)).isoformat(" ") for days in (1, 7, 90))
        old = self._number(f"SELECT count(*) FROM flow_run WHERE end_time < '{runs}'")
        old += self._number(f"SELECT count(*) FROM events WHERE occurred < '{week}'")
        old += self._number(f"SELECT count(*) FROM events WHERE event = '{HEARTBEAT}' AND occurred < '{day}'")
        orphans = "SELECT count(*) FROM log WHERE flow_run_id NOT IN (SELECT id FROM flow_run)"
        return not old and not self._number(orphans)

    def size_mb(self) -> float:
        """Of the database and what SQLite keeps beside it."""
        return sum(path.stat().st_size for path in self.database.parent.glob("prefect.db*")) / 1e6

    def used_mb(self) -> float:
        """Of the database's pages, those that hold something: it writes the others again before it grows."""
        pages = self._number("PRAGMA page_count") - self._number("PRAGMA freelist_count")
        return pages * self._number("PRAGMA page_size") / 1e6

    def _number(self, query: str) -> int:
        with closing(sqlite3.connect(f"file:{self.database}?mode=ro", uri=True, timeout=60)) as database:
            return database.execute(query).fetchone()[0]


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


def write_year(address: str, state: Path, pattern: Pattern, every: timedelta) -> int:
    """Writes the runs of a year; returns how many they are."""
    user, _, password = login(state).partition(":")
    with httpx.Client(base_url=address, auth=(user, password), timeout=ANSWER_S) as client:
        answer = client.post("/flows/", json={"name": "build-dataset"}).raise_for_status()
        writer = Writer(client, pattern, answer.json()["id"])
        for _ in range(YEAR // every):
            writer.write(datetime.now(UTC))
    return YEAR // every


def spread(database: Path, every: timedelta) -> None:
    """Dates the runs of a database, and all that belongs to them, so that one begins each `every`, the last now."""
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("CREATE TEMP TABLE ages (run PRIMARY KEY, age TEXT)")
        runs = [run for (run,) in connection.execute("SELECT id FROM flow_run ORDER BY created DESC")]
        ages = [(run, f"-{number * every.total_seconds():.0f} seconds") for number, run in enumerate(runs)]
        connection.executemany("INSERT INTO ages VALUES (?, ?)", ages)
        for table, run, columns in DATED:
            shifted = ", ".join(f"{one} = strftime('{MOMENTS}', {one}, ages.age)" for one in columns)
            connection.execute(f"UPDATE {table} SET {shifted} FROM ages WHERE ages.run = {run}")
        connection.execute(
            "CREATE TEMP TABLE of_event AS SELECT event_id, ages.age FROM event_resources JOIN ages "
            "ON resource_id = 'prefect.flow-run.' || ages.run GROUP BY event_id"
        )
        connection.execute("CREATE INDEX temp.by_event ON of_event (event_id)")
        for table, event in (("events", "events.id"), ("event_resources", "event_resources.event_id")):
            shifted = f"occurred = strftime('{MOMENTS}', occurred, of_event.age)"
            connection.execute(
                f"UPDATE {table} SET {shifted} FROM of_event WHERE of_event.event_id = {event}"
            )
        connection.commit()


def database(folder: Path, every: timedelta) -> Iterator[Row]:
    """The database of a year of runs, before and after it is vacuumed."""
    pattern = real_run(folder)
    server = Server(folder / "state")
    began = time.monotonic()
    with server.up(UNBOUNDED) as address:
        runs = write_year(address, server.state, pattern, every)
        wait_for(lambda: server.is_settled(len(pattern.events) * runs), "the last event", within_s=SETTLED_S)
    spread(server.database, every)
    yield f"{runs:,} runs written", f"{time.monotonic() - began:.0f} s"
    yield "rows of them", _listed(server.counts())
    yield "size of the database before", f"{server.size_mb():.0f} MB"
    began = time.monotonic()
    peak = [server.size_mb()]
    with server.up({}):

        def is_done() -> bool:
            peak.append(server.size_mb())
            return server.is_vacuumed()

        wait_for(is_done, "the vacuum", within_s=SETTLED_S)
    yield "vacuumed in", f"{time.monotonic() - began:.0f} s"
    yield "peak meanwhile, with what SQLite keeps beside it", f"{max(peak):.0f} MB"
    yield "rows that stay", _listed(server.counts())
    yield "size after", f"{server.size_mb():.0f} MB, of which {server.used_mb():.0f} MB are in use"


def root(folder: Path, every: timedelta) -> Iterator[Row]:
    """What lies under a root but its clips, as a year goes by."""
    media = folder / "media"
    built = Root(folder / "root", f"folder:{media}", write_clips(media, IDS[:3]))
    built.build()
    began = time.monotonic()
    num_runs = YEAR // every
    for number in range(num_runs):
        _publish(built, number)
        week, rest = divmod(number * every, STEP)
        if number and rest < every:
            _keep_up(built)
            if week in TOLD_WEEKS:
                yield f"{week} weeks, {number:,} versions", _sizes(built.path)
    took_s = time.monotonic() - began
    yield f"{num_runs:,} versions, trainings and upkeep", f"{took_s:.0f} s"


def _publish(built: Root, number: int) -> None:
    """Another version: the names of labels stand in every sample."""
    config = PackConfig(built.profile, {"/m/09x0r": (0, f"Speech {number}")})
    pack.run(pack.stage(built.path, config), part_numbers(built.path / FEATURES), config)
    publish(built.path, Settings(built.profile, built.rules, config.labels))


def _keep_up(built: Root) -> None:
    """What a week brings beside builds."""
    source = VersionSource(str(latest_digest(built.path)), str(built.path))
    with experiment_run(Store(built.path), RunSpec("run", {}, source, {})):
        pass
    keep_up(resolve(BuildOptions(str(built.path), "demo")))


def _sizes(path: Path) -> str:
    """Of all folders but those of the clips, and the number of their files."""
    told = []
    for name in (VERSIONS, SHARDS, "reports", "state", "mlruns"):
        files = [one for one in (path / name).rglob("*") if one.is_file()]
        told.append(
            f"{name} {sum(one.stat().st_size for one in files) / 1e3:,.0f} kB in {len(files):,} files"
        )
    return "; ".join([*told, f"history {len(read_history(path)):,} lines"])


def _listed(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count:,} {table}" for table, count in counts.items())


OF = {"database": database, "root": root}


def main() -> None:
    """Prints the conditions and the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--of", nargs="+", choices=OF, default=list(OF))
    parser.add_argument(
        "--every", type=int, default=1, help="hours from one run to the next; 4 for a quarter of them"
    )
    asked = parser.parse_args()
    print(f"{platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}\n")
    print("| what | measured |\n|---|---:|")
    for name in asked.of:
        with tempfile.TemporaryDirectory() as folder:
            for what, value in OF[name](Path(folder), timedelta(hours=asked.every)):
                print(f"| {what} | {value} |", flush=True)


if __name__ == "__main__":
    main()
