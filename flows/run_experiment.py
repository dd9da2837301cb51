"""run_experiment: dataset version -> train -> evaluate -> report -> register -> promote, as one MLflow run."""

import logging
import math
import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, replace
from datetime import UTC, datetime
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

from prefect import flow
from prefect.runtime import flow_run
from prefect.states import Completed

from flows.builds.overview import renew_overview
from flows.builds.signs import verdict_news
from flows.experiments.due import recorded, why_done
from flows.experiments.evaluate import evaluate, gate_score, measure_checkpoint, require_evaluations
from flows.experiments.experiment import Experiment, ExperimentOptions, prepare
from flows.experiments.fit import Training, planned
from flows.experiments.run_marker import RunMarker, run_marker
from flows.run_page import followed, mlflow_place, named, show_links, show_progress, sound_alarms
from flows.services.runs import is_scheduled, noted_run, record_result, take_over
from flows.task_runs import task_of
from schemas.errors import McgurkError, OperationalError
from schemas.files import digest_of
from schemas.layout import RUN_REPORT
from schemas.shard import published, read_version
from schemas.storage import remove_folder
from tasks.leases import lease, training_mark
from training.evaluation import Evaluation, headlines, results_json
from training.evaluation.correspondence import Correspondence
from training.learning.ranks import world_size
from training.learning.state import BEST
from training.models import card, load_model
from training.networks.checkpoint import ResumeError
from training.tracking import registry, runs
from training.tracking.registry import Verdict

log = logging.getLogger(__name__)

REGISTERED = "mcgurk-avc"
HISTORY = "history.jsonl"
CARD = "card.md"  # of the dataset version, as the run's artefact
OF_DATA = ("model", "clips_share", "trained_on", "judged_on")  # settings: what is trained, and on which clips
EVERY_S = 5.0  # between two log lines about a training


def _run_name() -> str:
    """`train contrastive on 3f2a91c0 seed 0 2026-11-28 21:17`: the model, and the version's first digits."""
    try:
        experiment = prepare(flow_run.parameters["options"])
    except (McgurkError, OSError, ValueError):  # the run itself says what is wrong
        return named("train")
    settings = experiment.pipeline.config.train
    return named("train", settings.model, "on", experiment.version.digest[:8], f"seed {settings.seed}")


@flow(name="run-experiment", flow_run_name=_run_name, persist_result=False)
def run_experiment(options: ExperimentOptions) -> Any:
    """Trains and evaluates on one dataset version; returns results, report and the gate's verdict.

    With `only_new` it ends at once, as `Skipped`, if the newest version was trained on already.
    """
    experiment = prepare(options)
    state = experiment.pipeline.state
    version = experiment.version
    if options.only_new and (done := why_done(state, version)):
        log.info("%s", done)
        return Completed(name="Skipped", message=done)
    take_over(state)
    # Marked, so that `prune` leaves the version alone; the mark ends with this process.
    with noted_run(state), training_mark(state, version.digest), _recorded(experiment), followed():
        read_version(experiment.pipeline.root, version.digest)
        try:
            done = _run(experiment)
            _tell_verdict(experiment, done)
            return record_result(done)
        finally:
            renew_overview(experiment.pipeline.root, state)


def _tell_verdict(experiment: Experiment, done: Mapping[str, Any]) -> None:
    """Sends alarms when the gate starts to refuse or promotes again; a user who trains by hand sees the verdict."""
    if is_scheduled() and experiment.is_offered:
        pipeline = experiment.pipeline
        refusal = "" if done["is_promoted"] else f"{done['reason']} ({done['report']})"
        sound_alarms(verdict_news(pipeline.root, pipeline.state, datetime.now(UTC), refusal))


def _recorded(experiment: Experiment) -> AbstractContextManager[None]:
    """Records that the version is trained on, unless the training is part of a comparison."""
    is_offered = experiment.is_offered
    return recorded(experiment.pipeline.state, experiment.version) if is_offered else nullcontext()


def _run(experiment: Experiment) -> dict[str, Any]:
    with run_marker(experiment.pipeline.state, experiment.identity) as note:
        earlier = note.run_id
        try:
            return _tracked(experiment, note)
        except ResumeError as error:
            if earlier is None:
                raise
            # Other code started it, with other defaults or another format: it would be refused forever.
            note.drop()
            if world_size() > 1:  # the other ranks have ended
                raise ResumeError(f"{error}: the same command starts a new run") from error
            log.warning("cannot resume run %s, starting a new one: %s", earlier, error)
            return _tracked(experiment, note)


def _tracked(experiment: Experiment, note: RunMarker) -> dict[str, Any]:
    training = planned(experiment.dataset(), experiment.pipeline.config.train)
    require_evaluations(experiment, training)
    with runs.experiment_run(experiment.store, _run_spec(experiment, training, note)) as run:
        note.write(run.run_id)
        if experiment.is_offered:
            registry.require_registry(run, REGISTERED)
        history = task_of("train", _train)(training, experiment.folder(run.run_id), run)
        results = task_of("evaluate", evaluate)(experiment, experiment.folder(run.run_id), history)
        # What `forget` must find of this run exists before it looks, or is never made.
        with lease(experiment.pipeline.state, "pages"):
            _require_version(experiment, run)
            run.log_results(results_json(results))
            for name in (RUN_REPORT, BEST):
                run.log_artifact(experiment.folder(run.run_id) / name)
            _describe(experiment, run)
            verdict = task_of("promote", _promote)(experiment, run, results)
    _show_links(experiment, run)
    return {
        **results_json(results),
        "headline": [(label, asdict(estimate)) for label, estimate in headlines(results)],
        "report": str(experiment.folder(run.run_id) / RUN_REPORT),
        "run_id": run.run_id,
        "steps": int(history[-1]["step"]),
        "train_s": history[-1]["seconds"],
        **asdict(verdict),
    }


