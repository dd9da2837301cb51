"""Runs in MLflow, which beside this only `registry`, `artifacts` and `program` import.

The store is a SQLite file with artifacts beside it, or any tracking server by address.
"""

import json
import logging
import math
import os
import sys
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlflow
from mlflow.artifacts import load_text
from mlflow.data.dataset import Dataset as MlflowDataset
from mlflow.data.dataset_source import DatasetSource
from mlflow.entities import LifecycleStage, Metric, ViewType
from mlflow.exceptions import MlflowException
from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore
from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor
from mlflow.tracking import MlflowClient
from mlflow.utils.mlflow_tags import MLFLOW_GIT_COMMIT, MLFLOW_RUN_NOTE
from requests.exceptions import RequestException

from training.learning.environment import kept
from training.tracking import artifacts
from training.tracking.provenance import commit, has_ended, this_process
from training.tracking.store import (
    ADDRESS,
    EXPERIMENT,
    SCHEME,
    SQLITE,
    Store,
    deleted,
    relocate,
    without_login,
)

log = logging.getLogger(__name__)

MAX_DIGEST = 36  # characters that MLflow takes; the tag `dataset_version` has all of them
SYSTEM = "system/"  # before the names of this machine's metrics
# MLflow's charts stand in sections by what is before a slash, those without one first. Named `training/...` are what
# else a training tells, `evaluation/...` what the evaluations found.
FIRST = ("val_auc", "loss")
# What a run does with its dataset
TRAINED_ON = "training"
JUDGED_ON = "evaluation"
OF_EXPERIMENT = {
    "mlflow.experimentKind": "custom_model_development",  # else its page opens with traces
    "mlflow.experiment.primaryMetric.name": FIRST[0],
    "mlflow.experiment.primaryMetric.greaterIsBetter": "True",
}
PROCESS = "process"  # tag of a run: where it runs
SETTINGS = "settings.json"  # artefact of every run
# By default MLflow asks for 4 minutes.
IMPATIENT = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2", "MLFLOW_HTTP_REQUEST_TIMEOUT": "20"}
MAX_BATCH = 1000  # metrics in one request, by MLflow's REST limit
TEXTS = (".html", ".json", ".txt", ".csv", ".md")  # artefacts that may name or show a clip


class Run:
    """One open run: takes what the training yields and what the evaluations found.

    Every step stands in it once: of each metric those up to `logged`, which an earlier process sent, are not taken
    again. Their times are the training's, whose pauses don't count.
    """

    def __init__(
        self, client: MlflowClient, run_id: str, digest: str, logged: Mapping[str, int] | None = None
    ) -> None:
        self.client = client
        self.run_id = run_id
        self._logged = dict(logged or {})
        self._digest = digest[:MAX_DIGEST]
        info = client.get_run(run_id).info
        self._begun_ms = info.start_time
        self.page = f"#/experiments/{info.experiment_id}/runs/{run_id}"  # relative to MLflow's address
        self._waiting: list[Metric] = []
        self._found: list[Metric] = []  # by the evaluations

    def log_step(self, metrics: Mapping[str, float]) -> None:
        """Keeps one step's metrics, and sends them when there are many: a call a metric costs 18 ms."""
        step = int(metrics["step"])
        now_ms = self._begun_ms + int(metrics.get("seconds", 0.0) * 1000)
        named = {
            key if key in FIRST else f"{TRAINED_ON}/{key}": value
            for key, value in metrics.items()
            if key != "step"
        }
        metrics = {
            key: value
            for key, value in named.items()
            if math.isfinite(value) and step > self._logged.get(key, 0)
        }
        if len(self._waiting) + len(metrics) > MAX_BATCH:  # no step is cut in two by a kill
            self.flush()
        self._logged |= dict.fromkeys(metrics, step)
        self._waiting += [Metric(key, float(value), now_ms, step) for key, value in metrics.items()]

    def log_results(self, results: Mapping[str, Any]) -> None:
        """The evaluations' numbers as metrics (`evaluation/correspondence.random.auc.value`), and whole as JSON."""
        now_ms = int(time.time() * 1000)
        self._found = [
            Metric(f"{JUDGED_ON}/{key}", value, now_ms, 0) for key, value in numbers(results).items()
        ]
        self._send(self._found)
        self.client.log_text(self.run_id, json.dumps(results, indent=1, sort_keys=True), "results.json")

    def judge(self, model_id: str) -> None:
        """Gives what the evaluations found to a logged model, with the dataset's digest: runs have no place for it."""
        of_model = {"model_id": model_id, "dataset_name": JUDGED_ON, "dataset_digest": self._digest}
        self._send([Metric(one.key, one.value, one.timestamp, one.step, **of_model) for one in self._found])

    def log_text(self, text: str, name: str) -> None:
        """A text beside the run."""
        self.client.log_text(self.run_id, text, name)

    def log_artifact(self, path: Path) -> None:
        """A file beside the run."""
        self.client.log_artifact(self.run_id, str(path))

    def describe(self, links: Mapping[str, str]) -> None:
        """What a person can open from the run's page: name -> address."""
        lines = [f"- [{name}]({address})" for name, address in links.items()]
        self.set_tags({MLFLOW_RUN_NOTE: "\n".join(lines)})

    def artifact_page(self, name: str) -> str:
        """Where MLflow shows one of the run's artefacts."""
        return f"{self.page}/artifactPath/{name}"

    def set_tags(self, tags: Mapping[str, Any]) -> None:
        """Tags of the run."""
        for key, value in tags.items():
            self.client.set_tag(self.run_id, key, str(value))

    def flush(self) -> None:
        """Sends what waits."""
        self._send(self._waiting)
        self._waiting = []

    def _send(self, metrics: Sequence[Metric]) -> None:
        for start in range(0, len(metrics), MAX_BATCH):
            self.client.log_batch(self.run_id, metrics=metrics[start : start + MAX_BATCH])


