"""Runs in MLflow: what a training and its evaluations store there, and where they come from.

Besides this module, only `connection`, `registry` and `program` import MLflow.
"""

import json
import math
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import mlflow
from mlflow.artifacts import load_text
from mlflow.data.dataset import Dataset as MlflowDataset
from mlflow.data.dataset_source import DatasetSource
from mlflow.entities import Metric, ViewType
from mlflow.exceptions import MlflowException
from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor
from mlflow.tracking import MlflowClient
from mlflow.utils.mlflow_tags import MLFLOW_GIT_COMMIT, MLFLOW_RUN_NOTE

from schemas.errors import DataError
from schemas.files import write_text
from schemas.identity import Identity
from schemas.storage import make_folder
from training.tracking.connection import FIRST, all_pages, connect, refusals_named, without_bars
from training.tracking.store import Store

MAX_DIGEST = 36  # characters that MLflow accepts; the tag `dataset_version` has all of them
SYSTEM = "system/"  # prefix of the names of this machine's metrics
# How a run uses its dataset. MLflow groups charts by the part of a metric's name before the slash.
TRAINED_ON = "training"
JUDGED_ON = "evaluation"
PROCESS = "process"  # a tag of a run: where it runs
SETTINGS = "settings.json"  # artefact of every run
MAX_BATCH = 1000  # metrics in one request, by MLflow's REST limit
REPOSITORY = Path(__file__).resolve().parents[2]
GIT_S = 10.0
TEXTS = (".html", ".json", ".txt", ".csv", ".md")  # artefacts that may name or show a clip


Metrics = dict[str, float]


class History:
    """The metrics of every step in a file, so that they survive the process.

    If a kill sent a training back, the steps that it had reached beyond that point no longer count.
    """

    def __init__(self, path: Path) -> None:
        """Reads the content of `path`. Raises DataError if it is not JSON with one line per step."""
        self._path = path
        self.steps: list[Metrics] = []  # in their order
        lines = path.read_text().split("\n") if path.is_file() else [""]
        for number, line in enumerate(lines[:-1], 1):  # the last has no line end: it is empty or cut off
            self._keep(_metrics(path, number, line))
        if lines[-1]:
            write_text(path, "".join(f"{line}\n" for line in lines[:-1]))

    def add(self, metrics: Metrics) -> None:
        """Keeps the metrics of one step."""
        self._keep(metrics)
        make_folder(self._path.parent)
        with self._path.open("a") as file:
            file.write(json.dumps(metrics) + "\n")

    def before(self, step: float) -> Iterator[Metrics]:
        """The metrics of earlier steps."""
        return (metrics for metrics in self.steps if metrics["step"] < step)

    def _keep(self, metrics: Metrics) -> None:
        while self.steps and self.steps[-1]["step"] >= metrics["step"]:
            self.steps.pop()
        self.steps.append(metrics)


def _metrics(path: Path, number: int, line: str) -> Metrics:
    try:
        return json.loads(line)
    except ValueError as error:
        raise DataError(
            f"line {number} of {path} is not JSON ({error}): move the folder away to train from the beginning"
        ) from error


