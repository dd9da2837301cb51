"""`python -m benchmarks.models [--root DIR] [--scenes 2000] [--minutes 10] [--models l3,ave,avol,many_to_many]`.

What the default model and the seed systems reach on generated scenes, at equal encoded inputs: the default trains
for so many minutes, every other one for as many steps of as many inputs (`many_to_many`: an eighth more). Each number
stands beside an oracle that knows the family of picture and sound and nothing else. All are compared with the default
by the paired bootstrap over videos on the same pairs. With `--alone sync` (profile `video`: offsets on scenes with
onsets) or `--alone multisensory`, that model only, in a root of its own. A root that is given is kept: it is built
once, and a model is trained once for as long.
"""

import argparse
import json
import os
import platform
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from flows import presets
from flows.experiments.settings import parsed
from flows.services.servers import prefect_api
from schemas.feature import PROFILES
from schemas.files import digest_of, write_text
from tasks.sources.scenes.corpus import CorpusConfig
from tasks.sources.scenes.families import FAMILIES, HELD_OUT, TRAINED
from training import estimates
from training.estimates import bootstrap
from training.evaluation.correspondence import known_pairs, score_pairs
from training.learning.state import BEST
from training.models import load_model
from training.networks.embeddings import embed
from training.reading.pairs import PairConfig
from training.reading.sampling import usable

if TYPE_CHECKING:
    from flows.experiments.experiment import ExperimentOptions

SEEDS_OF_PAPERS = "l3,ave,avol,many_to_many"
PROFILE_OF = {"sync": "video", "multisensory": "multisensory"}  # those that the usual profile does not serve
HEAD = (
    "| model | steps, s | other clips | same family | recall@1 in family (chance) | held-out families, same "
    "family | default - model, same family |\n|---|---:|---:|---:|---:|---:|---:|"
)
GOALS = (
    "contrastive: random >= 95 %, same family >= 70 %, recall@1 in family >= 5 x chance, held-out families' lower "
    "bound > 55 %; seed systems: lower bound > 60 %, contrastive above each; sync: >= 80 % within 120 ms, >= 85 % "
    "within a class"
)


def main() -> None:
    """Builds the scenes, trains, and prints the conditions and the table."""
    parser = scenes_parser(__doc__)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--models", default=SEEDS_OF_PAPERS)
    parser.add_argument("--alone", choices=PROFILE_OF)
    parser.add_argument(
        "--set", nargs="+", action="extend", default=[], help="as of `mcgurk train`, with --alone"
    )
    options = parser.parse_args()
    if options.set and not options.alone:
        parser.error("--set is for --alone: what is compared is compared as it is")
    settings = parsed(options.set)
    with scenes_built(options, PROFILE_OF.get(options.alone, "small")) as root:
        print(f"{options.minutes:g} minutes of the first, as many steps of the others\n")
        if not options.alone:
            compare(root, ["contrastive", *options.models.split(",")], options.minutes)
        else:
            found = of_model(root, options.alone, options.minutes, settings=settings)
            if options.alone == "sync":
                print_offsets(found)
            else:
                print(f"{HEAD}\n{row(options.alone, found, '')}")
    print(f"\nGoals (2,000 scenes, 10 minutes): {GOALS}")


def scenes_parser(description: str | None) -> argparse.ArgumentParser:
    """The options of what is measured on generated scenes: where they lie, and how many."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--root", type=Path)
    parser.add_argument("--scenes", type=int, default=2000)
    return parser


@contextmanager
def scenes_built(options: argparse.Namespace, profile: str) -> Iterator[Path]:
    """The root (of the block only, where none is given) with a version of the scenes; prints the conditions.

    Prefect runs inside the block: what imports it has to be imported there.
    """
    with tempfile.TemporaryDirectory() as folder:
        root = options.root or Path(folder)
        with prefect_api(root / "state"):
            from flows.build_dataset import build_dataset
            from flows.builds.options import BuildOptions

            corpus = CorpusConfig(num_scenes=options.scenes, eval_share=0.2)
            config = replace(presets.demo(), profile=PROFILES[profile], corpus=corpus)
            presets.PRESETS["benchmark"] = lambda: config
            build_dataset(BuildOptions(str(root), preset="benchmark"))
            print(
                f"\n{platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, "
                f"{torch.get_num_threads()} threads; {options.scenes} scenes"
            )
            yield root


def of_model(
    root: Path,
    model: str,
    minutes: float,
    steps: int | None = None,
    settings: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """The results of one model after so many minutes, or steps, with other settings of `presets.TrainSettings`."""
    from flows.experiments.experiment import ExperimentOptions  # after Prefect's address is known

    budget = f"{steps}-steps" if steps else f"{minutes:g}-minutes"
    asked = ExperimentOptions(
        str(root), model=model, seconds=60 * minutes, steps=steps, settings=settings or {}
    )
    return trained(root, f"{name_of(model, settings)}-{budget}", asked)


def name_of(model: str, settings: Mapping[str, Any] | None) -> str:
    """A model and what differs in its settings, as a part of a file's name."""
    return model.replace("/", "-") + (f"-{digest_of(settings)[:8]}" if settings else "")


