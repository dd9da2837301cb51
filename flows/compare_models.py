"""compare_models: variants of a training on one dataset version, for the same number of steps, with three seeds."""

import json
import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from prefect import flow
from prefect.runtime import flow_run

from flows.builds.pipeline import state_folder
from flows.experiments.comparison import ComparisonOptions
from flows.experiments.experiment import ExperimentOptions, prepare
from flows.experiments.run_marker import results_path
from flows.experiments.studies import Variant
from flows.run_experiment import run_experiment
from flows.run_page import named
from flows.services.runs import noted_run, record_result
from schemas.errors import McgurkError
from schemas.files import write_text
from schemas.storage import open_root

log = logging.getLogger(__name__)

SEEDS = (0, 1, 2)
MOST_NAMED = 3  # variants in the name of a run
T_975 = 4.303  # Student's t for 95 % with two degrees of freedom: three seeds
NUMBERS = {  # what is compared, and where it is in an evaluation
    "AUC, any other video": ("correspondence", "random", "auc"),
    "AUC, same family": ("correspondence", "same_group", "auc"),
    "recall@10, picture -> sound": ("retrieval", "image_to_audio", "recall_at_10"),
}


@dataclass(frozen=True)
class Compared:
    """One variant's numbers: name -> (mean, low, high, chance) over the seeds, and its seconds of training."""

    name: str
    numbers: dict[str, tuple[float, float, float, float]]
    train_s: float
    steps: int


def _run_name() -> str:
    """`compare ave, avol and 3 others 2026-11-28 21:17`."""
    try:
        names = [variant.name for variant in flow_run.parameters["options"].variants]
    except McgurkError:  # the run itself says what is wrong
        return named("compare")
    others = f" and {len(names) - MOST_NAMED} others" if len(names) > MOST_NAMED else ""
    return named("compare", ", ".join(names[:MOST_NAMED]) + others)


@flow(name="compare-models", flow_run_name=_run_name, persist_result=False)
def compare_models(options: ComparisonOptions) -> list[Compared]:
    """Trains each model, or variant of a study, with each seed; returns their numbers. Raises RequestError for none."""
    experiment = options.experiment
    with noted_run(state_folder(open_root(experiment.root), experiment.state)):
        return record_result(compare_variants(experiment, options.variants))


def compare_variants(options: ExperimentOptions, variants: Sequence[Variant]) -> list[Compared]:
    """Trains each variant with each seed, all for as many steps as the first one takes in the preset's time.

    So the number of pictures and sounds that are encoded is the same for all models with the usual batch. Models with
    their own batch (`TRAINING_OVERRIDES`) encode as many as it has: `many_to_many` an eighth more, others far fewer.
    After a kill, trainings that have ended are not repeated. Raises RequestError for a model that doesn't exist.
    """
    for variant in variants:
        variant.check()  # a typo in the last name shows before the first trains
    found = []
    steps = options.steps
    kept = []
    for variant in variants:
        runs = []
        wanted = variant.applied_to(options)
        for seed in SEEDS:
            log.info("compare: %s, seed %d", variant.name, seed)
            results, path = _results(replace(wanted, seed=seed, steps=steps))
            runs.append(results)
            kept.append(path)
            steps = steps or runs[0]["steps"]
        found.append(compared(variant.name, runs))
    for path in kept:
        path.unlink(missing_ok=True)
    return found


def _results(options: ExperimentOptions) -> tuple[dict[str, Any], Path]:
    """The results of one training, and the file they are in, so that a killed comparison continues after it."""
    experiment = prepare(options)
    path = results_path(experiment.pipeline.state, experiment.identity)
    if path.is_file():
        log.info("compare: already trained, its results are used")
        return json.loads(path.read_text()), path
    found = run_experiment(options)
    write_text(path, json.dumps(found))
    return found, path


def compared(name: str, runs: Sequence[dict[str, Any]]) -> Compared:
    """One variant's numbers from its results with every seed."""
    numbers = {}
    for number, (question, part, key) in NUMBERS.items():
        estimates = [run[question][part][key] for run in runs if key in run[question][part]]
        if not estimates:  # no family has two held-out videos
            continue
        low, mean, high = interval([estimate["value"] for estimate in estimates])
        numbers[number] = (mean, low, high, estimates[0]["chance"])
    train_s = float(np.mean([run["train_s"] for run in runs]))
    return Compared(name, numbers, train_s, runs[0]["steps"])


def interval(values: Sequence[float]) -> tuple[float, float, float]:
    """Low, mean and high: Student's 95 % interval over len(SEEDS) seeds."""
    mean = float(np.mean(values))
    spread = float(np.std(values, ddof=1))
    half = T_975 * spread / math.sqrt(len(values))
    return mean - half, mean, mean + half
