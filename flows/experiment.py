"""run_experiment: dataset version -> train -> evaluate -> report -> register -> promote, as one MLflow run."""

import logging
import math
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

from prefect import flow

from flows.begun import Note, begun
from flows.categories import thinned, with_labels
from flows.evaluation import REPORT, evaluate, measured, require_judges
from flows.pipeline import BuildOptions, Pipeline, resolve
from flows.presets import TrainSettings
from flows.runs import noted, returned, take_over
from flows.settings import setting
from flows.trainings import Training, own_training, planned
from schemas.manifest import digest_of
from schemas.shard import Version, published, read_exclusions, read_version
from tasks.labels import machine_ids
from tasks.leases import lease, training_mark
from tasks.stages import stage_task
from training import registry, tracking
from training.checkpoint import ResumeError, load_model
from training.data import Dataset, open_dataset
from training.gate import Verdict
from training.history import History
from training.progress import BEST
from training.ranks import world_size

log = logging.getLogger(__name__)

REGISTERED = "mcgurk-avc"
HISTORY = "history.jsonl"
CARD = "card.md"  # the dataset version's, as the run's artefact
OF_DATA = (
    "model",
    "clips_share",
    "trained_on",
    "judged_on",
)  # settings that say what is trained, and on which clips
RUN_NAME = 12  # characters of the run's id
EVERY_S = 5.0  # between two lines about a training
LEAVING_S = 60.0  # more than it takes to leave a run that can't be gone on with


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
    is_offered: bool = True  # for registration and promotion

    def settled(self, usual: TrainSettings) -> TrainSettings:
        """The root's settings with those that were asked for: by name, before `settings`."""
        asked = {name: getattr(self, name) for name in ("model", "seconds", "steps", "seed")}
        given = {name: value for name, value in asked.items() if value is not None}
        others = {name: setting(name, value) for name, value in self.settings.items()}
        return replace(usual, **(others | given))


@dataclass(frozen=True)
class Experiment:
    """An experiment that is about to run."""

    pipeline: Pipeline
    version: Version
    store: tracking.Store
    with_media: bool
    exclude: frozenset[str] = frozenset()  # the version's exclusion list
    is_offered: bool = True

    def dataset(self) -> Dataset:
        """The version without what its list excludes, and of the rest what the settings choose."""
        dataset, settings = (
            open_dataset(self.pipeline.root, self.version, self.exclude),
            self.pipeline.config.train,
        )
        for chosen, splits in ((settings.trained_on, ("train", "val")), (settings.judged_on, ("eval",))):
            if chosen:
                dataset = with_labels(dataset, self._mids(chosen, dataset), splits)
        return dataset if settings.clips_share == 1.0 else thinned(dataset, settings.clips_share)

    def _mids(self, chosen: Sequence[str], dataset: Dataset) -> frozenset[str]:
        """The labels that names stand for; where no table names a dataset's labels, they are names already."""
        others = set(dataset.clips.names["labels"].combine_chunks().flatten().unique().to_pylist())
        return machine_ids(chosen, self.pipeline.labels, self.pipeline.ontology, others)

    @property
    def own_training(self) -> dict[str, Any]:
        """What the model's training has otherwise than others'."""
        return own_training(self.pipeline.config.train.model.partition("/")[0])

    @property
    def identity(self) -> str:
        """The digest of all that the result depends on: the same command goes on with the same training."""
        return digest_of(self.version.digest, sorted(self.exclude), self.pipeline.config.train)

    def folder(self, run: tracking.Run) -> Path:
        """Where checkpoint, results and report of one run go."""
        return self.pipeline.here / "reports" / run.run_id[:RUN_NAME]


@flow(name="run-experiment", persist_result=False)
def run_experiment(options: ExperimentOptions) -> dict[str, Any]:
    """Trains and evaluates on one dataset version; returns results, report and the gate's verdict."""
    experiment = prepare(options)
    # Marked, so that `prune` leaves the version alone; the mark ends with this process.
    state = experiment.pipeline.state
    take_over(state)
    with noted(state), training_mark(state, experiment.version.digest):
        read_version(experiment.pipeline.root, experiment.version.digest)
        return returned(_run(experiment))


def _run(experiment: Experiment) -> dict[str, Any]:
    with begun(experiment.pipeline.state, experiment.identity) as note:
        earlier = note.run_id
        try:
            return _tracked(experiment, note)
        except ResumeError as error:
            if earlier is None:
                raise
            # Other code began it, with other defaults or another format: it would be refused for ever.
            note.drop()
            if world_size() > 1:  # the other ranks have ended
                raise ResumeError(f"{error}: the same command begins a new run") from error
            log.warning("run %s can't be gone on with, and a new one begins: %s", earlier, error)
            return _tracked(experiment, note)