class Run:
    """One open run, to which metrics of a training and results of evaluations are logged.

    Every step is logged once: for each metric, the steps up to `logged`, which an earlier process sent, are left out.
    Times are those of the training, without its pauses.
    """

    def __init__(
        self, client: MlflowClient, run_id: str, digest: str, logged: Mapping[str, int] | None = None
    ) -> None:
        self.client = client
        self.run_id = run_id
        self._logged = dict(logged or {})
        self._digest = digest[:MAX_DIGEST]
        info = client.get_run(run_id).info
        self._start_ms = info.start_time
        self.page = f"#/experiments/{info.experiment_id}/runs/{run_id}"  # relative to MLflow's address
        self._queue: list[Metric] = []
        self._results: list[Metric] = []  # of the evaluations

    def log_step(self, metrics: Mapping[str, float]) -> None:
        """Queues one step's metrics, and sends the queue when it is long: one call per metric would take 18 ms."""
        step = int(metrics["step"])
        now_ms = self._start_ms + int(metrics.get("seconds", 0.0) * 1000)
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
        if len(self._queue) + len(metrics) > MAX_BATCH:  # a kill must not split a step
            self.flush()
        self._logged |= dict.fromkeys(metrics, step)
        self._queue += [Metric(key, float(value), now_ms, step) for key, value in metrics.items()]

    def log_results(self, results: Mapping[str, Any]) -> None:
        """Logs each number as a metric (`evaluation/correspondence.random.auc.value`), and `results.json` whole."""
        now_ms = int(time.time() * 1000)
        self._results = [
            Metric(f"{JUDGED_ON}/{key}", value, now_ms, 0) for key, value in numbers(results).items()
        ]
        self._send(self._results)
        self.client.log_text(self.run_id, json.dumps(results, indent=1, sort_keys=True), "results.json")

    def log_results_of(self, model_id: str) -> None:
        """Logs the results to a logged model too, with the dataset's digest, for which runs have no field."""
        of_model = {"model_id": model_id, "dataset_name": JUDGED_ON, "dataset_digest": self._digest}
        self._send(
            [
                Metric(found.key, found.value, found.timestamp, found.step, **of_model)
                for found in self._results
            ]
        )

    def log_text(self, text: str, name: str) -> None:
        """Stores a text as an artefact of the run."""
        self.client.log_text(self.run_id, text, name)

    def log_artifact(self, path: Path) -> None:
        """Stores a file as an artefact of the run."""
        self.client.log_artifact(self.run_id, str(path))

    def describe(self, links: Mapping[str, str]) -> None:
        """Sets the run's description to a list of links: name -> address."""
        lines = [f"- [{name}]({address})" for name, address in links.items()]
        self.set_tags({MLFLOW_RUN_NOTE: "\n".join(lines)})

    def artifact_page(self, name: str) -> str:
        """The address, relative to MLflow's, of the page of one of the run's artefacts."""
        return f"{self.page}/artifactPath/{name}"

    def set_tags(self, tags: Mapping[str, Any]) -> None:
        """Sets tags of the run."""
        for key, value in tags.items():
            self.client.set_tag(self.run_id, key, str(value))

    def flush(self) -> None:
        """Sends the queue."""
        self._send(self._queue)
        self._queue = []

    def _send(self, metrics: Sequence[Metric]) -> None:
        for start in range(0, len(metrics), MAX_BATCH):
            self.client.log_batch(self.run_id, metrics=metrics[start : start + MAX_BATCH])


class VersionSource(DatasetSource):
    """A dataset version as MLflow identifies it: by digest and root, and by the digest of what was excluded."""

    def __init__(self, digest: str, root: str, exclusions: str = "") -> None:
        self.digest = digest
        self.root = root
        self.exclusions = exclusions

    @staticmethod
    def _get_source_type() -> str:
        return "mcgurk"

    def load(self, **_: Any) -> str:
        """The root of the version."""
        return self.root

    @staticmethod
    def _can_resolve(_raw_source: Any) -> bool:
        return False

    @classmethod
    def _resolve(cls, raw_source: Any) -> "VersionSource":
        raise NotImplementedError(f"{raw_source!r} is not resolved to a dataset version")

    def to_dict(self) -> dict[str, Any]:
        """The source in plain values."""
        return {"digest": self.digest, "root": self.root, "exclusions": self.exclusions}

    @classmethod
    def from_dict(cls, source_dict: dict[str, Any]) -> "VersionSource":
        """The source from plain values."""
        return cls(**source_dict)


@dataclass(frozen=True)
class RunSpec:
    """Name, parameters and data of a run; `run_id` names an unfinished run to resume."""

    name: str
    params: Mapping[str, Any]
    dataset: VersionSource
    tags: Mapping[str, Any]
    run_id: str | None = None