def trained(root: Path, name: str, asked: "ExperimentOptions") -> dict[str, Any]:
    """The results of one experiment, done now or at an earlier call under that name."""
    from flows.run_experiment import run_experiment

    kept = root / f"benchmark-{name}.json"
    if not kept.exists():
        write_text(kept, json.dumps(run_experiment(asked)))
    return json.loads(kept.read_text("utf-8"))


def compare(root: Path, models: Sequence[str], minutes: float) -> None:
    """Trains each and prints its numbers."""
    print(HEAD)
    results = {}
    logits = {}
    steps = None
    for model in models:
        results[model] = of_model(root, model, minutes, steps)
        steps = steps or results[model]["steps"]
        logits[model], labels, videos = scores(root, results[model])
        gain = paired_gain(logits[models[0]], logits[model], labels, videos)
        print(row(model, results[model], gain), flush=True)
    oracle = results[models[0]]["correspondence"]["family_oracle"]
    print(
        f"| oracle of the family | | {100 * oracle['random']:.1f} | {100 * oracle['same_group']:.1f} | | | |"
    )


def row(model: str, found: dict[str, Any], gain: str) -> str:
    """One line of the table."""
    asked = found["correspondence"]
    recall = found["retrieval"]["image_to_audio"]["within_group"].get("recall_at_1")
    recalled = f"{100 * recall['value']:.1f} ({100 * recall['chance']:.1f})" if recall else "none"
    held_out = asked.get("held_out", {}).get("same_group", {})
    cells = [percent(asked[name]) for name in ("random", "same_group")] + [recalled, percent(held_out), gain]
    return f"| {model} | {found['steps']}, {found['train_s']:.0f} | " + " | ".join(cells) + " |"


def percent(scores: dict[str, Any]) -> str:
    """An accuracy with its interval."""
    if "accuracy" not in scores:
        return "no pairs"
    value, low, high = (100 * scores["accuracy"][name] for name in ("value", "low", "high"))
    return f"{value:.1f} ({low:.1f} to {high:.1f})"


def scores(root: Path, found: dict[str, Any]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Logits of a model on the pairs of one family, their labels and videos."""
    from flows.experiments.evaluate import evaluation_options
    from flows.experiments.experiment import ExperimentOptions, prepare

    experiment = prepare(ExperimentOptions(str(root)))
    model = load_model(experiment.folder(found["run_id"]) / BEST)
    clips = usable(experiment.dataset().split("eval"), model.view)
    config = PairConfig()
    encoded = embed(model, clips, config.num_steps)
    _, alike = known_pairs(clips, encoded, evaluation_options(experiment.pipeline), config)
    return score_pairs(model, encoded, alike), alike.labels, encoded.videos[alike.image_rows]


def paired_gain(one: np.ndarray, other: np.ndarray, labels: np.ndarray, videos: np.ndarray) -> str:
    """How much more often the first is right than the second, on the same pairs, with its interval."""

    def gain(at: np.ndarray) -> float:
        return estimates.accuracy(one[at], labels[at]) - estimates.accuracy(other[at], labels[at])

    found = bootstrap(gain, videos, 0.0)
    return f"{100 * found.value:+.1f} ({100 * found.low:+.1f} to {100 * found.high:+.1f})"


def print_offsets(found: dict[str, Any]) -> None:
    """The table of `sync`."""
    late = found["synchrony"]
    if not late["num_clips"]:
        print("no held-out clip has room for offsets")
        return
    print("| offsets of -2 to 2 s | % | chance |\n|---|---:|---:|")
    for name in ("within_120_ms", "within_one_class", "class_accuracy"):
        share = {"accuracy": late[name]}
        print(f"| {name.replace('_', ' ')} | {percent(share)} | {100 * late[name]['chance']:.1f} |")
    print(f"| median error, ms | {late['median_error_ms']:.0f} | |")
    print(f"\n{late['num_clips']} clips, {found['steps']} steps in {found['train_s']:.0f} s\n")
    print("| family | clips | within 120 ms, % | within a class, % |\n|---|---:|---:|---:|")
    struck = [one for one in late["per_group"] if FAMILIES[one["group"]].is_struck]
    for name, groups in {
        **{one["group"]: [one] for one in late["per_group"]},
        "all with onsets, of trained families": [one for one in struck if one["group"] in TRAINED],
        "all with onsets, of held-out families": [one for one in struck if one["group"] in HELD_OUT],
    }.items():
        clips = [one["num_clips"] for one in groups]
        near, class_ = (
            100 * np.average([one[key] for one in groups], weights=clips)
            for key in ("within_120_ms", "within_one_class")
        )
        print(f"| {name} | {sum(clips)} | {near:.0f} | {class_:.0f} |")


if __name__ == "__main__":
    main()
