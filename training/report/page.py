"""What a person looks at: one HTML page about one model, complete in itself."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, select_autoescape
from markupsafe import Markup

from schemas.manifest import write_text
from training.interface import AvcModel
from training.reading.dataset import Dataset
from training.report import figures
from training.report.gallery import Gallery, show

TEMPLATE = "page.html"
# The funnel's terms in the order of its law, with what each means.
LOSSES = (
    ("quarantined", "rejected by an expectation"),
    ("unavailable", "lost at the source"),
    ("waiting", "to be tried again"),
)


@dataclass(frozen=True)
class ReportInputs:
    """Everything the page says. `model` and `dataset` are only needed for its media."""

    correspondence: Mapping[str, Any]
    retrieval: Mapping[str, Any]
    history: Sequence[Mapping[str, float]]  # what `train` yielded
    funnel: Mapping[str, Any]
    conditions: Mapping[str, Any]  # dataset digest, model, seconds, seed, ...
    title: str = "Does this sound belong to this picture?"
    with_media: bool = False
    model: AvcModel | None = None
    dataset: Dataset | None = None
    groups: Mapping[str, str] | None = None
    group_names: Mapping[str, str] = field(default_factory=dict)  # what a person calls a group


@dataclass(frozen=True)
class Score:
    """A row of the score table; `scale` is what a full bar means."""

    name: str
    estimate: Mapping[str, float]
    meaning: str
    scale: float = 1.0
    is_share: bool = True


def write_report(path: Path, inputs: ReportInputs) -> Path:
    """Writes the page to `path`, whole or not at all, and returns it.

    Raises ValueError where media are wanted without a model and a dataset to take them from.
    """
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        # Labels, titles and keys come from strangers: everything is escaped that is not made here.
        autoescape=select_autoescape(default=True, default_for_string=True),
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"percent": percent, "number": number}
    page = environment.get_template(TEMPLATE).render(
        title=inputs.title,
        answer=answer(inputs.correspondence),
        funnel=funnel_rows(inputs.funnel),
        correspondence=correspondence_scores(inputs.correspondence),
        retrieval=retrieval_scores(inputs.retrieval),
        num_pairs=inputs.correspondence["num_pairs"],
        num_candidates=inputs.retrieval["num_clips"],
        curves=training_curves(inputs.history),
        gap=train_dev_gap(inputs.history),
        groups=group_rows(inputs),
        gallery=_gallery(inputs),
        conditions=inputs.conditions,
    )
    write_text(path, page)
    return path


def answer(result: Mapping[str, Any]) -> str:
    """The result in one sentence, with its interval and its chance."""
    accuracy = result["random"]["accuracy"]
    is_better = accuracy["low"] > accuracy["chance"]
    head = "Yes, better than chance" if is_better else "No better than chance, as far as this can tell"
    return (
        f"{head}: on {result['num_videos']} videos it never saw, the model says rightly whether a second of "
        f"sound belongs to a picture in {percent(accuracy['value'])} of cases (95 % interval "
        f"{percent(accuracy['low'])} to {percent(accuracy['high'])}; chance {percent(accuracy['chance'])})."
    )


def correspondence_scores(result: Mapping[str, Any]) -> list[Score]:
    """The rows about matching and other pairs, probes last."""
    sets = [("random", "against any other video's sound", result["random"])]
    sets.append(("same group", "against another of the same kind", result["same_group"]))
    sets.append(("shifted", "against the same clip's sound at another time", result.get("shifted", {})))
    held_out = result.get("held_out", {})
    sets.append(("unseen groups", "on kinds that training never saw", held_out.get("random", {})))
    sets.append(("unseen, same group", "those, against the same kind", held_out.get("same_group", {})))
    rows = []
    for name, meaning, scores in sets:
        if "auc" not in scores:
            continue
        rows.append(Score(f"Accuracy, {name}", scores["accuracy"], meaning))
        rows.append(Score(f"AUC, {name}", scores["auc"], "a matching pair scores higher"))
        if name == "random":
            rows.append(
                Score("Accuracy by clip", scores["clip_accuracy"], "over all seconds of a clip together")
            )
    for name, estimate in result["probes"].items():
        side = name.replace("_", " ").replace("frame", "picture").replace("audio", "sound")
        rows.append(
            Score(
                f"Balance of the pairs: {side}",
                estimate,
                "50 % if the list is balanced, whatever the model",
            )
        )
    return rows


def retrieval_scores(result: Mapping[str, Any]) -> list[Score]:
    """The rows about finding the own one among all, and among those of the same group."""
    rows = []
    for key, name in (("image_to_audio", "picture to sound"), ("audio_to_image", "sound to picture")):
        scores = result[key]
        for cutoff in (1, 5, 10):
            if estimate := scores.get(f"recall_at_{cutoff}"):
                rows.append(
                    Score(f"Recall at {cutoff}, {name}", estimate, f"its own among the first {cutoff}")
                )
        if estimate := scores.get("median_rank"):
            scale = float(scores["mean_candidates"])
            rows.append(Score(f"Median rank, {name}", estimate, f"of {scale:.0f}; 1 is best", scale, False))
        if estimate := scores["within_group"].get("recall_at_1"):
            count = scores["within_group"]["mean_candidates"]
            rows.append(Score(f"Recall at 1 in its group, {name}", estimate, f"among {count:.1f} on average"))
    return rows


def funnel_rows(funnel: Mapping[str, Any]) -> list[tuple[str, str, int, float]]:
    """(name, meaning, count, share of all segments), one row a term and reason of the law."""
    total = max(int(funnel["segments"]), 1)
    rows = [
        ("segments", "asked for", int(funnel["segments"])),
        ("in shards", "usable", int(funnel["in_shards"])),
    ]
    for key, meaning in LOSSES:
        for reason, count in sorted(dict(funnel.get(key, {})).items()):
            rows.append((f"{key}: {reason}", meaning, int(count)))
    rows.append(("forgotten", "taken down on request", int(funnel.get("forgotten", 0))))
    return [(name, meaning, count, count / total) for name, meaning, count in rows]


def training_curves(history: Sequence[Mapping[str, float]]) -> list[tuple[str, Markup]]:
    """Loss and AUC over the seconds of the training, on as many clips of each side."""
    validated = [metrics for metrics in history if "val_auc" in metrics]
    if len(validated) < 2:
        return []
    drawn = []
    for key, name, chance in (("loss", "Loss", None), ("auc", "AUC over all pairs", 0.5)):
        train, val = ([(m["seconds"], m[f"{side}_{key}"]) for m in validated] for side in ("train", "val"))
        # The SVG is made of numbers and of the names above: nothing from outside is in it.
        drawn.append((name, Markup(figures.curves(train, val, chance, name))))  # noqa: S704  (numbers and our names)
    return drawn


def train_dev_gap(history: Sequence[Mapping[str, float]]) -> float | None:
    """How much better the last validation was on clips that training had seen, in AUC."""
    validated = [metrics for metrics in history if "val_auc" in metrics]
    return validated[-1]["train_auc"] - validated[-1]["val_auc"] if validated else None


def group_rows(inputs: ReportInputs) -> list[dict[str, Any]]:
    """The groups, best first, by the name a person knows."""
    rows = [dict(row) for row in inputs.correspondence["per_group"]]
    for row in rows:
        row["name"] = inputs.group_names.get(row["group"], row["group"])
    return sorted(rows, key=lambda row: -row["accuracy"]["value"])


def percent(value: float) -> str:
    """0.6134 as `61.3 %`."""
    return f"{100 * value:.1f} %"


def number(value: float) -> str:
    """A count or a rank without needless digits."""
    return f"{value:,.1f}".rstrip("0").rstrip(".")


def _gallery(inputs: ReportInputs) -> Gallery | None:
    if not inputs.with_media:
        return None
    if inputs.model is None or inputs.dataset is None:
        raise ValueError("with_media needs the model and the dataset that the media come from")
    return show(inputs.model, inputs.dataset, inputs.groups, inputs.group_names)
