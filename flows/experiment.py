"""run_experiment: dataset version -> train -> evaluate -> report -> register -> promote, as one MLflow run."""

import json
import logging
import os
import shutil
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from prefect import flow

from flows.begun import Note, begun
from flows.categories import thinned, with_labels
from flows.pipeline import BuildOptions, Pipeline, resolve
from schemas.manifest import digest_of, write_text
from schemas.shard import Version, published, read_exclusions, read_version
from tasks.funnel import measure_funnel
from tasks.labels import machine_ids
from tasks.leases import lease, training_mark
from tasks.sources import studio
from tasks.stages import stage_task
from training import tracking
from training.checkpoint import ResumeError, load_model
from training.data import Dataset, open_dataset
from training.evaluation import correspondence, retrieval, synchrony
from training.history import History
from training.loop import BEST, TrainConfig, train
from training.models import load
from training.models.sync import Sync
from training.negatives import Negatives
from training.report import ReportInputs, write_report
from training.sampling import Sampling

log = logging.getLogger(__name__)

REGISTERED = "mcgurk-avc"
REPORT, HISTORY = "report.html", "history.jsonl"
RUN_NAME = 12  # characters of the run's id
STREAMED_STEPS = 4  # of a clip that was fetched whole
EVERY_S = 5.0  # between two lines about a training


@dataclass(frozen=True)
class ExperimentOptions:
    """What a user asks of an experiment; what is None comes from the root's preset."""

    root: str
    dataset_version: str | None = None  # None: the latest
    preset: str | None = None
    model: str | None = None
    seconds: float | None = None
    steps: int | None = None  # instead of seconds
    seed: int | None = None
    state: str | None = None
    with_media: bool | None = None  # None: only what the studio generated goes into pages
    settings: Mapping[str, Any] = field(default_factory=dict)  # others of `presets.TrainSettings`


@dataclass(frozen=True)
class Experiment:
    """An experiment that is about to run."""

    pipeline: Pipeline
    version: Version
    store: tracking.Store
    with_media: bool
    exclude: frozenset[str] = frozenset()  # the version's exclusion list

    def dataset(self) -> Dataset:
        """The version without what its list excludes, and of the rest what the settings choose."""
        dataset, settings = (
            open_dataset(self.pipeline.root, self.version, self.exclude),
            self.pipeline.config.train,
        )
        for chosen, splits in ((settings.trained_on, ("train", "val")), (settings.judged_on, ("eval",))):
            if chosen:
                mids = machine_ids(chosen, self.pipeline.labels, self.pipeline.ontology)
                dataset = with_labels(dataset, mids, splits)
        return dataset if settings.clips_share == 1.0 else thinned(dataset, settings.clips_share)

    @property
    def identity(self) -> str:
        """The digest of all that the result depends on: the same command goes on with the same training."""
        return digest_of(self.version.digest, sorted(self.exclude), self.pipeline.config.train)

    def folder(self, run: tracking.Run) -> Path:
        """Where checkpoint, results and report of one run go."""
        return self.pipeline.here / "reports" / run.run_id[:RUN_NAME]


@dataclass(frozen=True)
class Groups:
    """What counts as the same kind when a model is evaluated: the studio's families, else the first label."""

    of_video: Mapping[str, str] | None
    held_out: frozenset[str]
    names: Mapping[str, str]


@flow(name="run-experiment", persist_result=False)
def run_experiment(options: ExperimentOptions) -> dict[str, Any]:
    """Trains and evaluates on one dataset version; returns results, report and the gate's verdict."""
    experiment = prepare(options)
    # Marked, so that `prune` leaves the version alone; the mark ends with this process.
    with training_mark(experiment.pipeline.state, experiment.version.digest):
        read_version(experiment.pipeline.root, experiment.version.digest)
        return _run(experiment)


def _run(experiment: Experiment) -> dict[str, Any]:
    with begun(experiment.pipeline.state, experiment.identity) as note:
        earlier = note.run_id
        try:
            return _tracked(experiment, note)
        except ResumeError as error:
            if earlier is None:
                raise
            # Other code began it, with other defaults or another format: it would be refused for ever.
            log.warning("run %s can't be gone on with, and a new one begins: %s", earlier, error)
            note.drop()
            return _tracked(experiment, note)


