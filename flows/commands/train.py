"""`mcgurk train`: trains, evaluates and offers for promotion, as one MLflow run."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated

from flows.arguments import Option, Root, State
from flows.builds.options import BuildOptions, Preset
from flows.builds.pipeline import Pipeline, resolve
from flows.commands.announce import command
from flows.commands.logs import quieted
from flows.commands.text import comparison_text, scores_text
from flows.experiments.comparison import ComparisonOptions
from flows.experiments.experiment import ExperimentOptions, assist, require_possible
from flows.experiments.fit import check
from flows.experiments.settings import parsed
from flows.experiments.studies import Variant, models_named, study_named
from flows.services.servers import prefect_api
from schemas.errors import RequestError
from schemas.mounts import require_local
from schemas.shard import read_version
from schemas.storage import is_local, open_root
from training.learning.ranks import world_size

EXAMPLE = "mcgurk train --root data --model contrastive --set seconds=3600 patience=3 model.width=32"
IS_LONG = True


@dataclass(frozen=True)
class Options:
    """A model of the preset, another one, or several that are compared."""

    root: Root
    preset: Preset = None
    model: Annotated[
        str | None,
        Option(
            "a model or model/preset of training/models; default: the preset's; several, separated by commas, are "
            "compared",
            "M",
        ),
    ] = None
    study: Annotated[
        str | None,
        Option(
            "compare the variants of a study, such as learning-curve (docs/training.md), with three seeds each; none "
            "of them is registered",
            "NAME",
        ),
    ] = None
    set: Annotated[
        tuple[str, ...],
        Option(
            "settings of the training (flows/presets.py: seconds, seed, augmentation, patience, ...), and, as "
            "model.NAME, those of the model's Config",
            "NAME=VALUE",
        ),
    ] = ()
    state: State = None


def run(options: Options) -> int:
    """Trains one model or compares several; under torchrun all ranks train, and the first does the rest."""
    compared = _compared(options)
    settings = parsed(options.set)
    usual = ExperimentOptions(options.root, preset=options.preset, state=options.state, settings=settings)
    usual = usual if compared else replace(usual, model=options.model)
    experiments = [one.applied_to(usual) for one in compared] or [usual]
    pipeline = _checked(experiments)
    require_local(pipeline.state)
    if int(os.environ.get("RANK", "0")) > 0:
        assist(usual)
        return 0
    for one in experiments:
        require_possible(one)
    with prefect_api(pipeline.state):
        if compared:
            _compare(pipeline, _comparison(options, usual))
        else:
            _train(pipeline, usual)
    verb = "serve" if is_local(pipeline.root) else "versions"  # a root on a store is not served
    print(f"next: {command(verb, options.root, pipeline.state)}")
    return 0


def _train(pipeline: Pipeline, options: ExperimentOptions) -> None:
    from flows.run_experiment import run_experiment  # Prefect reads its settings when it is imported
    from flows.services.runs import outcome_of

    with quieted(pipeline.state):
        results = outcome_of(lambda: run_experiment(options))
    print(f"{scores_text(results)}\n\n{results['reason']}\nreport  {results['report']}")


def _comparison(options: Options, usual: ExperimentOptions) -> ComparisonOptions:
    model = None if options.study else options.model
    return ComparisonOptions(
        options.root, model, options.study, options.preset, usual.settings, options.state
    )


def _compare(pipeline: Pipeline, options: ComparisonOptions) -> None:
    from flows.compare_models import compare_models
    from flows.services.runs import outcome_of

    with quieted(pipeline.state):
        found = outcome_of(lambda: compare_models(options))
    print(comparison_text(found))


def _compared(options: Options) -> Sequence[Variant]:
    """The variants that `--study`, or `--model` with commas, compares; none for one model."""
    if options.study and options.model:
        raise RequestError(f"--study {options.study} names its own models: leave --model out")
    named = options.study or options.model
    if named is None:
        return ()
    found = study_named(named) if options.study else models_named(named)
    if len(found) > 1 and world_size() > 1:
        raise RequestError(
            f"torchrun trains one model, and {named} names {len(found)}: compare them without torchrun"
        )
    return found if len(found) > 1 else ()


def _checked(experiments: Sequence[ExperimentOptions]) -> Pipeline:
    """The pipeline of the root. Raises RequestError for a setting that is invalid for any dataset."""
    first = experiments[0]
    try:
        pipeline = resolve(BuildOptions(first.root, first.preset, state=first.state))
    except RequestError:
        read_version(open_root(first.root))  # for a root that was never built, say that instead
        raise
    for one in experiments:
        check(one.merge_settings(pipeline.config.train))
    return pipeline
