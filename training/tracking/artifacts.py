"""Artefacts of a store below a root: `mlflow-artifacts:/...` is what lies in the folder beside its database.

MLflow resolves such addresses by asking a server. Where the store is a database file, there is none to ask.
"""

from pathlib import Path, PurePosixPath
from urllib.parse import urlparse

from mlflow.exceptions import MlflowException
from mlflow.store.artifact.artifact_repo import ArtifactRepository
from mlflow.store.artifact.artifact_repository_registry import _artifact_repository_registry
from mlflow.store.artifact.local_artifact_repo import LocalArtifactRepository
from mlflow.store.artifact.mlflow_artifacts_repo import MlflowArtifactsRepository
from mlflow.tracking import get_tracking_uri
from mlflow.tracking._tracking_service.utils import _artifact_repos_cache

from training.tracking.store import ARTIFACTS, SCHEME, SQLITE


def repository(
    artifact_uri: str, tracking_uri: str | None = None, registry_uri: str | None = None
) -> ArtifactRepository:
    """The artefacts at an address of the store that is connected: of a server's by asking it.

    Raises MlflowException for an address that leaves the folder.
    """
    store = tracking_uri or get_tracking_uri()
    if not store.startswith(SQLITE):
        return MlflowArtifactsRepository(artifact_uri, tracking_uri, registry_uri)
    path = PurePosixPath(urlparse(artifact_uri).path.lstrip("/"))
    if ".." in path.parts:
        raise MlflowException.invalid_parameter_value(f"{artifact_uri} leaves the folder of artefacts")
    folder = Path(store.removeprefix(SQLITE)).parent / ARTIFACTS / path
    return LocalArtifactRepository(folder.as_uri(), tracking_uri, registry_uri)


def register() -> None:
    """Has MLflow ask `repository` from here on, also where it has asked for the same run in another root's copy."""
    _artifact_repos_cache.clear()
    _artifact_repository_registry.register(SCHEME.rstrip(":/"), repository)