@contextmanager
def experiment_run(store: Store, spec: RunSpec) -> Iterator[Run]:
    """An MLflow run, new or resumed: marked as failed if the block raises, as killed if a signal ends it.

    Raises OperationalError, before the block begins, if the store cannot be reached or written.
    """
    with refusals_named(store):
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
                if not isinstance(error, Exception | None):  # a signal ended it; the training is not to blame
                    mlflow.end_run("KILLED")


def _begin(run: Run, spec: RunSpec) -> None:
    """Logs everything that is known before the first step, so that missing rights show early."""
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
    """Marks runs as killed whose process on this machine has ended: after kill -9 they would seem to run forever."""
    running = all_pages(client.search_runs, [experiment_id], "attributes.status = 'RUNNING'")
    for run in running:
        if run.info.run_id != run_id and has_ended(run.data.tags.get(PROCESS, "")):
            client.set_terminated(run.info.run_id, "KILLED")


def _last_steps(client: MlflowClient, run_id: str) -> dict[str, int]:
    """The last logged step of each of the run's metrics."""
    names = [name for name in client.get_run(run_id).data.metrics if not name.startswith(SYSTEM)]
    return {name: max(metric.step for metric in client.get_metric_history(run_id, name)) for name in names}


@contextmanager
def system_metrics(run: Run) -> Iterator[None]:
    """This machine's CPU, memory, disk, network and NVIDIA GPUs as the run's metrics `system/...`, every 10 s.

    For trainings only, and therefore not started by `start_run`: the imports of MLflow's thread can deadlock with those
    of an evaluation.
    """
    monitor = SystemMetricsMonitor(run.run_id, resume_logging=True)
    monitor.start()
    try:
        yield
    finally:
        monitor.finish()


def has_run(store: Store, run_id: str) -> bool:
    """Whether `run_id` exists and can be resumed."""
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
    """Rewrites text artefacts of runs on the versions `digests` with `clean`; returns those that changed."""
    connect(store)
    client = MlflowClient()
    changed = []
    for run_id in sorted(run for digest in digests for run in _runs_on(client, digest)):
        for path in [file.path for file in client.list_artifacts(run_id) if file.path.endswith(TEXTS)]:
            with without_bars():
                before = load_text(f"runs:/{run_id}/{path}")
            after = clean(before)
            if after != before:
                client.log_text(run_id, after, path)
                changed.append(f"{run_id}/{path}")
    return changed


def _runs_on(client: MlflowClient, digest: str) -> list[str]:
    experiments = [experiment.experiment_id for experiment in all_pages(client.search_experiments)]
    found = all_pages(client.search_runs, experiments, f"tags.dataset_version = '{digest}'", ViewType.ALL)
    return [run.info.run_id for run in found]


def leaves(values: Any, prefix: str = "") -> dict[str, Any]:
    """The values in nested mappings, by their path joined with dots."""
    if not isinstance(values, Mapping):
        return {prefix: values}
    nested = (leaves(value, f"{prefix}.{key}" if prefix else str(key)) for key, value in values.items())
    return {key: value for part in nested for key, value in part.items()}


def numbers(values: Any) -> dict[str, float]:
    """Finite numbers by their path; lists and texts are left out."""
    found = {
        k: v for k, v in leaves(values).items() if isinstance(v, int | float) and not isinstance(v, bool)
    }
    return {key: float(value) for key, value in found.items() if math.isfinite(value)}


def commit() -> str | None:
    """The commit of the checkout that this code runs from; None for an installed copy, or without git."""
    if not (REPOSITORY / ".git").exists():
        return None
    try:
        done = subprocess.run(  # noqa: S603  (our own command)
            ["git", "-C", str(REPOSITORY), "rev-parse", "HEAD"],  # noqa: S607  (the user's own git, by their PATH)
            capture_output=True,
            text=True,
            timeout=GIT_S,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def this_process() -> str:
    """This process, as in the tag `process` of a run."""
    return json.dumps(asdict(Identity.own()))


def has_ended(process: str) -> bool:
    """Whether a process that a run names was on this machine and has ended; False for other machines."""
    try:
        return not Identity.read(json.loads(process)).may_live
    except (ValueError, KeyError, TypeError):  # a run of another program, or of an earlier version
        return False
