"""Registered models and the champion.

What is registered is an exported program (pt2): it loads without this repository, and nothing pickled is ever loaded.
"""

import logging
import tempfile
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
from mlflow import pytorch as mlflow_pytorch
from mlflow.artifacts import download_artifacts
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from mlflow.models import ModelSignature
from mlflow.tracking import MlflowClient
from mlflow.types import Schema, TensorSpec

from training.gate import EVALUATION_DIGEST, SCORE, Verdict, compare
from training.models import AvcModel
from training.progress import BEST
from training.scorer import Scorer, examples
from training.store import Store
from training.tracking import Run, connect

log = logging.getLogger(__name__)

CHAMPION, CHALLENGER = "champion", "challenger"
FORGOTTEN = "trained_on_forgotten"  # tag of a model version: `yes`, or `possibly` where its shards are gone


def register(run: Run, model: AvcModel, model_name: str, *, score: float, evaluation_digest: str) -> str:
    """Registers the model as an exported program and makes it `@challenger`; returns its version.

    `score` was measured on the pairs that `evaluation_digest` names; the gate compares nothing else.
    """
    scorer = Scorer(model).eval()
    for parameter in scorer.parameters():
        parameter.requires_grad_(False)
    example = tuple(tensor.numpy() for tensor in examples(model))
    logged = mlflow_pytorch.log_model(
        scorer,
        name="model",
        input_example=example,
        signature=_signature(example),
        serialization_format="pt2",
        # Named, because MLflow finds them out by loading the model in a process of its own (30 s).
        pip_requirements=[f"torch=={installed_version('torch')}", f"mlflow=={installed_version('mlflow')}"],
        run_id=run.run_id if mlflow.active_run() is None else None,
    )
    client = run.client
    _ensure_registered_model(client, model_name)
    tags = {EVALUATION_DIGEST: evaluation_digest, SCORE: repr(float(score))}
    tags |= {key: value for key, value in client.get_run(run.run_id).data.tags.items() if "." not in key}
    version = client.create_model_version(model_name, logged.model_uri, run.run_id, tags=tags)
    client.set_registered_model_alias(model_name, CHALLENGER, version.version)
    return str(version.version)


def promote(store: Store, model_name: str, version: str) -> Verdict:
    """Makes `version` `@champion` if there is none, or if it scores higher on the same evaluation.

    Not atomic: whoever promotes two versions at once must take turns.
    """
    connect(store)
    client = MlflowClient()
    new = client.get_model_version(model_name, version)
    current = _champion(client, model_name)
    if current and current.version == new.version:
        return Verdict(False, f"version {version} is champion already")
    verdict = compare(dict(new.tags), dict(current.tags) if current else None)
    if verdict.is_promoted:
        client.set_registered_model_alias(model_name, CHAMPION, version)
    log.info("version %s of %s: %s", version, model_name, verdict.reason)
    return verdict


def measure_champion(
    store: Store, model_name: str, digest: str, measure: Callable[[Path], tuple[float, str]]
) -> str:
    """Measures the champion on evaluation `digest` where it has been measured on another; why not, where it can't be.

    `measure` gives score and evaluation digest of a checkpoint. They become tags of the champion: what the gate
    compares.
    """
    connect(store)
    client = MlflowClient()
    champion = _champion(client, model_name)
    if champion is None or champion.tags[EVALUATION_DIGEST] == digest:
        return ""
    with tempfile.TemporaryDirectory() as folder:
        path = _checkpoint(client, str(champion.run_id), folder)
        if path is None:
            return f"{BEST} of the champion is not among the artefacts of run {champion.run_id}"
        try:
            score, found = measure(path)
        except (ValueError, OSError) as error:
            return f"the champion can't be measured on these clips: {error}"
    for key, value in ((EVALUATION_DIGEST, found), (SCORE, repr(float(score)))):
        client.set_model_version_tag(model_name, str(champion.version), key, value)
    log.info("champion of %s: %.4f on evaluation %s", model_name, score, found[:12])
    return ""


def tag_forgotten(store: Store, held: Mapping[str, bool]) -> list[str]:
    """Tags the model versions trained on the versions `held` (digest -> for certain); says which they are."""
    connect(store)
    client, told = MlflowClient(), []
    for model in client.search_model_versions():
        is_sure = held.get(model.tags.get("dataset_version", ""))
        if is_sure is not None:
            value = "yes" if is_sure or model.tags.get(FORGOTTEN) == "yes" else "possibly"
            client.set_model_version_tag(model.name, str(model.version), FORGOTTEN, value)
            told.append(f"{model.name} version {model.version}: {FORGOTTEN} = {value}")
    return sorted(told)


def _signature(example: Sequence[np.ndarray]) -> ModelSignature:
    inputs: list[Any] = [
        TensorSpec(one.dtype, (-1, *one.shape[1:]), name)
        for one, name in zip(example, ("frames", "audio"), strict=True)
    ]
    return ModelSignature(Schema(inputs), Schema([TensorSpec(np.dtype(np.float32), (-1,), "logit")]))


def _ensure_registered_model(client: MlflowClient, name: str) -> None:
    if not any(model.name == name for model in client.search_registered_models()):
        client.create_registered_model(name)


def _champion(client: MlflowClient, model_name: str) -> ModelVersion | None:
    aliases = client.get_registered_model(model_name).aliases
    return client.get_model_version(model_name, str(aliases[CHAMPION])) if CHAMPION in aliases else None


def _checkpoint(client: MlflowClient, run_id: str, folder: str) -> Path | None:
    try:
        if BEST not in [one.path for one in client.list_artifacts(run_id)]:
            return None
        return Path(download_artifacts(run_id=run_id, artifact_path=BEST, dst_path=folder))
    except MlflowException:  # of a run that was deleted
        return None