class VersionSource(DatasetSource):
    """A dataset version as MLflow names it: by digest and root, and by the digest of what was excluded."""

    def __init__(self, digest: str, root: str, exclusions: str = "") -> None:
        self.digest = digest
        self.root = root
        self.exclusions = exclusions

    @staticmethod
    def _get_source_type() -> str:
        return "mcgurk"

    def load(self, **_: Any) -> str:
        """Where the version lies."""
        return self.root

    @staticmethod
    def _can_resolve(_raw_source: Any) -> bool:
        return False

    @classmethod
    def _resolve(cls, raw_source: Any) -> "VersionSource":
        raise NotImplementedError(f"{raw_source!r} is not resolved to a dataset version")

    def to_dict(self) -> dict[str, Any]:
        """What is kept of it."""
        return {"digest": self.digest, "root": self.root, "exclusions": self.exclusions}

    @classmethod
    def from_dict(cls, source_dict: dict[str, Any]) -> "VersionSource":
        """The source again."""
        return cls(**source_dict)


@dataclass(frozen=True)
class RunSpec:
    """What a run is called, depends on and reads; `run_id` names one to go on with."""

    name: str
    params: Mapping[str, Any]
    dataset: VersionSource
    tags: Mapping[str, Any]
    run_id: str | None = None


@contextmanager
def experiment_run(store: Store, spec: RunSpec) -> Iterator[Run]:
    """An MLflow run, new or gone on with; failed where the block raises, killed where a signal ends it.

    Raises RuntimeError, before the block begins, where the store can't be reached or written.
    """
    with _told(store):
        connect(store, is_new=True)
        with mlflow.start_run(spec.run_id, run_name=spec.name, log_system_metrics=False) as active:
            client = MlflowClient()
            run_id = active.info.run_id
            logged = _last_steps(client, spec.run_id) if spec.run_id else None
            run = Run(client, run_id, spec.dataset.digest, logged)
            _end_killed(client, run_id, active.info.experiment_id)
            _begin(run, spec)
            try:
                yield run
            finally:
                run.flush()
                error = sys.exception()
                if not isinstance(error, Exception | None):  # a signal's: it was not the training
                    mlflow.end_run("KILLED")


def _begin(run: Run, spec: RunSpec) -> None:
    """All that is known of a run before its first step: whoever may not write is told before that."""
    if spec.run_id is None:
        mlflow.log_params(
            {key: str(value) for key, value in leaves(spec.params).items() if value is not None}
        )
        for use in (TRAINED_ON, JUDGED_ON):
            mlflow.log_input(_VersionDataset(spec.dataset, use), context=use)
        run.client.log_dict(run.run_id, leaves(spec.params), SETTINGS)
    version = {"dataset_version": spec.dataset.digest, "exclusions": spec.dataset.exclusions}
    git = {MLFLOW_GIT_COMMIT: found} if (found := commit()) else {}
    run.set_tags({**version, **git, PROCESS: this_process(), **spec.tags})


def _end_killed(client: MlflowClient, run_id: str, experiment_id: str) -> None:
    """Marks runs as killed whose process was on this machine and is no more: kill -9 leaves them running for ever."""
    running = every(client.search_runs, [experiment_id], "attributes.status = 'RUNNING'")
    for run in running:
        if run.info.run_id != run_id and has_ended(run.data.tags.get(PROCESS, "")):
            client.set_terminated(run.info.run_id, "KILLED")


def every(search: Callable[..., Any], *asked: Any) -> list[Any]:
    """All that a search of MLflow's finds, page by page."""
    found = search(*asked)
    everything = list(found)
    while found.token:
        found = search(*asked, page_token=found.token)
        everything += found
    return everything


@contextmanager
def _told(store: Store) -> Iterator[None]:
    """MLflow's refusals as RuntimeError that names the store."""
    try:
        yield
    except (MlflowException, RequestException) as error:  # the second from artefacts
        message = without_login(f"MLflow at {store.tracking_uri}: {str(error).splitlines()[0]}")
        raise RuntimeError(message) from None  # MLflow's own words hold the login


