"""The options of a comparison: several models, or the variants of a study, on one dataset version."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any

from flows.arguments import Option, Root, State
from flows.builds.options import Preset
from flows.experiments.experiment import ExperimentOptions
from flows.experiments.studies import CATEGORIES, STUDIES, Variant, models_named, study_named
from schemas.errors import RequestError


@dataclass(frozen=True)
class ComparisonOptions:
    """What is compared, and the settings of all trainings; `model` or `study` names the variants."""

    root: Root
    model: Annotated[
        str | None, Option("models or model/presets of training/models, separated by commas")
    ] = None
    study: Annotated[
        str | None, Option(f"instead of models: {', '.join(STUDIES)} or {CATEGORIES}LABEL+LABEL")
    ] = None
    preset: Preset = None
    settings: Annotated[
        Mapping[str, Any], Option("settings of every training, by their names in flows/presets.py")
    ] = field(default_factory=dict)
    state: State = None

    @property
    def variants(self) -> Sequence[Variant]:
        """The lines of the comparison. Raises RequestError for models that don't exist, or if none are named."""
        if self.study:
            return study_named(self.study)
        if not self.model:
            raise RequestError("nothing to compare: name models or a study")
        return models_named(self.model)

    @property
    def experiment(self) -> ExperimentOptions:
        """What all its trainings have in common."""
        return ExperimentOptions(self.root, preset=self.preset, state=self.state, settings=self.settings)
