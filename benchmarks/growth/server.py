"""Our Prefect server and its database, as a benchmark starts, reads and dates them."""

import sqlite3
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from flows.services.keeper import await_health, start
from flows.services.servers import free_port, prefect_service, stop
from schemas.layout import PREFECT

ANSWER_S = 120.0
QUIET_S = 5.0  # without a new row: all is written
HEARTBEAT = "prefect.flow-run.heartbeat"
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
