"""The runs that a store holds, and which of them matter: champion, best, last.

They are read from MLflow's database with SQL: importing MLflow takes seconds, too long for a page.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, bindparam, create_engine, inspect, text

from training.tracking.store import EXPERIMENT, Store

DATABASES = ("sqlite:", "postgresql")  # schemes of stores that are databases
CHAMPION = "champion"
TAGS = ("model", "dataset_version")
OF_VERSION = ("score", "evaluation_digest")

RUNS = """
SELECT r.run_uuid AS run_id, r.experiment_id, r.name, r.status, r.start_time
FROM runs r JOIN experiments e ON e.experiment_id = r.experiment_id
WHERE e.name = :experiment AND r.lifecycle_stage = 'active' ORDER BY r.start_time DESC LIMIT :most
"""
RUN_TAGS = "SELECT run_uuid, key, value FROM tags WHERE key IN :names"
AUCS = "SELECT run_uuid, value FROM latest_metrics WHERE key = 'val_auc'"
VERSIONS = "SELECT name, version, run_id FROM model_versions WHERE current_stage <> 'Deleted_Internal'"
VERSION_TAGS = "SELECT name, version, key, value FROM model_version_tags WHERE key IN :names"
CHAMPIONS = "SELECT name, version FROM registered_model_aliases WHERE alias = :alias"
MOST_READ = 10_000


@dataclass(frozen=True)
class ListedRun:
    """One run, and the model version that was registered from it."""

    run_id: str
    experiment_id: str
    name: str
    status: str
    begun: datetime
    model: str = ""
    dataset_version: str = ""
    val_auc: float | None = None
    version: str = ""
    score: float | None = None  # the score that the gate compares, on the evaluation below
    evaluation: str = ""
    is_champion: bool = False


def list_runs(store: Store) -> list[ListedRun] | None:
    """The runs, newest first; None if the store is not a database that we can read, such as a tracking server.

    Raises SQLAlchemyError if the database can't be read.
    """
    address = store.tracking_uri
    if not address.startswith(DATABASES):
        return None
    if store.database and not store.database.is_file():
        return []
    engine = create_engine(address)
    try:
        with engine.connect() as connection:
            return _listed(connection) if inspect(connection).has_table("runs") else []
    finally:
        engine.dispose()


def best_of(runs: Sequence[ListedRun]) -> ListedRun | None:
    """The run with the highest score on the champion's evaluation, or on the newest version's without a champion."""
    scored = [run for run in runs if run.score is not None]
    if not scored:
        return None
    evaluation = next((run for run in scored if run.is_champion), scored[0]).evaluation
    return max((run for run in scored if run.evaluation == evaluation), key=lambda run: run.score or 0.0)


def _listed(connection: Connection) -> list[ListedRun]:
    tags = _nested(_rows(connection, RUN_TAGS, names=TAGS), "run_uuid")
    aucs = {row["run_uuid"]: row["value"] for row in _rows(connection, AUCS)}
    versions = _versions(connection)
    found = _rows(connection, RUNS, experiment=EXPERIMENT, most=MOST_READ)
    return [
        ListedRun(
            row["run_id"],
            str(row["experiment_id"]),
            row["name"] or "",
            row["status"] or "",
            datetime.fromtimestamp(row["start_time"] / 1000, UTC),
            val_auc=aucs.get(row["run_id"]),
            **tags.get((row["run_id"],), {}),
            **versions.get(row["run_id"], {}),
        )
        for row in found
    ]


def _versions(connection: Connection) -> dict[str, dict[str, Any]]:
    """The tags of the newest model version of each run."""
    tags = _nested(_rows(connection, VERSION_TAGS, names=OF_VERSION), "name", "version")
    champions = {(row["name"], str(row["version"])) for row in _rows(connection, CHAMPIONS, alias=CHAMPION)}
    said: dict[str, dict[str, Any]] = {}
    for row in sorted(_rows(connection, VERSIONS), key=lambda row: int(row["version"])):
        own = tags.get((row["name"], str(row["version"])), {})
        said[row["run_id"]] = {
            "version": str(row["version"]),
            "score": _number(own.get("score")),
            "evaluation": own.get("evaluation_digest") or "",
            "is_champion": (row["name"], str(row["version"])) in champions,
        }
    return said


def _number(value: str | None) -> float | None:
    try:
        return float(value) if value else None
    except ValueError:  # a tag that somebody else wrote
        return None


def _nested(rows: Sequence[Mapping[str, Any]], *keys: str) -> dict[tuple[str, ...], dict[str, str]]:
    """Rows of key and value as one mapping for each owner."""
    found: dict[tuple[str, ...], dict[str, str]] = {}
    for row in rows:
        owner = tuple(str(row[key]) for key in keys)
        found.setdefault(owner, {})[row["key"]] = row["value"]
    return found


def _rows(connection: Connection, query: str, **values: Any) -> list[dict[str, Any]]:
    several = [bindparam(name, expanding=True) for name, one in values.items() if isinstance(one, tuple)]
    return [dict(row) for row in connection.execute(text(query).bindparams(*several), values).mappings()]
