"""How MLflow is reached: the store that it writes to, its artefacts, and its refusals.

The store is a SQLite file with artefacts beside it, or any tracking server by address. Artefacts of a store below a
root have addresses such as `mlflow-artifacts:/...`, which name the folder beside its database. MLflow resolves these by
querying a server; if the store is a database file, there is no server to query.
"""

import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import urlparse

import mlflow
from mlflow.entities import LifecycleStage
from mlflow.exceptions import MlflowException
from mlflow.store.artifact.artifact_repo import ArtifactRepository
from mlflow.store.artifact.artifact_repository_registry import _artifact_repository_registry
from mlflow.store.artifact.local_artifact_repo import LocalArtifactRepository
from mlflow.store.artifact.mlflow_artifacts_repo import MlflowArtifactsRepository
from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore
from mlflow.tracking import MlflowClient, get_tracking_uri
from mlflow.tracking._tracking_service.utils import _artifact_repos_cache
from requests.exceptions import RequestException

from schemas.databases import note_opened
from schemas.environment import changed, restored
from schemas.errors import MissingError, OperationalError, RequestError
from schemas.storage import make_folder
from training.tracking.store import (
    ADDRESS,
    ARTIFACTS,
    EXPERIMENT,
    PACKAGE,
    SCHEME,
    SQLITE,
    Store,
    deleted,
    relocate,
    upgrade,
    without_login,
)

log = logging.getLogger(__name__)

FIRST = ("val_auc", "loss")  # metrics that MLflow shows before its sections
OF_EXPERIMENT = {
    "mlflow.experimentKind": "custom_model_development",  # otherwise its page opens with traces
    "mlflow.experiment.primaryMetric.name": FIRST[0],
    "mlflow.experiment.primaryMetric.greaterIsBetter": "True",
}
NO_BARS = {"MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false"}
# By default MLflow tries for 4 minutes.
IMPATIENT = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2", "MLFLOW_HTTP_REQUEST_TIMEOUT": "20"}
_FOLDERS: dict[str, Path] = {}  # the artefacts of a database on a server
SET_BY_MLFLOW = (ADDRESS, "MLFLOW_REGISTRY_URI", "MLFLOW_EXPERIMENT_ID")


def connect(store: Store, *, is_new: bool = False) -> None:
    """Points MLflow to `store` and opens the experiment there; creates a missing store only if `is_new`.

    Raises RequestError if there is no store (MissingError), or its experiment was deleted; OperationalError if it does
    not answer.
    """
    resolve_addresses()
    if database := store.database:
        _open(database, is_new=is_new)
    if server := store.server:
        _FOLDERS[server] = store.folder / ARTIFACTS
        with refusals_named(store):
            SqlAlchemyStore(server, SCHEME).engine.dispose()
    # MLflow leaves these values in the environment, where they would be mistaken for the user's.
    with restored(SET_BY_MLFLOW), refusals_named(store), _impatient():
        mlflow.set_tracking_uri(store.tracking_uri)
        mlflow.set_registry_uri(store.tracking_uri)
        client = MlflowClient()
        found = mlflow.get_experiment_by_name(EXPERIMENT)
        if found is None:
            client.create_experiment(EXPERIMENT, store.artifacts)
        elif found.lifecycle_stage == LifecycleStage.DELETED:
            raise RequestError(deleted(store, found.experiment_id))
        experiment = mlflow.set_experiment(EXPERIMENT)
        for key in OF_EXPERIMENT.keys() - experiment.tags.keys():
            client.set_experiment_tag(experiment.experiment_id, key, OF_EXPERIMENT[key])


@contextmanager
def without_bars() -> Iterator[None]:
    """In the block MLflow fetches artefacts without a bar on the console for each."""
    with changed(NO_BARS):
        yield


@contextmanager
def _impatient() -> Iterator[None]:
    """Inside the block, requests to a server fail soon, unless the user's environment sets their retries."""
    with restored(IMPATIENT):
        for name, value in IMPATIENT.items():
            os.environ.setdefault(name, value)
        yield


def _open(database: Path, *, is_new: bool) -> None:
    """Makes the store below a root if `is_new`, and makes absolute addresses in it relative."""
    if not database.is_file():
        if not is_new:
            raise MissingError(f"{database} does not exist: no run was tracked under that root")
        make_folder(database.parent)
        # By default MLflow would store an absolute address.
        SqlAlchemyStore(f"{SQLITE}{database}", SCHEME).engine.dispose()
        note_opened(database, PACKAGE)
    if copy := upgrade(database):
        log.info("another version of MLflow opened %s last: a copy of it is kept as %s", database, copy.name)
    if copy := relocate(database):
        log.info("made the addresses in %s relative; the original is kept as %s", database, copy.name)


@contextmanager
def refusals_named(store: Store) -> Iterator[None]:
    """Raises OperationalError, naming the store, if MLflow refuses something in the block."""
    try:
        yield
    except (MlflowException, RequestException) as error:  # the second from artefacts
        message = without_login(f"MLflow at {store.tracking_uri}: {str(error).splitlines()[0]}")
        raise OperationalError(message) from None  # MLflow's own text contains the login


def all_pages(search: Callable[..., Any], *arguments: Any) -> list[Any]:
    """All results of one of MLflow's searches, page by page."""
    found = search(*arguments)
    results = list(found)
    while found.token:
        found = search(*arguments, page_token=found.token)
        results += found
    return results


def repository(
    artifact_uri: str, tracking_uri: str | None = None, registry_uri: str | None = None
) -> ArtifactRepository:
    """The artefacts at an address of the connected store; for a server, by request.

    Raises MlflowException for an address outside the folder.
    """
    store = tracking_uri or get_tracking_uri()
    if not (store.startswith(SQLITE) or store in _FOLDERS):
        return MlflowArtifactsRepository(artifact_uri, tracking_uri, registry_uri)
    path = PurePosixPath(urlparse(artifact_uri).path.lstrip("/"))
    if ".." in path.parts:
        raise MlflowException.invalid_parameter_value(f"{artifact_uri} is outside the folder of artefacts")
    folder = (_FOLDERS.get(store) or Path(store.removeprefix(SQLITE)).parent / ARTIFACTS) / path
    return LocalArtifactRepository(folder.as_uri(), tracking_uri, registry_uri)


def resolve_addresses() -> None:
    """Makes MLflow use `repository` from now on, also for a run whose copy in another root it has cached."""
    _artifact_repos_cache.clear()
    _artifact_repository_registry.register(SCHEME.rstrip(":/"), repository)
