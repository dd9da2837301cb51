"""The report: one HTML page about one model, complete in itself. It shows the results of every evaluation."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, select_autoescape
from markupsafe import Markup

from schemas.files import write_text
from training.estimates import percent
from training.evaluation import Evaluation, GroupScore, answers, sections
from training.interface import AvcModel
from training.reading.dataset import Dataset
from training.report import figures
from training.report.gallery import Gallery, show

TEMPLATE = "page.html"
# The funnel's terms in the order of its law, each with its meaning.
LOSSES = (
    ("quarantined", "rejected by an expectation"),
    ("unavailable", "lost at the source"),
    ("waiting", "to be tried again"),
)


@dataclass(frozen=True)
class ReportInputs:
    """Everything that the page shows. `model` and `dataset` are needed only for its media."""

    results: Mapping[str, Evaluation]
    history: Sequence[Mapping[str, float]]  # the metrics of the training's steps
    funnel: Mapping[str, Any]
    conditions: Mapping[str, Any]  # dataset digest, model, seconds, seed, ...
    title: str = "Does this sound belong to this picture?"
    with_media: bool = False
    model: AvcModel | None = None
    dataset: Dataset | None = None
    groups: Mapping[str, str] | None = None
    group_names: Mapping[str, str] = field(default_factory=dict)  # a person's name for a group


def write_report(path: Path, inputs: ReportInputs) -> Path:
    """Writes the page to `path`, completely or not at all, and returns it.

    Raises ValueError for media without a model and a dataset to take them from.
    """
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        # Labels, titles and keys come from strangers: all text that is not made here is escaped.
        autoescape=select_autoescape(default=True, default_for_string=True),
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"percent": percent, "number": number}
    shown = sections(inputs.results)
    page = environment.get_template(TEMPLATE).render(
        title=inputs.title,
        answer=" ".join(answers(inputs.results)),
        funnel=funnel_rows(inputs.funnel),
        sections=shown,
        curves=training_curves(inputs.history),
        gap=train_dev_gap(inputs.history),
        groups=group_rows((row for section in shown for row in section.groups), inputs.group_names),
        gallery=_gallery(inputs),
        conditions=inputs.conditions,
    )
    write_text(path, page)
    return path


def funnel_rows(funnel: Mapping[str, Any]) -> list[tuple[str, str, int, float]]:
    """(name, meaning, count, share of all segments): a row for each term of the funnel, and each reason."""
    total = max(int(funnel["segments"]), 1)
    rows = [
        ("segments", "in the list", int(funnel["segments"])),
        ("in shards", "usable", int(funnel["in_shards"])),
    ]
    for key, meaning in LOSSES:
        for reason, count in sorted(dict(funnel.get(key, {})).items()):
            rows.append((f"{key}: {reason}", meaning, int(count)))
    rows.append(("forgotten", "taken down on request", int(funnel.get("forgotten", 0))))
    return [(name, meaning, count, count / total) for name, meaning, count in rows]


def training_curves(history: Sequence[Mapping[str, float]]) -> list[tuple[str, Markup]]:
    """Loss and AUC over the seconds of the training, on equally many clips of each side."""
    validated = [metrics for metrics in history if "val_auc" in metrics]
    if len(validated) < 2:
        return []
    drawn = []
    for key, name, chance in (("loss", "Loss", None), ("auc", "AUC over all pairs", 0.5)):
        train, val = ([(m["seconds"], m[f"{side}_{key}"]) for m in validated] for side in ("train", "val"))
        # The SVG consists of numbers and of the names above: nothing in it comes from outside.
        drawn.append((name, Markup(figures.curves(train, val, chance, name))))  # noqa: S704  (numbers and our names)
    return drawn


def train_dev_gap(history: Sequence[Mapping[str, float]]) -> float | None:
    """How much better the last validation was on clips that training had seen, in AUC."""
    validated = [metrics for metrics in history if "val_auc" in metrics]
    return validated[-1]["train_auc"] - validated[-1]["val_auc"] if validated else None


def group_rows(groups: Iterable[GroupScore], names: Mapping[str, str]) -> list[GroupScore]:
    """The groups, best first, by a person's name for them."""
    named = [replace(row, group=names.get(row.group, row.group)) for row in groups]
    return sorted(named, key=lambda row: -row.accuracy.value)


def number(value: float) -> str:
    """A count or a rank without needless digits."""
    return f"{value:,.1f}".rstrip("0").rstrip(".")


def _gallery(inputs: ReportInputs) -> Gallery | None:
    if not inputs.with_media:
        return None
    if inputs.model is None or inputs.dataset is None:
        raise ValueError("with_media needs the model and the dataset that the media come from")
    return show(inputs.model, inputs.dataset, inputs.groups, inputs.group_names)
