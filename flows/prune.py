"""prune: the weekly upkeep of a root: old versions with their shards and pages, old runs, old logs."""

from typing import Any

from prefect import flow
from prefect.states import Completed

from flows.builds.pipeline import resolve_published
from flows.experiments.upkeep import PruneOptions, keep_up
from flows.run_page import named
from flows.services.runs import noted_run, record_result, take_over
from flows.task_runs import task_of
from schemas.shard import latest_digest
from schemas.storage import open_root


def _run_name() -> str:
    return named("prune")


@flow(name="prune", flow_run_name=_run_name, persist_result=False)
def prune(options: PruneOptions) -> Any:
    """Removes what no kept version, no training and no champion needs; ends as `Skipped` if nothing is built yet."""
    if latest_digest(open_root(options.root)) is None:
        return Completed(name="Skipped", message=f"no version under {options.root} yet")
    pipeline = resolve_published(options.root, options.state)
    take_over(pipeline.state)
    with noted_run(pipeline.state):
        return record_result(task_of("prune", keep_up)(pipeline))
