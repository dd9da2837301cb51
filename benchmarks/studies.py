"""`python -m benchmarks.studies [--root DIR] [--scenes 2000] [--steps 200] [--studies depth,negatives] [--set ...]`.

The poster's questions on generated scenes: every variant of a study (`flows/experiments/studies.py`) trains for as
many steps, with three seeds, and a table gives means and Student's 95 % intervals over the seeds. `frame-
difference` takes 4 frames/s, all others 1, so it wants a root of its own. A root that is given is kept: it is built
once, and a training is done once, also where several studies ask for it. `--set NAME=VALUE`, as of `mcgurk train`,
holds for all variants: `--studies output --set model.trunk=CHECKPOINT` compares on frozen embeddings.
"""

from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.models import name_of, scenes_built, scenes_parser, trained
from flows.experiments.settings import parsed
from flows.experiments.studies import STUDIES, Variant, study_named
from flows.presets import TrainSettings

if TYPE_CHECKING:
    from flows.compare_models import Compared

MOTION = "frame-difference"
CHOSEN = "categories:Bell+Animal"
DEFAULTS = asdict(TrainSettings())
ALL = ",".join([name for name in STUDIES if name != MOTION] + [CHOSEN])


def main() -> None:
    """Builds the scenes, trains what is missing, and prints a table for each study."""
    parser = scenes_parser(__doc__)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--studies", default=ALL)
    parser.add_argument("--set", nargs="+", action="extend", default=[])
    options = parser.parse_args()
    studies = options.studies.split(",")
    settings = parsed(options.set)
    if MOTION in studies and len(studies) > 1:
        parser.error(f"{MOTION} wants a root of its own: ask for it alone")
    with scenes_built(options, "dense" if MOTION in studies else "small") as root:
        print(f"{options.steps} steps\n")
        for study in studies:
            of_all = [with_settings(one, settings) for one in study_named(study)]
            print_study(study, [over_seeds(root, one, options.steps) for one in of_all])


def with_settings(variant: Variant, settings: dict[str, Any]) -> Variant:
    """The variant with these settings too, its own before them."""
    return replace(variant, settings=settings | variant.settings)


def over_seeds(root: Path, variant: Variant, steps: int) -> "Compared":
    """One variant with every seed, trained now or earlier."""
    from flows.compare_models import SEEDS, compared  # after Prefect's address is known
    from flows.experiments.experiment import ExperimentOptions

    differs = {name: value for name, value in variant.settings.items() if value != DEFAULTS[name]}
    name = name_of(variant.model, differs)
    asked = [
        ExperimentOptions(
            str(root), model=variant.model, settings=differs, steps=steps, seed=seed, is_offered=False
        )
        for seed in SEEDS
    ]
    runs = [trained(root, f"{name}-seed-{one.seed}-{steps}-steps", one) for one in asked]
    return compared(variant.name, runs)


def print_study(study: str, found: Sequence["Compared"]) -> None:
    """The table of one study."""
    names = list(found[0].numbers)
    print(f"| {study} | " + " | ".join(names) + " | s |\n|---|" + "---:|" * (len(names) + 1))
    for one in found:
        cells = [
            f"{100 * mean:.1f} ({100 * low:.1f} to {100 * high:.1f})"
            for mean, low, high, _ in one.numbers.values()
        ]
        print(f"| {one.name} | " + " | ".join(cells) + f" | {one.train_s:.0f} |")
    print(flush=True)


if __name__ == "__main__":
    main()