def _tracked(experiment: Experiment, note: Note) -> dict[str, Any]:
    training = planned(experiment.dataset(), experiment.pipeline.config.train)
    require_judges(experiment, training)
    with tracking.experiment_run(experiment.store, _run_spec(experiment, training, note)) as run:
        note.write(run.run_id)
        if experiment.is_offered:
            registry.probe(run, REGISTERED)
        history = stage_task("train", _train)(training, experiment.folder(run), run)
        results = stage_task("evaluate", evaluate)(experiment, run, history)
        # What `forget` must find of this run is there before it looks, or is never made.
        with lease(experiment.pipeline.state, "pages"):
            _require_version(experiment, run)
            run.log_results(results)
            for name in (REPORT, BEST):
                run.log_artifact(experiment.folder(run) / name)
            _describe(experiment, run)
            verdict = stage_task("promote", _promote)(experiment, run, results)
    return {
        **results,
        "report": str(experiment.folder(run) / REPORT),
        "run_id": run.run_id,
        "steps": int(history[-1]["step"]),
        "train_s": history[-1]["seconds"],
        **asdict(verdict),
    }


def _run_spec(experiment: Experiment, training: Training, note: Note) -> tracking.RunSpec:
    """A new run, or the one that an earlier process left unfinished."""
    settings, version = experiment.pipeline.config.train, experiment.version
    exclusions = digest_of(sorted(experiment.exclude))
    source = tracking.VersionSource(version.digest, str(experiment.pipeline.root), exclusions)
    earlier = note.run_id if note.run_id and tracking.has_run(experiment.store, note.run_id) else None
    if earlier:
        log.info("going on with run %s, which was not finished", earlier)
    name = f"{settings.model.replace('/', '-')}-{version.digest[:8]}-seed{settings.seed}"
    params = {} if earlier else {**{one: getattr(settings, one) for one in OF_DATA}, **training.params}
    return tracking.RunSpec(name, params, source, {"model": settings.model}, earlier)


def _describe(experiment: Experiment, run: tracking.Run, version: str | None = None) -> None:
    """Keeps the data card beside a run, and says on the run's page what can be opened."""
    card = experiment.pipeline.root / "versions" / f"{experiment.version.digest}.md"
    links = {"report": run.artifact_page(REPORT)}
    if card.is_file():
        run.log_text(card.read_text(), CARD)
        links["data card"] = run.artifact_page(CARD)
    if version:
        links[f"{REGISTERED} version {version}"] = f"#/models/{REGISTERED}/versions/{version}"
    run.describe(links)


def assist(options: ExperimentOptions) -> None:
    """What a rank of a training under torchrun does that is not the first: it trains, and nothing else."""
    experiment = prepare(options)
    training = planned(experiment.dataset(), experiment.pipeline.config.train)
    try:
        for _ in training.steps(Path()):  # the first rank says where checkpoints lie
            pass
    except ResumeError:
        # The first rank leaves that run, and ends. Torchrun would kill it in the middle of that if this one was first.
        time.sleep(LEAVING_S)
        raise


def _require_version(experiment: Experiment, run: tracking.Run) -> None:
    """Raises RuntimeError, and leaves nothing of the run, where its version was taken down meanwhile."""
    root, digest = experiment.pipeline.root, experiment.version.digest
    if digest not in published(root):
        shutil.rmtree(experiment.folder(run), ignore_errors=True)
        raise RuntimeError(f"version {digest[:12]} was taken down while it was trained on: train again")


def prepare(options: ExperimentOptions) -> Experiment:
    """The experiment that `options` ask for. Raises ValueError for a version or a model that is not there."""
    pipeline = resolve(BuildOptions(options.root, options.preset, state=options.state))
    settings = options.settled(pipeline.config.train)
    pipeline = replace(pipeline, config=replace(pipeline.config, train=settings))
    version = read_version(pipeline.root, options.dataset_version)
    store = tracking.Store.of(pipeline.here)
    with_media = pipeline.is_studio if options.with_media is None else options.with_media
    excluded = read_exclusions(pipeline.root, version.digest)
    return Experiment(pipeline, version, store, with_media, excluded, options.is_offered)


def _train(training: Training, folder: Path, run: tracking.Run) -> list[dict[str, float]]:
    """The metrics of every step; the best weights are in the folder."""
    history = History(folder / HISTORY)
    with tracking.system_metrics(run):
        steps = _told(training.steps(folder))
        first = next(steps, None)
        for earlier in history.before(first["step"] if first else math.inf):
            run.log_step(earlier)  # what a kill kept from being sent
        for metrics in chain([first] if first else [], steps):
            run.log_step(metrics)
            history.add(metrics)
    run.flush()
    return history.steps


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


def _promote(experiment: Experiment, run: tracking.Run, results: dict[str, Any]) -> Verdict:
    """Registers the model and lets the gate compare it with the champion on the same evaluation."""
    if not experiment.is_offered:
        return Verdict(False, "not offered: one of a comparison; train it alone to register it")
    asked = results["correspondence"]
    log.info("register: exporting the model (takes some seconds)")
    version = registry.register(
        run,
        load_model(experiment.folder(run) / BEST),
        REGISTERED,
        score=asked["random"]["auc"]["value"],
        evaluation_digest=asked["evaluation_digest"],
    )
    _describe(experiment, run, version)
    lacking = registry.measure_champion(
        experiment.store, REGISTERED, asked["evaluation_digest"], partial(measured, experiment)
    )
    verdict = registry.promote(experiment.store, REGISTERED, version)
    return replace(verdict, reason=f"{verdict.reason} ({lacking})") if lacking else verdict
