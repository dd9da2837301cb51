"""Upkeep of a root: what is removed of old versions, old runs and old logs. Without Prefect."""

import logging
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

from flows.arguments import Root, State
from flows.builds.overview import renew_overview
from flows.builds.pipeline import Pipeline
from flows.experiments.run_marker import unfinished_runs
from schemas import layout
from schemas.shard import published
from schemas.storage import remove_folder
from tasks.leases import lease
from tasks.versions.prune import Pruned, drop_records, prune
from training.tracking.store import Store

log = logging.getLogger(__name__)

KEEP_RUNS = 5  # the best by what the gate compares
LOGS_STAY = timedelta(days=90)  # after their last line, as long as runs stay on the server


@dataclass(frozen=True)
class PruneOptions:
    """Which root's old versions, runs and logs are removed."""

    root: Root
    state: State = None


@dataclass
class Upkeep:
    """What was removed: of versions, the records of retired ones, of MLflow's runs (their ids), and of the logs."""

    versions: Pruned
    records: list[str] = field(default_factory=list)
    runs: list[str] = field(default_factory=list)
    logs: list[str] = field(default_factory=list)


def keep_up(pipeline: Pipeline, *, keep_runs: int = KEEP_RUNS) -> Upkeep:
    """Removes what is no longer needed, as `tasks/versions/prune.py` and `training/tracking/pruning.py` define it.

    Waits for a build that is packing. Raises RequestError if there is no version.
    """
    done = Upkeep(prune(pipeline.root, pipeline.state))
    done.runs = _prune_runs(pipeline, keep_runs)
    done.records = drop_records(pipeline.root, pipeline.state, _trained_on(pipeline))
    done.logs = list(_remove_logs(pipeline, pipeline.now - LOGS_STAY))
    renew_overview(pipeline.root, pipeline.state)
    return done


def _prune_runs(pipeline: Pipeline, keep: int) -> list[str]:
    """The runs whose artefacts were removed, along with the folders of their checkpoints and reports."""
    store = Store.of(pipeline.here)
    if _is_empty(store):
        return []
    from training.tracking.pruning import Needs, prune_runs  # MLflow takes seconds to import

    needs = Needs(
        is_here=lambda run_id: (pipeline.here / layout.run_folder(run_id)).is_dir(),
        unfinished=lambda: unfinished_runs(pipeline.state),
        versions=published(pipeline.root),
        best=keep,
    )
    with lease(pipeline.state, "pages"):
        pruned = prune_runs(store, needs, lambda run_id: _remove(pipeline.here / layout.run_folder(run_id)))
    log.info("prune: the artefacts of %d run(s) removed", len(pruned))
    return pruned


def _trained_on(pipeline: Pipeline) -> set[str]:
    store = Store.of(pipeline.here)
    if _is_empty(store):
        return set()
    from training.tracking.pruning import trained_on

    return trained_on(store)


def _is_empty(store: Store) -> bool:
    return store.database is not None and not store.database.is_file()


def _remove(folder: Path) -> None:
    if folder.is_dir():
        remove_folder(folder)


def _remove_logs(pipeline: Pipeline, before: datetime) -> Iterator[str]:
    for path in sorted((pipeline.state / layout.LOGS).glob("*")):
        if path.is_file() and path.stat().st_mtime < before.timestamp():
            path.unlink()
            yield path.name
