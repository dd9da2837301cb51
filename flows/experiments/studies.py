"""Studies: the poster's questions, each as variants of a training that one command compares in one table.

`mcgurk train --root R --study NAME`. A study's variants train for as many steps as its first, with three seeds.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from schemas.errors import RequestError
from training.learning.augment import STRENGTHS
from training.models import preset_named

if TYPE_CHECKING:
    from flows.experiments.experiment import ExperimentOptions

CATEGORIES = "categories:"
SHARES = (0.1, 0.3, 1.0)  # of the clips


@dataclass(frozen=True)
class Variant:
    """One line of a comparison: a model, a preset of it (`model/preset`), and what else differs."""

    name: str
    model: str
    settings: dict[str, Any] = field(default_factory=dict)  # of `presets.TrainSettings`

    def applied_to(self, options: "ExperimentOptions") -> "ExperimentOptions":
        """An experiment with this variant, whose own settings override those of all."""
        settings = {**options.settings, **self.settings}
        return replace(options, model=self.model, settings=settings, is_offered=False)

    def check(self) -> None:
        """Raises RequestError if there is no such model or preset."""
        name, _, preset = self.model.partition("/")
        preset_named(name, preset)


def _models(*models: str) -> tuple[Variant, ...]:
    return tuple(Variant(model, model) for model in models)


STUDIES: dict[str, tuple[Variant, ...]] = {
    "front-ends": _models("contrastive", "contrastive/spectrogram", "contrastive/wave"),
    "frame-difference": _models("contrastive", "contrastive/motion"),  # of a version with 4 frames/s or more
    "depth": _models("contrastive/shallow", "contrastive", "contrastive/deep"),
    "objectives": _models(
        "contrastive", "contrastive/sigmoid", "contrastive/within_clip", "contrastive/within_class"
    ),
    "pretraining": _models("transfer/scratch", "transfer/frozen", "transfer/tuned"),
    "output": _models("many_to_many/sigmoid", "many_to_many/vector"),
    "channel-dropout": _models("contrastive", "contrastive/dropout"),
    "augmentation": tuple(Variant(name, "contrastive", {"augmentation": name}) for name in STRENGTHS),
    "learning-curve": tuple(
        Variant(f"{100 * share:.0f} % of clips", "contrastive", {"clips_share": share}) for share in SHARES
    ),
    "negatives": (
        Variant("other clip", "contrastive"),
        Variant("same class", "contrastive", {"negatives": ("same_class",), "classes_per_batch": 4}),
        Variant("other, shifted", "contrastive", {"negatives": ("other_clip", "shifted")}),
    ),
}


def categories(labels: Sequence[str]) -> tuple[Variant, ...]:
    """A model trained on these labels only against one trained on all, both judged on clips of these labels."""
    chosen = tuple(labels)
    return (
        Variant("all categories", "contrastive", {"judged_on": chosen}),
        Variant("chosen categories", "contrastive", {"trained_on": chosen, "judged_on": chosen}),
    )


def models_named(names: str) -> tuple[Variant, ...]:
    """What `--model` names: a model or `model/preset`, or several with commas. Raises RequestError."""
    if names in STUDIES or names.startswith(CATEGORIES):
        raise RequestError(f"--model {names}: that is a study: use --study {names}")
    found = _models(*names.split(","))
    for variant in found:
        variant.check()
    return found


def study_named(name: str) -> tuple[Variant, ...]:
    """What `--study` names: one of STUDIES, or `categories:LABEL+LABEL`. Raises RequestError with the choices."""
    if name.startswith(CATEGORIES):
        return categories(name.removeprefix(CATEGORIES).split("+"))
    if name not in STUDIES:
        raise RequestError(f"no study {name!r}; there are {', '.join(STUDIES)} and {CATEGORIES}LABEL+LABEL")
    return STUDIES[name]
