"""Pruning: removes what old runs left in MLflow. The runs stay, with their parameters and metrics."""

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from mlflow.entities import Run
from mlflow.entities.model_registry import ModelVersion
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository
from mlflow.tracking import MlflowClient
from mlflow.utils.mlflow_tags import MLFLOW_RUN_NOTE

from training.tracking.connection import all_pages, connect, refusals_named
from training.tracking.runs import JUDGED_ON
from training.tracking.store import EXPERIMENT, Store

SCORE = f"{JUDGED_ON}/correspondence.random.auc.value"
ENDED = ("FINISHED", "FAILED", "KILLED")
OURS = "dataset_version"  # a tag of each training run, and of its model
PRUNED = "pruned"  # a tag of a run: since when its artefacts are gone


@dataclass(frozen=True)
class Needs:
    """Which runs are needed, besides those in progress and those whose model has an alias.

    Attributes:
        is_here: whether a run was trained in this root; others at a tracking server are ignored.
        unfinished: returns the runs that a training can resume, if their version is among `versions`; called once it is
            known which runs have ended.
        versions: those that exist.
        best: how many runs to keep, by the score that the gate compares.
    """

    is_here: Callable[[str], bool]
    unfinished: Callable[[], Collection[str]]
    versions: Collection[str]
    best: int


def prune_runs(store: Store, needs: Needs, remove: Callable[[str], None]) -> list[str]:
    """Removes checkpoints, reports and models of runs that are no longer needed; returns their ids.

    `remove` is called with the id of each, and removes what is stored elsewhere. Raises OperationalError if MLflow
    refuses; what is removed by then stays removed, and the next call continues.
    """
    with refusals_named(store):
        connect(store)
        client = MlflowClient()
        found = [run for run in _trainings(client) if PRUNED not in run.data.tags]
        if store.uri:
            found = [run for run in found if needs.is_here(run.info.run_id)]
        models = all_pages(client.search_model_versions)
        needed = {*_resumable(found, needs), *_with_alias(client, models), *_best(found, needs.best)}
        old = [run for run in found if run.info.status in ENDED and run.info.run_id not in needed]
        for run in old:
            _remove_artifacts(client, run, [one for one in models if one.run_id == run.info.run_id])
            remove(run.info.run_id)
            _mark(client, run)
    return [run.info.run_id for run in old]


def trained_on(store: Store) -> set[str]:
    """The digests of the dataset versions that any run or registered model was trained on. Raises as `prune_runs`."""
    with refusals_named(store):
        connect(store)
        client = MlflowClient()
        models = all_pages(client.search_model_versions)
        return {run.data.tags[OURS] for run in _trainings(client)} | {
            one.tags.get(OURS, "") for one in models
        }


def _trainings(client: MlflowClient) -> list[Run]:
    experiment = client.get_experiment_by_name(EXPERIMENT)
    found = all_pages(client.search_runs, [experiment.experiment_id]) if experiment else []
    return [run for run in found if OURS in run.data.tags]


def _resumable(found: Sequence[Run], needs: Needs) -> set[str]:
    return {run.info.run_id for run in found if run.data.tags[OURS] in needs.versions} & set(
        needs.unfinished()
    )


def _with_alias(client: MlflowClient, versions: Sequence[ModelVersion]) -> Iterator[str]:
    """The runs of registered models that somebody may load by an alias."""
    aliased = {
        (model.name, str(version))
        for model in all_pages(client.search_registered_models)
        for version in model.aliases.values()
    }
    return (str(one.run_id) for one in versions if (one.name, str(one.version)) in aliased)


def _best(found: Sequence[Run], keep: int) -> list[str]:
    judged = [run for run in found if SCORE in run.data.metrics]
    judged.sort(key=lambda run: (run.data.metrics[SCORE], run.info.start_time), reverse=True)
    return [run.info.run_id for run in judged[:keep]]


def _remove_artifacts(client: MlflowClient, run: Run, versions: Sequence[ModelVersion]) -> None:
    """Files are removed before their references: after a kill, the next call finds the rest."""
    run_id = run.info.run_id
    models = all_pages(client.search_logged_models, [run.info.experiment_id])
    made = [model for model in models if model.source_run_id == run_id]
    for address in (run.info.artifact_uri, *(model.artifact_location for model in made)):
        _remove_files(str(address))
    for version in versions:
        client.delete_model_version(version.name, str(version.version))
    for model in made:
        client.delete_logged_model(model.model_id)


def _mark(client: MlflowClient, run: Run) -> None:
    run_id = run.info.run_id
    now = datetime.now(UTC).isoformat(timespec="seconds")
    client.set_tag(run_id, MLFLOW_RUN_NOTE, f"Its artefacts were pruned at {now}")
    client.set_tag(run_id, PRUNED, now)


def _remove_files(address: str) -> None:
    files = get_artifact_repository(address)
    for one in files.list_artifacts():
        files.delete_artifacts(one.path)