def _tracked(experiment: Experiment, note: Note) -> dict[str, Any]:
    with tracking.experiment_run(experiment.store, _run_spec(experiment, note)) as run:
        note.write(run.run_id)
        history = stage_task("train", _train)(experiment, run)
        results = stage_task("evaluate", _evaluate)(experiment, run, history)
        # What `forget` must find of this run is there before it looks, or is never made.
        with lease(experiment.pipeline.state, "pages"):
            _require_version(experiment, run)
            run.log_results(results)
            for name in (REPORT, BEST):
                run.log_artifact(experiment.folder(run) / name)
            verdict = stage_task("promote", _promote)(experiment, run, results)
    return {
        **results,
        "report": str(experiment.folder(run) / REPORT),
        "run_id": run.run_id,
        "steps": int(history[-1]["step"]),
        "train_s": history[-1]["seconds"],
        **asdict(verdict),
    }


def _run_spec(experiment: Experiment, note: Note) -> tracking.RunSpec:
    """A new run, or the one that an earlier process left unfinished."""
    settings, version = experiment.pipeline.config.train, experiment.version
    exclusions = digest_of(sorted(experiment.exclude))
    source = tracking.VersionSource(version.digest, str(experiment.pipeline.root), exclusions)
    earlier = note.run_id if note.run_id and tracking.has_run(experiment.store, note.run_id) else None
    if earlier:
        log.info("going on with run %s, which was not finished", earlier)
    name = f"{settings.model.replace('/', '-')}-{version.digest[:8]}"
    return tracking.RunSpec(name, asdict(settings), source, {"model": settings.model}, earlier)


def assist(options: ExperimentOptions) -> None:
    """What a rank of a training under torchrun does that is not the first: it trains, and nothing else."""
    experiment = prepare(options)
    for _ in _steps(experiment, Path()):  # the first rank says where checkpoints lie
        pass


def _require_version(experiment: Experiment, run: tracking.Run) -> None:
    """Raises RuntimeError, and leaves nothing of the run, where its version was taken down meanwhile."""
    root, digest = experiment.pipeline.root, experiment.version.digest
    if digest not in published(root):
        shutil.rmtree(experiment.folder(run), ignore_errors=True)
        raise RuntimeError(f"version {digest[:12]} was taken down while it was trained on: train again")


def prepare(options: ExperimentOptions) -> Experiment:
    """The experiment that `options` ask for. Raises ValueError for a version or a model that is not there."""
    pipeline = resolve(BuildOptions(options.root, options.preset, state=options.state))
    asked = {name: getattr(options, name) for name in ("model", "seconds", "steps", "seed")}
    given = {name: value for name, value in asked.items() if value is not None}
    settings = replace(pipeline.config.train, **(given | dict(options.settings)))
    pipeline = replace(pipeline, config=replace(pipeline.config, train=settings))
    version = read_version(pipeline.root, options.dataset_version)
    store = tracking.Store.of(pipeline.here)
    with_media = pipeline.is_studio if options.with_media is None else options.with_media
    return Experiment(pipeline, version, store, with_media, read_exclusions(pipeline.root, version.digest))


def _train(experiment: Experiment, run: tracking.Run) -> list[dict[str, float]]:
    """The metrics of every step; the best weights are in the experiment's folder."""
    folder = experiment.folder(run)
    history = History(folder / HISTORY)
    with tracking.system_metrics(run):
        for metrics in _told(_steps(experiment, folder)):
            run.log_step(metrics)
            history.add(metrics)
    run.flush()
    return history.steps


def _steps(experiment: Experiment, folder: Path) -> Iterator[dict[str, float]]:
    settings = experiment.pipeline.config.train
    seconds = None if settings.steps else settings.seconds
    name, _, preset = settings.model.partition("/")
    own = getattr(load(name), "TRAINING", {})  # what a model's training has otherwise than others'
    usual = Sampling()
    if experiment.dataset().shards.is_remote:
        usual = usual.with_steps(STREAMED_STEPS)
    sampling = replace(own.get("sampling", usual), classes_per_batch=settings.classes_per_batch)
    negatives = Negatives(settings.negatives)  # pyright: ignore[reportArgumentType]
    asked = {"steps": settings.steps, "seconds": seconds, "seed": settings.seed}
    config = TrainConfig(**{"negatives": negatives, **own, "sampling": sampling, **asked})
    chosen = load(name).PRESETS[preset] if preset else None
    return train(experiment.dataset(), name, chosen, config, folder)


