"""The evaluations of one experiment's model, and the report that shows them."""

import json
import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flows.builds.pipeline import Pipeline
from flows.experiments.fit import Training
from schemas.files import read_table, write_text
from schemas.layout import RUN_REPORT
from tasks.funnel import measure_funnel
from tasks.sources import studio
from training.estimates import GateScore
from training.evaluation import (
    Evaluation,
    EvaluationOptions,
    correspondence,
    evaluate_all,
    names,
    require_all,
    results_json,
)
from training.learning.state import BEST
from training.models import configure, load, load_model
from training.networks.checkpoint import read_checkpoint
from training.networks.precision import pick_device
from training.reading.dataset import Dataset
from training.reading.negatives import Negatives
from training.report.page import ReportInputs, write_report

if TYPE_CHECKING:
    from flows.experiments.experiment import Experiment  # which imports this

log = logging.getLogger(__name__)

RESULTS = "results.json"


def evaluate(
    experiment: "Experiment", folder: Path, history: list[dict[str, float]]
) -> dict[str, Evaluation]:
    """Evaluates the best weights in `folder` in every way, and writes the results and their report beside them."""
    dataset = experiment.dataset()
    model = load_model(folder / BEST).to(pick_device())
    policy = experiment.training_overrides.get("negatives", Negatives())
    options = evaluation_options(experiment.pipeline, policy.tolerance_ms)
    log.info("evaluate: %s, where applicable, on held-out videos", ", ".join(names()))
    results = evaluate_all(model, dataset, options)
    write_text(folder / RESULTS, json.dumps(results_json(results), indent=1, sort_keys=True) + "\n")
    media: dict[str, Any] = {"model": model, "dataset": dataset} if experiment.with_media else {}
    page = ReportInputs(
        results=results,
        history=history,
        funnel=measure_funnel(experiment.pipeline.root),
        conditions=_conditions(experiment, dataset, history),
        with_media=experiment.with_media,
        groups=options.groups,
        group_names=options.group_names,
        **media,
    )
    log.info("report: %s", write_report(folder / RUN_REPORT, page))
    return results


def require_evaluations(experiment: "Experiment", training: Training) -> None:
    """Raises RequestError if the version holds too little to evaluate this training."""
    require_all(training.untrained, training.dataset, evaluation_options(experiment.pipeline))


def measure_checkpoint(experiment: "Experiment", path: Path) -> GateScore:
    """The number that the gate compares, for any checkpoint, on the experiment's held-out clips.

    Raises RequestError if the version lacks what the checkpoint's model needs.
    """
    dataset = experiment.dataset()
    content = read_checkpoint(path)
    name = content["model"]
    load(name).needs(configure(name, content["config"])).check(dataset.profile, name)
    model = load_model(path).to(pick_device())
    return gate_score(correspondence.evaluate(model, dataset, evaluation_options(experiment.pipeline)))


def gate_score(result: correspondence.Correspondence) -> GateScore:
    """The number that the gate compares: AUC on the pairs that the evaluation digest names."""
    return GateScore(result.random.auc.value, result.evaluation_digest)


def _conditions(
    experiment: "Experiment", dataset: Dataset, history: list[dict[str, float]]
) -> Mapping[str, Any]:
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


def evaluation_options(pipeline: Pipeline, tolerance_ms: float = Negatives.tolerance_ms) -> EvaluationOptions:
    """Groups of videos: families of the studio's scenes, joined by video id; for other sources, the first label."""
    path = studio.truth_of(pipeline.state)
    if not (pipeline.is_studio and path.is_file()):
        group_names = {mid: name for mid, (_, name) in pipeline.labels.items()}
        return EvaluationOptions(group_names=group_names, tolerance_ms=tolerance_ms)
    rows = read_table(path, ("video_id", "family", "held_out"), "a build renders what it lacks").to_pylist()
    held_out = frozenset(row["family"] for row in rows if row["held_out"])
    groups = {row["video_id"]: row["family"] for row in rows}
    return EvaluationOptions(groups, held_out, tolerance_ms=tolerance_ms)
