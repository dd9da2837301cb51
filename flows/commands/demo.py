"""`mcgurk demo`: the whole job on generated scenes, offline, in minutes."""

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from flows.arguments import Root
from flows.builds.checks import checked, handing_on
from flows.builds.options import BuildOptions
from flows.commands.announce import command
from flows.commands.logs import quieted
from flows.commands.text import funnel_text, scores_text
from flows.services.servers import prefect_api
from tasks.funnel import measure_funnel

EXAMPLE = "mcgurk demo"
IS_LONG = True


@dataclass(frozen=True)
class Options:
    """The folder in which the demo works."""

    root: Root = "demo"


def run(options: Options) -> int:
    """Generates, downloads, validates, extracts, packs, trains, evaluates, registers, reports."""
    root = options.root
    build = BuildOptions(root, preset="demo", source="studio")
    pipeline = checked(build)
    scenes = pipeline.config.corpus.num_scenes
    seconds = pipeline.config.train.seconds
    print(
        f"mcgurk demo: {scenes} generated scenes -> loopback host -> yt-dlp -> validate -> extract -> shards -> "
        f"train ({seconds:g} s) -> evaluate -> MLflow. 6 to 8 minutes on 2 cores, under {pipeline.root}",
        flush=True,
    )
    took: dict[str, float] = {}
    with ExitStack() as servers:
        with _timed(took, "start Prefect"):
            servers.enter_context(prefect_api(pipeline.state))
        with _timed(took, "dataset"):
            from flows.build_dataset import build_dataset
            from flows.services.runs import outcome_of

            servers.enter_context(quieted(pipeline.state))
            with handing_on(pipeline):
                digest = outcome_of(lambda: build_dataset(build))
        with _timed(took, "experiment"):
            from flows.experiments.experiment import ExperimentOptions
            from flows.run_experiment import run_experiment

            results = outcome_of(lambda: run_experiment(ExperimentOptions(root)))
    print("\n" + funnel_text(measure_funnel(pipeline.root)))
    print("\n" + scores_text(results))
    print(f"\n{results['reason']}\ntook {', '.join(f'{name} {s:.0f} s' for name, s in took.items())}")
    print(f"dataset version {digest}\nreport  {_shown(results['report'])}")
    print(f"browse the runs of Prefect and MLflow: .venv/bin/{command('serve', root, pipeline.state)}")
    return 0


def _shown(path: str) -> str:
    """The path, relative to the current folder if it is below it."""
    here = Path.cwd()
    return str(Path(path).relative_to(here)) if Path(path).is_relative_to(here) else path


@contextmanager
def _timed(took: dict[str, float], what: str) -> Iterator[None]:
    began = time.monotonic()
    yield
    took[what] = time.monotonic() - began