def _last_steps(client: MlflowClient, run_id: str) -> dict[str, int]:
    """Of each metric of a training, the last step that the run has."""
    names = [name for name in client.get_run(run_id).data.metrics if not name.startswith(SYSTEM)]
    return {name: max(one.step for one in client.get_metric_history(run_id, name)) for name in names}


@contextmanager
def system_metrics(run: Run) -> Iterator[None]:
    """This machine's CPU, memory, disk, network and NVIDIA GPUs as the run's metrics `system/...`, every 10 s.

    For trainings only: the imports of MLflow's thread can dead-lock with those of an evaluation (hence not by
    `start_run`).
    """
    monitor = SystemMetricsMonitor(run.run_id, resume_logging=True)
    monitor.start()
    try:
        yield
    finally:
        monitor.finish()


def has_run(store: Store, run_id: str) -> bool:
    """Whether `run_id` is there to go on with."""
    if store.database and not store.database.is_file():
        return False
    connect(store)
    try:
        return MlflowClient().get_run(run_id).info.lifecycle_stage == "active"
    except MlflowException:
        return False


class _VersionDataset(MlflowDataset):
    def __init__(self, source: VersionSource, name: str) -> None:
        self._version = source.digest
        super().__init__(source=source, name=name)

    def _compute_digest(self) -> str:
        return self._version[:MAX_DIGEST]


def clean_artifacts(store: Store, digests: Collection[str], clean: Callable[[str], str]) -> list[str]:
    """Text artefacts of runs on the versions `digests`, rewritten by `clean`; those that it changed."""
    connect(store)
    client = MlflowClient()
    changed = []
    for run_id in sorted(run for digest in digests for run in _runs_on(client, digest)):
        for path in [one.path for one in client.list_artifacts(run_id) if one.path.endswith(TEXTS)]:
            before = load_text(f"runs:/{run_id}/{path}")
            after = clean(before)
            if after != before:
                client.log_text(run_id, after, path)
                changed.append(f"{run_id}/{path}")
    return changed


def _runs_on(client: MlflowClient, digest: str) -> list[str]:
    experiments = [one.experiment_id for one in every(client.search_experiments)]
    found = every(client.search_runs, experiments, f"tags.dataset_version = '{digest}'", ViewType.ALL)
    return [run.info.run_id for run in found]


def connect(store: Store, *, is_new: bool = False) -> None:
    """Points MLflow to `store`, and opens the experiment there; where there is none yet only if it may be new.

    Raises ValueError where there is no store, or its experiment was deleted; RuntimeError where it does not answer.
    """
    artifacts.register()
    if database := store.database:
        _open(database, is_new=is_new)
    # MLflow leaves what it is told in the environment, where it would pass for the user's.
    with kept(ADDRESS, "MLFLOW_REGISTRY_URI", "MLFLOW_EXPERIMENT_ID"), _told(store), _impatient():
        mlflow.set_tracking_uri(store.tracking_uri)
        mlflow.set_registry_uri(store.tracking_uri)
        client = MlflowClient()
        found = mlflow.get_experiment_by_name(EXPERIMENT)
        if found is None:
            client.create_experiment(EXPERIMENT, store.artifacts)
        elif found.lifecycle_stage == LifecycleStage.DELETED:
            raise ValueError(deleted(store, found.experiment_id))
        experiment = mlflow.set_experiment(EXPERIMENT)
        for key in OF_EXPERIMENT.keys() - experiment.tags.keys():
            client.set_experiment_tag(experiment.experiment_id, key, OF_EXPERIMENT[key])


@contextmanager
def _impatient() -> Iterator[None]:
    """The first question to a server is not asked for minutes, unless the user says so."""
    with kept(*IMPATIENT):
        for name, value in IMPATIENT.items():
            os.environ.setdefault(name, value)
        yield


def _open(database: Path, *, is_new: bool) -> None:
    """The store below a root: made where it may be, and its addresses made relative where they are not."""
    if not database.is_file():
        if not is_new:
            raise ValueError(f"{database} is not there: no run was tracked under that root")
        database.parent.mkdir(parents=True, exist_ok=True)
        # By itself MLflow would put an absolute address into it.
        SqlAlchemyStore(f"{SQLITE}{database}", SCHEME).engine.dispose()
    if copy := relocate(database):
        log.info("the addresses in %s are relative now; what it was lies in %s", database, copy.name)


def leaves(values: Any, prefix: str = "") -> dict[str, Any]:
    """What a nest of mappings holds, by its path."""
    if not isinstance(values, Mapping):
        return {prefix: values}
    nested = (leaves(value, f"{prefix}.{key}" if prefix else str(key)) for key, value in values.items())
    return {key: value for part in nested for key, value in part.items()}


def numbers(values: Any) -> dict[str, float]:
    """Finite numbers by their path; lists and words are left out."""
    found = {
        k: v for k, v in leaves(values).items() if isinstance(v, int | float) and not isinstance(v, bool)
    }
    return {key: float(value) for key, value in found.items() if math.isfinite(value)}
