"""canary: takes four scenes of the studio through all stages, in a separate root: does building still work?"""

import logging
import shutil
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from prefect import flow
from prefect.events import emit_event
from prefect.states import Completed

from flows.arguments import Root, State
from flows.build_dataset import make_index, publish_version, run_stages
from flows.builds.options import BuildOptions, Compute
from flows.builds.pipeline import resolve, state_folder
from flows.run_page import named
from flows.services.alarms import SILENT, was_told
from flows.services.receivers import RESOURCE, SIGN
from flows.services.runs import UNREACHABLE, noted_run, record_result, take_over
from schemas.errors import OperationalError
from schemas.files import read_json, write_json
from schemas.layout import CANARY
from schemas.shard import read_version
from schemas.storage import open_root
from tasks.leases import HeldError, alone
from tasks.sources.scenes.corpus import CorpusConfig

log = logging.getLogger(__name__)

BACK = "mcgurk: the canary works again"
# Of four scenes with this seed, one is from a family that is kept for evaluation: no list may be empty.
SCENES = CorpusConfig(num_scenes=4, seed=1)
# Without the funnel of a build, which would hide that of the dataset on the server's pages.
WHOLE = {"index": make_index, "publish": publish_version}


@dataclass(frozen=True)
class CanaryOptions:
    """In which state folder the canary runs, and where it computes."""

    root: Root
    state: State = None
    compute: Compute = "local"


def _run_name() -> str:
    return named("canary")


@flow(name="canary", flow_run_name=_run_name, persist_result=False)
def canary(options: CanaryOptions) -> Any:
    """Builds four scenes from scratch; returns the digest of their version. The next canary removes what it leaves.

    Raises OperationalError if a scene is missing. It does not announce its version, so no training follows.
    """
    state = state_folder(open_root(options.root), options.state)
    take_over(state)
    try:
        with noted_run(state), alone(state, CANARY, "runs the canary here"):
            digest = _built_anew(state / CANARY, options.compute)
            _tell_if_back(state)
            return record_result(digest)
    except HeldError as held:
        return Completed(name="Skipped", message=str(held))


def _built_anew(root: Path, compute: str) -> str:
    if root.is_dir():
        shutil.rmtree(root)
    pipeline = resolve(BuildOptions(str(root), "tiny", compute=compute))
    pipeline = replace(pipeline, config=replace(pipeline.config, corpus=SCENES))
    digest = run_stages(pipeline, WHOLE)
    count = read_version(root, digest).num_samples
    if count != SCENES.num_scenes:
        raise OperationalError(
            f"{count} of {SCENES.num_scenes} scenes are in shards: `mcgurk failures` of {root} shows why"
        )
    return digest


def _tell_if_back(state: Path) -> None:
    """Reports that the canary works again, if it was reported silent since its last success."""
    path = state / f"{CANARY}.json"
    before = read_json(path, "remove it")["succeeded_at"] if path.is_file() else ""
    now = datetime.now(UTC).isoformat(timespec="seconds")
    try:
        if before and was_told(SILENT, before):
            log.warning("%s", BACK)
            body = f"What: a run of the canary has succeeded\nSince: {now}\nEvidence: the previous one was at {before}"
            emit_event(
                SIGN, resource={"prefect.resource.id": RESOURCE}, payload={"subject": BACK, "body": body}
            )
    except UNREACHABLE as error:  # the alarm is not withdrawn; the run itself is unaffected
        log.warning("Prefect's server could not be informed that the canary works again: %s", error)
    write_json(path, {"succeeded_at": now})
