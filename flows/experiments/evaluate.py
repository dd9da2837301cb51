"""The answers of every evaluation to one experiment, and the report that shows them."""

import json
import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow.parquet as pq

from flows.builds.pipeline import Pipeline
from flows.experiments.fit import Training
from schemas.manifest import write_text
from tasks.funnel import measure_funnel
from tasks.sources import studio
from training.evaluation import SPLIT, correspondence, retrieval, steps_a_clip, synchrony
from training.evaluation.correspondence import PairConfig
from training.learning.state import BEST
from training.models import configure, load, load_model
from training.models.sync import Sync
from training.networks.checkpoint import read_checkpoint
from training.networks.precision import pick_device
from training.reading.dataset import Dataset
from training.reading.negatives import Negatives
from training.reading.sampling import usable
from training.report.page import ReportInputs, write_report

if TYPE_CHECKING:
    from flows.experiments.experiment import Experiment  # which imports this

log = logging.getLogger(__name__)

REPORT = "report.html"


@dataclass(frozen=True)
class Groups:
    """What counts as the same kind when a model is evaluated: the studio's families, else the first label."""

    of_video: Mapping[str, str] | None
    held_out: frozenset[str]
    names: Mapping[str, str]


def evaluate(experiment: "Experiment", folder: Path, history: list[dict[str, float]]) -> dict[str, Any]:
    """The answers of every evaluation to the best weights in `folder`, beside the report that shows them."""
    dataset = experiment.dataset()
    model = load_model(folder / BEST).to(pick_device())
    groups = groups_of(experiment.pipeline)
    log.info("evaluate: correspondence and retrieval on held-out videos")
    tolerance_ms = experiment.own_training.get("negatives", Negatives()).tolerance_ms
    pairs = PairConfig(steps_a_clip(dataset.profile, model.view), tolerance_ms=tolerance_ms)
    results = {
        "correspondence": correspondence.evaluate(
            model, dataset, groups.of_video, held_out=groups.held_out, config=pairs
        ),
        "retrieval": retrieval.evaluate(model, dataset, groups.of_video),
    }
    if isinstance(model, Sync):
        results["synchrony"] = synchrony.evaluate(model, dataset, groups.of_video)
    write_text(folder / "results.json", json.dumps(results, indent=1, sort_keys=True) + "\n")
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
    log.info("report: %s", write_report(folder / REPORT, page))
    return results


def require_judges(experiment: "Experiment", training: Training) -> None:
    """Raises ValueError where the version holds too little to evaluate this training by."""
    view = training.untrained.view
    groups = groups_of(experiment.pipeline)
    correspondence.seen_groups(usable(training.dataset.split(SPLIT), view), groups.of_video, groups.held_out)


def measured(experiment: "Experiment", path: Path) -> tuple[float, str]:
    """AUC and evaluation digest of any checkpoint on the experiment's held-out clips.

    Raises ValueError where the version lacks what its model needs.
    """
    dataset = experiment.dataset()
    groups = groups_of(experiment.pipeline)
    content = read_checkpoint(path)
    name = content["model"]
    load(name).needs(configure(name, content["config"])).check(dataset.profile, name)
    model = load_model(path).to(pick_device())
    found = correspondence.evaluate(model, dataset, groups.of_video, held_out=groups.held_out)
    return found["random"]["auc"]["value"], found["evaluation_digest"]


def _conditions(
    experiment: "Experiment", dataset: Dataset, history: list[dict[str, float]]
) -> dict[str, Any]:
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