def _run_spec(experiment: Experiment, training: Training, note: RunMarker) -> runs.RunSpec:
    """A new run, or the one that an earlier process left unfinished."""
    settings = experiment.pipeline.config.train
    version = experiment.version
    exclusions = digest_of(sorted(experiment.exclude))
    source = runs.VersionSource(version.digest, str(experiment.pipeline.root), exclusions)
    earlier = note.run_id if note.run_id and runs.has_run(experiment.store, note.run_id) else None
    if earlier:
        log.info("resuming run %s, which was not finished", earlier)
    name = f"{settings.model.replace('/', '-')}-{version.digest[:8]}-seed{settings.seed}"
    params = {} if earlier else {**{one: getattr(settings, one) for one in OF_DATA}, **training.params}
    return runs.RunSpec(name, params, source, {"model": settings.model}, earlier)


def _describe(experiment: Experiment, run: runs.Run, version: str | None = None) -> None:
    """Stores the data card with a run, and links on the run's page what can be opened."""
    card = experiment.pipeline.root / "versions" / f"{experiment.version.digest}.md"
    links = {"report": run.artifact_page(RUN_REPORT)}
    if card.is_file():
        run.log_text(card.read_text(), CARD)
        links["data card"] = run.artifact_page(CARD)
    if version:
        links[f"{REGISTERED} version {version}"] = f"#/models/{REGISTERED}/versions/{version}"
    run.describe(links)


def _show_links(experiment: Experiment, run: runs.Run) -> None:
    """On the run's page in Prefect: what it was trained on, and where its report and its page in MLflow are."""
    pipeline = experiment.pipeline
    digest = experiment.version.digest
    show_links(
        {
            "dataset version": digest,
            "data card": pipeline.root / "versions" / f"{digest}.html",
            "report": experiment.folder(run.run_id) / RUN_REPORT,
            "MLflow run": mlflow_place(pipeline.state, run.page, pipeline.root),
        }
    )


def _require_version(experiment: Experiment, run: runs.Run) -> None:
    """Raises OperationalError, and leaves nothing of the run, if its version was taken down meanwhile."""
    root = experiment.pipeline.root
    digest = experiment.version.digest
    if digest not in published(root):
        remove_folder(experiment.folder(run.run_id))
        raise OperationalError(f"version {digest[:12]} was taken down while it was trained on: train again")


def _train(training: Training, folder: Path, run: runs.Run) -> list[dict[str, float]]:
    """Trains; returns the metrics of every step, and leaves the best weights in the folder."""
    history = runs.History(folder / HISTORY)
    with runs.system_metrics(run):
        steps = _logged(training.steps(folder))
        first = next(steps, None)
        for earlier in history.before(first["step"] if first else math.inf):
            run.log_step(earlier)  # steps that a kill kept from being sent
        for metrics in chain([first] if first else [], steps):
            run.log_step(metrics)
            history.add(metrics)
    run.flush()
    return history.steps


def _logged(steps: Iterator[dict[str, float]]) -> Iterator[dict[str, float]]:
    """The steps, with a log line about them every few seconds."""
    spoke = time.monotonic()
    auc = float("nan")
    for metrics in steps:
        auc = metrics.get("val_auc", auc)
        show_progress(f"train: step {metrics['step']:.0f}, loss {metrics['loss']:.3f}", metrics["progress"])
        if time.monotonic() - spoke >= EVERY_S:
            spoke = time.monotonic()
            share = 100 * metrics["progress"]
            text = "train: step %d (%.0f %%), loss %.3f, validation AUC %.3f"
            log.info(text, metrics["step"], share, metrics["loss"], auc)
        yield metrics


def _promote(experiment: Experiment, run: runs.Run, results: Mapping[str, Evaluation]) -> Verdict:
    """Registers the model and lets the gate compare it with the champion on the same evaluation."""
    if not experiment.is_offered:
        return Verdict(False, "not offered: part of a comparison; train it alone to register it")
    correspondence = results["correspondence"]
    assert isinstance(correspondence, Correspondence)
    score = gate_score(correspondence)
    log.info("register: exporting the model (takes a few seconds)")
    model = load_model(experiment.folder(run.run_id) / BEST)
    name = experiment.pipeline.config.train.model.partition("/")[0]
    version = registry.register(run, model, REGISTERED, score, str(card(name)))
    _describe(experiment, run, version)
    lacking = registry.measure_champion(
        experiment.store, REGISTERED, score.evaluation_digest, partial(measure_checkpoint, experiment)
    )
    verdict = registry.promote(experiment.store, REGISTERED, version)
    return replace(verdict, reason=f"{verdict.reason} ({lacking})") if lacking else verdict
