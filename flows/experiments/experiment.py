"""An experiment before it runs: its options, its clips, and whether it is possible. Without Prefect."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any

from flows.arguments import Option, Root, State
from flows.builds.options import BuildOptions, Preset
from flows.builds.pipeline import Pipeline, resolve
from flows.experiments.evaluate import require_evaluations
from flows.experiments.fit import planned
from flows.experiments.settings import setting
from flows.experiments.trainable import missing_to_train
from flows.presets import TrainSettings
from schemas.errors import RequestError
from schemas.files import digest_of
from schemas.layout import run_folder
from schemas.shard import Version, read_exclusions, read_version
from tasks.lists.labels import machine_ids
from training.loop import clips_for
from training.models import load, names_with_presets, training_overrides
from training.networks.checkpoint import ResumeError
from training.reading.dataset import Dataset, open_dataset, thinned, with_labels
from training.tracking.store import Store, require_open

LEAVING_S = 60.0  # more than it takes to leave a run that cannot be resumed


@dataclass(frozen=True)
class ExperimentOptions:
    """The options of an experiment; a None is taken from the preset of the root."""

    root: Root
    dataset_version: Annotated[str | None, Option("digest of a dataset version; default: the latest")] = None
    preset: Preset = None
    model: Annotated[
        str | None, Option("a model or model/preset of training/models", choices=names_with_presets)
    ] = None
    seconds: Annotated[float | None, Option("training time")] = None
    steps: Annotated[int | None, Option("training steps, instead of seconds")] = None
    seed: Annotated[int | None, Option("seed of everything that is random in the training")] = None
    state: State = None
    with_media: Annotated[
        bool | None, Option("embed frames and sounds in the report; default: only what the studio generated")
    ] = None
    settings: Annotated[
        Mapping[str, Any], Option("other settings of the training, by their names in flows/presets.py")
    ] = field(default_factory=dict)
    is_offered: Annotated[bool, Option("register the model, and promote it if it is better")] = True
    only_new: Annotated[bool, Option("do nothing if the last training was on the newest version")] = False

    def merge_settings(self, usual: TrainSettings) -> TrainSettings:
        """The settings of the root with those of the user: named fields override `settings`."""
        named = {name: getattr(self, name) for name in ("model", "seconds", "steps", "seed")}
        given = {name: value for name, value in named.items() if value is not None}
        others = {name: setting(name, value) for name, value in self.settings.items()}
        return replace(usual, **(others | given))


@dataclass(frozen=True)
class Experiment:
    """An experiment that is about to run."""

    pipeline: Pipeline
    version: Version
    store: Store
    with_media: bool
    exclude: frozenset[str] = frozenset()  # the version's exclusion list
    is_offered: bool = True

    def dataset(self) -> Dataset:
        """The version without the samples that its list excludes; of the others, those that the settings choose."""
        dataset = open_dataset(self.pipeline.root, self.version, self.exclude)
        settings = self.pipeline.config.train
        for chosen, splits in ((settings.trained_on, ("train", "val")), (settings.judged_on, ("eval",))):
            if chosen:
                dataset = with_labels(dataset, self._mids(chosen, dataset), splits)
        return dataset if settings.clips_share == 1.0 else thinned(dataset, settings.clips_share)

    def _mids(self, chosen: Sequence[str], dataset: Dataset) -> frozenset[str]:
        """The labels that these names mean; if no table names a dataset's labels, they are names already."""
        others = set(dataset.clips.names["labels"].combine_chunks().flatten().unique().to_pylist())
        return machine_ids(chosen, self.pipeline.labels, self.pipeline.ontology, others)

    @property
    def training_overrides(self) -> dict[str, Any]:
        """Training settings that this model overrides."""
        return training_overrides(self.pipeline.config.train.model.partition("/")[0])

    @property
    def identity(self) -> str:
        """The digest of everything the result depends on: by it, the same command continues the same training."""
        return digest_of(self.version.digest, sorted(self.exclude), self.pipeline.config.train)

    def folder(self, run_id: str) -> Path:
        """Where checkpoint, results and report of one run go."""
        return self.pipeline.here / run_folder(run_id)


def prepare(options: ExperimentOptions) -> Experiment:
    """The experiment that `options` describe. Raises RequestError for a version or a model that doesn't exist."""
    pipeline = resolve(BuildOptions(options.root, options.preset, state=options.state))
    settings = options.merge_settings(pipeline.config.train)
    pipeline = replace(pipeline, config=replace(pipeline.config, train=settings))
    version = read_version(pipeline.root, options.dataset_version)
    store = Store.of(pipeline.here)
    with_media = pipeline.is_studio if options.with_media is None else options.with_media
    excluded = read_exclusions(pipeline.root, version.digest)
    return Experiment(pipeline, version, store, with_media, excluded, options.is_offered)


def require_possible(options: ExperimentOptions) -> None:
    """Raises RequestError, before anything starts, if the experiment that `options` describe is impossible."""
    experiment = prepare(options)
    if missing := missing_to_train(experiment.pipeline.root, experiment.version):
        raise RequestError(f"version {experiment.version.digest[:12]} is too little to train on: {missing}")
    training = planned(experiment.dataset(), experiment.pipeline.config.train)
    needs = load(training.model).needs(training.model_config)
    needs.check(experiment.version.profile, experiment.pipeline.config.train.model)
    clips_for(training.dataset, training.untrained, training.config)
    require_evaluations(experiment, training)
    require_open(experiment.store)


def assist(options: ExperimentOptions) -> None:
    """What every rank but the first does in a training under torchrun: it trains, and nothing else."""
    experiment = prepare(options)
    training = planned(experiment.dataset(), experiment.pipeline.config.train)
    try:
        for _ in training.steps(Path()):  # the first rank says where checkpoints lie
            pass
    except ResumeError:
        # The first rank leaves that run, and ends. Torchrun would interrupt that if this rank ended first.
        time.sleep(LEAVING_S)
        raise
