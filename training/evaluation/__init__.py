"""Evaluations: one file per question. Nothing else is here; what evaluations share is in `training/networks/`
and `training/reading/`.

A file becomes an evaluation by lying in this folder. It defines

    applies(model, dataset) -> bool                    whether the question can be put to the model
    evaluate(model, dataset, options) -> Evaluation    the result on the clips of split `eval`
    headline(result) -> list[tuple[str, Estimate]]     the lines that commands print: label and estimate

and may define

    require(dataset, view, options) -> None   raises RequestError, before a training, if there are too few clips
    section(result) -> Section                its part of the report; without it, the headline as a
                                              table under the question that the docstring begins with
    answer(result) -> str                     a sentence for the top of the report

`Evaluation.to_json` makes `results.json` out of a result, and each number in it becomes an MLflow metric: the names
of fields must stay, because old and new runs are compared by them.
"""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass
from types import ModuleType
from typing import Any

from schemas.feature import Profile
from schemas.plugins import chosen_plugin, plugin_names
from training.estimates import Estimate
from training.interface import AvcModel
from training.reading.dataset import Dataset
from training.reading.negatives import Negatives
from training.reading.sampling import View

SPLIT = "eval"  # no model has learnt from its clips
MOST_STEPS = 5
REQUIRED = ("applies", "evaluate", "headline")
ABSENT = "absent"  # key of a field's metadata: the JSON value for None


@dataclass(frozen=True)
class EvaluationOptions:
    """Input of an evaluation besides the model and the clips."""

    # Video id -> group of videos that count as the same kind; None: groups by the first label.
    groups: Mapping[str, str] | None = None
    held_out: frozenset[str] = frozenset()  # groups that training never saw
    group_names: Mapping[str, str] = field(default_factory=dict)  # what a person calls a group
    tolerance_ms: float = Negatives.tolerance_ms  # from here on, a clip's own sound does not match it


DEFAULT_OPTIONS = EvaluationOptions()


@dataclass(frozen=True)
class Evaluation:
    """The result of one evaluation."""

    question: str  # the module's name
    num_clips: int

    def to_json(self) -> dict[str, Any]:
        """The result in plain values, by the names of its fields; fields that are None are left out."""
        return as_json(self)


@dataclass(frozen=True)
class GroupScore:
    """How well the videos of one group are judged."""

    group: str
    num_videos: int
    accuracy: Estimate


@dataclass(frozen=True)
class ReportRow:
    """A row of a table in the report; `scale` is the value of a full bar."""

    name: str
    estimate: Estimate
    meaning: str = ""
    scale: float = 1.0
    is_share: bool = True


@dataclass(frozen=True)
class Section:
    """An evaluation's part of the report."""

    title: str  # empty: the section needs none
    rows: Sequence[ReportRow]
    lead: str = ""  # a paragraph before the table
    groups: Sequence[GroupScore] = ()


def absent_as(json: Mapping[str, Any]) -> Any:
    """A field that may be None, in which case `to_json` writes `json`."""
    return field(default=None, metadata={ABSENT: json})


def as_json(value: Any) -> Any:
    """Dataclasses, mappings and sequences in plain values, to any depth."""
    if is_dataclass(value):
        found = {
            entry.name: (getattr(value, entry.name), entry.metadata.get(ABSENT)) for entry in fields(value)
        }
        plain = {name: absent if kept is None else as_json(kept) for name, (kept, absent) in found.items()}
        return {name: kept for name, kept in plain.items() if kept is not None}
    if isinstance(value, Mapping):
        return {key: as_json(kept) for key, kept in value.items()}
    return [as_json(kept) for kept in value] if isinstance(value, list | tuple) else value


def names() -> list[str]:
    """The evaluations in this folder."""
    return plugin_names(sys.modules[__name__])


def load(name: str) -> ModuleType:
    """The module of evaluation `name`. Raises RequestError, with the choices, for one that is not there."""
    return chosen_plugin(sys.modules[__name__], "evaluation", name, REQUIRED)


def evaluate_all(
    model: AvcModel, dataset: Dataset, options: EvaluationOptions = DEFAULT_OPTIONS
) -> dict[str, Evaluation]:
    """The result of every evaluation that applies, by name. Raises RequestError if there are too few clips."""
    modules = {name: load(name) for name in names()}
    return {
        name: module.evaluate(model, dataset, options)
        for name, module in modules.items()
        if module.applies(model, dataset)
    }


def require_all(model: AvcModel, dataset: Dataset, options: EvaluationOptions = DEFAULT_OPTIONS) -> None:
    """Raises RequestError if an evaluation that applies has too few clips; reads none of them."""
    for module in map(load, names()):
        if module.applies(model, dataset) and hasattr(module, "require"):
            module.require(dataset, model.view, options)


def headlines(results: Mapping[str, Evaluation]) -> list[tuple[str, Estimate]]:
    """The lines that commands print about these results: label and estimate."""
    return [row for name, result in results.items() for row in load(name).headline(result)]


def answers(results: Mapping[str, Evaluation]) -> list[str]:
    """The sentences that the report begins with."""
    modules = [(load(name), result) for name, result in results.items()]
    return [module.answer(result) for module, result in modules if hasattr(module, "answer")]


def sections(results: Mapping[str, Evaluation]) -> list[Section]:
    """The parts of the report, one for each result that has something to show."""
    found = [_section(load(name), result) for name, result in results.items()]
    return [section for section in found if section.rows]


def results_json(results: Mapping[str, Evaluation]) -> dict[str, Any]:
    """The content of `results.json`: plain values by the name of the evaluation."""
    return {name: result.to_json() for name, result in results.items()}


def _section(module: ModuleType, result: Evaluation) -> Section:
    if hasattr(module, "section"):
        return module.section(result)
    question, mark, _ = (module.__doc__ or module.__name__).strip().splitlines()[0].partition("?")
    return Section(
        question + mark, [ReportRow(label, estimate) for label, estimate in module.headline(result)]
    )


def steps_a_clip(profile: Profile, view: View) -> int:
    """How many steps of a clip are evaluated: as many as fit side by side, at most MOST_STEPS."""
    return max(1, min(MOST_STEPS, profile.length_ms // view.sound_ms))


def steps_of_matrix(model: AvcModel, dataset: Dataset) -> int:
    """How many steps of each clip are compared with those of every other: one if a pair costs a network."""
    return 1 if model.is_early_fusion else steps_a_clip(dataset.profile, model.view)