def _told(steps: Iterator[dict[str, float]]) -> Iterator[dict[str, float]]:
    """The steps, with a line about them every few seconds."""
    spoke, auc = time.monotonic(), float("nan")
    for metrics in steps:
        auc = metrics.get("val_auc", auc)
        if time.monotonic() - spoke >= EVERY_S:
            spoke, share = time.monotonic(), 100 * metrics["progress"]
            told = "train: step %d (%.0f %%), loss %.3f, validation AUC %.3f"
            log.info(told, metrics["step"], share, metrics["loss"], auc)
        yield metrics


def _evaluate(experiment: Experiment, run: tracking.Run, history: list[dict[str, float]]) -> dict[str, Any]:
    """The answers of every evaluation, beside the report that shows them."""
    dataset, model = experiment.dataset(), load_model(experiment.folder(run) / BEST)
    groups = groups_of(experiment.pipeline)
    log.info("evaluate: correspondence and retrieval on held-out videos")
    results = {
        "correspondence": correspondence.evaluate(model, dataset, groups.of_video, held_out=groups.held_out),
        "retrieval": retrieval.evaluate(
            model, dataset, groups.of_video, num_steps=1 if model.is_early_fusion else 5
        ),
    }
    if isinstance(model, Sync):
        results["synchrony"] = synchrony.evaluate(model, dataset, groups.of_video)
    write_text(experiment.folder(run) / "results.json", json.dumps(results, indent=1, sort_keys=True) + "\n")
    media = {"model": model, "dataset": dataset} if experiment.with_media else {}
    page = ReportInputs(
        correspondence=results["correspondence"],
        retrieval=results["retrieval"],
        history=history,
        funnel=measure_funnel(experiment.pipeline.root),
        conditions=_conditions(experiment, dataset, history),
        with_media=experiment.with_media,
        groups=groups.of_video,
        group_names=groups.names,
        **media,
    )
    log.info("report: %s", write_report(experiment.folder(run) / REPORT, page))
    return results


def _conditions(experiment: Experiment, dataset: Dataset, history: list[dict[str, float]]) -> dict[str, Any]:
    settings = experiment.pipeline.config.train
    return {
        "dataset version": experiment.version.digest,
        "model": settings.model,
        "training clips": len(dataset.split("train")),
        "excluded near-duplicates": len(experiment.exclude),
        "steps": int(history[-1]["step"]),
        "training seconds": round(history[-1]["seconds"]),
        "seed": settings.seed,
        "cores": os.cpu_count(),
    }


def groups_of(pipeline: Pipeline) -> Groups:
    """The ground truth of the studio's scenes, joined by video id; nothing for other sources."""
    path = studio.truth_of(pipeline.state)
    names = {mid: name for mid, (_, name) in pipeline.labels.items()}
    if not (pipeline.is_studio and path.is_file()):
        return Groups(None, frozenset(), names)
    rows = pq.read_table(path, columns=["video_id", "family", "held_out"]).to_pylist()
    held_out = frozenset(row["family"] for row in rows if row["held_out"])
    return Groups({row["video_id"]: row["family"] for row in rows}, held_out, {})


def _promote(experiment: Experiment, run: tracking.Run, results: dict[str, Any]) -> tracking.Verdict:
    """Registers the model and lets the gate compare it with the champion on the same evaluation."""
    asked = results["correspondence"]
    log.info("register: exporting the model (takes some seconds)")
    version = tracking.register(
        run,
        load_model(experiment.folder(run) / BEST),
        REGISTERED,
        score=asked["random"]["auc"]["value"],
        evaluation_digest=asked["evaluation_digest"],
    )
    return tracking.promote(experiment.store, REGISTERED, version)
