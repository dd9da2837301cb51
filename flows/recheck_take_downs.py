"""recheck_take_downs: checks whether our clips are still at their source; marks and reports those that are gone."""

import logging
from typing import Any

from prefect import flow
from prefect.artifacts import create_table_artifact
from prefect.states import Completed

from flows.builds.pipeline import Pipeline, resolve_indexed
from flows.builds.recheck import RecheckOptions, is_empty, recheck
from flows.builds.takedown import forget
from flows.run_page import named
from flows.services.runs import UNREACHABLE, is_scheduled, noted_run, record_result, take_over
from flows.task_runs import task_of
from tasks.acquisition.recheck import Rechecked
from tasks.leases import HeldError, alone

log = logging.getLogger(__name__)

RECHECK = "recheck"  # the lease


def _run_name() -> str:
    return named("recheck")


@flow(name="recheck-take-downs", flow_run_name=_run_name, persist_result=False)
def recheck_take_downs(options: RecheckOptions) -> Any:
    """Asks the source for up to 500 clips, those checked least recently first; returns what it said.

    With `drop_removed` takes down what both an earlier recheck and this one find gone. If another recheck is running,
    a scheduled one ends at once, as `Skipped`; any other raises HeldError. Without segments there is nothing to check.
    """
    if is_empty(options.root):
        log.info("recheck: nothing to check under %s yet", options.root)
        return record_result(Rechecked())
    pipeline = resolve_indexed(options.root, options.state)
    take_over(pipeline.state)
    try:
        return record_result(_recheck(pipeline, options))
    except HeldError as held:
        if not is_scheduled():
            raise
        return Completed(name="Skipped", message=str(held))


def _recheck(pipeline: Pipeline, options: RecheckOptions) -> Rechecked:
    with noted_run(pipeline.state), alone(pipeline.state, RECHECK, "asks the source for our clips"):
        done = task_of(RECHECK, recheck)(pipeline, marked_first=options.drop_removed)
        # No id in the log: what is taken down next must not be named there.
        log.info(
            "recheck: %d still there, %d gone, %d unclear",
            done.num_there,
            len(done.gone),
            done.unclear.total(),
        )
        _show(done)
        confirmed = [mark.video_id for mark in done.gone if mark.is_confirmed]
        if options.drop_removed and confirmed:
            task_of("forget", forget)(pipeline, confirmed)
        return done


def _show(done: Rechecked) -> None:
    rows = [
        {"video": one.video_id, "class": one.reason, "rechecks": one.sightings, "evidence": one.detail}
        for one in done.gone
    ]
    try:
        create_table_artifact(
            rows, key="gone-at-source", description="Clips that we hold and their source no longer has"
        )
    except UNREACHABLE as error:  # the marks are in the state folder
        log.warning("Prefect's server did not get the table of this recheck: %s", error)
