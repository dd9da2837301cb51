"""canary: four scenes of the studio through all stages, in a root of their own: does what builds still work?"""

import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from prefect import flow
from prefect.states import Completed

from flows.arguments import Root, State
from flows.build_dataset import make_index, publish_version, run_stages
from flows.builds.options import BuildOptions, Compute
from flows.builds.pipeline import resolve, state_folder
from flows.run_page import named
from flows.services.runs import noted_run, record_result, take_over
from schemas.errors import OperationalError
from schemas.layout import CANARY
from schemas.shard import read_version
from schemas.storage import open_root
from tasks.leases import HeldError, alone
from tasks.sources.scenes.corpus import CorpusConfig

# Of four scenes with this seed one is of a family that is kept for evaluation: no list may be empty.
SCENES = CorpusConfig(num_scenes=4, seed=1)
# Without the funnel of a build, which would stand before that of the dataset on the server's pages.
WHOLE = {"index": make_index, "publish": publish_version}


@dataclass(frozen=True)
class CanaryOptions:
    """In whose state folder it is tried, and where it computes."""

    root: Root
    state: State = None
    compute: Compute = "local"


def _run_name() -> str:
    return named("canary")


@flow(name="canary", flow_run_name=_run_name, persist_result=False)
def canary(options: CanaryOptions) -> Any:
    """Builds four scenes anew; returns the digest of their version. What it leaves, the next one removes.

    Raises OperationalError where a scene is missing. It says nothing of a new version: no training comes of it.
    """
    state = state_folder(open_root(options.root), options.state)
    take_over(state)
    try:
        with noted_run(state), alone(state, CANARY, "tries the canary here"):
            return record_result(_built_anew(state / CANARY, options.compute))
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
