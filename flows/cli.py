"""The console script `mcgurk`: few verbs, few options; everything else lives in presets."""

import argparse
import logging
import sys
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass

log = logging.getLogger("flows.cli")


@dataclass(frozen=True)
class Verb:
    """One verb: what it does, an example, its options and the function that does it."""

    summary: str
    example: str
    options: tuple[str, ...]
    run: Callable[[argparse.Namespace], int]


OPTIONS: dict[str, dict] = {
    "--root": {"required": True, "metavar": "DIR", "help": "where segments, clips, shards and versions lie"},
    "--preset": {
        "help": "a complete configuration: demo, small or standard; default: what ROOT was last built with"
    },
    "--segments": {"nargs": "+", "default": (), "metavar": "CSV", "help": "lists in AudioSet's format"},
    "--source": {"metavar": "S", "help": "youtube, http://host/{video_id}.mp4, folder:PATH or studio"},
    "--from": {"dest": "from_stage", "metavar": "STAGE", "help": "start at this stage"},
    "--only": {"choices": ("failed", "stale", "all"), "default": "all", "help": "which parts to do"},
    "--parts": {"metavar": "3,7-9", "help": "only these parts"},
    "--compute": {
        "default": "local",
        "metavar": "C",
        "help": "local (a Dask cluster here, the default), threads (no crash containment) or tcp://scheduler:8786",
    },
    "--state": {"metavar": "DIR", "help": "ledgers, logs and databases; default ROOT/state"},
    "--strict": {"action": "store_true", "help": "stop at a malformed line of a list"},
    "--model": {"metavar": "M", "help": "a model of training/models, default contrastive"},
    "--json": {"action": "store_true", "help": "machine-readable"},
}
BUILD_OPTIONS = (
    "--root", "--preset", "--segments", "--source", "--from", "--only", "--parts", "--compute", "--state",
    "--strict",
)  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one verb; returns 0 only if it did what was asked."""
    options = parser().parse_args(arguments)
    _log_plainly()
    try:
        return VERBS[options.verb].run(options)
    except (ValueError, FileNotFoundError) as error:  # what the user asked for cannot be done
        print(f"mcgurk {options.verb}: {error}", file=sys.stderr)
        return 2
    except (RuntimeError, OSError) as error:  # a stage, a gate, a server or the machine stopped
        print(f"mcgurk {options.verb}: stopped: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(
            f"\nmcgurk {options.verb}: interrupted; the same command goes on where it stopped",
            file=sys.stderr,
        )
        return 130


def parser() -> argparse.ArgumentParser:
    """The command line."""
    top = argparse.ArgumentParser(prog="mcgurk", description="Does this sound belong to this picture?")
    verbs = top.add_subparsers(dest="verb", required=True, metavar="VERB")
    for name, verb in VERBS.items():
        one = verbs.add_parser(
            name,
            help=verb.summary,
            description=verb.summary,
            epilog=f"example:\n  {verb.example}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        for option in verb.options:
            settings = OPTIONS[option]
            if name == "demo" and option == "--root":
                settings = {**settings, "required": False, "default": "demo"}
            one.add_argument(option, **settings)
    return top


def _log_plainly() -> None:
    """Our own lines on the console, one a message; other libraries only when they warn."""
    console = logging.StreamHandler()
    console.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%H:%M:%S"))
    for name in ("flows", "tasks", "training"):
        ours = logging.getLogger(name)
        ours.setLevel(logging.INFO)
        ours.addHandler(console)
        ours.propagate = False
    for noisy in ("distributed", "great_expectations", "httpx", "mlflow", "alembic"):
        logging.getLogger(noisy).setLevel(logging.ERROR)
    warnings.simplefilter("ignore")  # third parties' deprecations are not the user's business


def _build_options(options: argparse.Namespace):
    from flows.pipeline import BuildOptions

    return BuildOptions(
        root=options.root,
        preset=options.preset,
        segments=tuple(options.segments),
        source=options.source,
        from_stage=options.from_stage,
        only=options.only,
        parts=options.parts,
        compute=options.compute,
        state=options.state,
        strict=options.strict,
    )


def _build(options: argparse.Namespace) -> int:
    from flows.pipeline import check_source, plan_all, resolve
    from flows.text import funnel_text, plan_text

    asked = _build_options(options)
    pipeline = resolve(asked)
    check_source(pipeline)
    print(plan_text(plan_all(pipeline)), flush=True)
    from flows.servers import prefect_api

    with prefect_api(pipeline.state):
        from flows.dataset import build_dataset

        digest = build_dataset(asked)
    from tasks.publish import measure_funnel

    print(funnel_text(measure_funnel(pipeline.root)))
    print(f"\ndataset version {digest}\nnext: mcgurk train --root {options.root}")
    return 0


def _plan(options: argparse.Namespace) -> int:
    import json

    from flows.pipeline import plan_all, resolve
    from flows.text import plan_text

    plans = plan_all(resolve(_build_options(options)))
    if options.json:
        print(json.dumps({name: plan.counts() for name, plan in plans.items()}))
    else:
        print(plan_text(plans))
        print("\nnext: mcgurk build with the same options")
    return 0


def _status(options: argparse.Namespace) -> int:
    import json
    from pathlib import Path

    from flows.text import funnel_text, status_of

    status = status_of(Path(options.root).expanduser().absolute())
    if options.json:
        print(json.dumps(status))
        return 0
    print(funnel_text(status))
    print(f"\ndataset version {status['dataset_version'] or 'none yet'}")
    if status["next_attempt_at"]:
        print(
            f"next attempt due {status['next_attempt_at']}: mcgurk build --root {options.root} --from download"
        )
    return 0


def _train(options: argparse.Namespace) -> int:
    from flows.pipeline import BuildOptions, resolve
    from flows.servers import prefect_api

    pipeline = resolve(BuildOptions(options.root, options.preset, state=options.state))
    with prefect_api(pipeline.state):
        from flows.experiment import ExperimentOptions, run_experiment
        from flows.text import scores_text

        asked = ExperimentOptions(
            options.root, preset=options.preset, model=options.model, state=options.state
        )
        results = run_experiment(asked)
    print(f"{scores_text(results)}\n\n{results['reason']}\nreport  {results['report']}")
    print(f"next: mcgurk serve --root {options.root}")
    return 0


def _demo(options: argparse.Namespace) -> int:
    from flows.demo import demo

    return demo(options.root)


def _serve(options: argparse.Namespace) -> int:
    from flows.serve import serve

    return serve(options.root, options.state)


VERBS: dict[str, Verb] = {
    "demo": Verb(
        "the whole job on generated scenes, offline, in minutes",
        "mcgurk demo",
        ("--root",),
        _demo,
    ),
    "build": Verb(
        "segments -> clips -> features -> shards: does what is missing, failed or stale",
        "mcgurk build --root data --preset small --segments eval_segments.csv --source folder:videos",
        BUILD_OPTIONS,
        _build,
    ),
    "plan": Verb(
        "what build would do, and why, without doing it",
        "mcgurk plan --root data",
        (*BUILD_OPTIONS, "--json"),
        _plan,
    ),
    "train": Verb(
        "trains, evaluates and offers for promotion, as one MLflow run",
        "mcgurk train --root data --model contrastive",
        ("--root", "--preset", "--model", "--state"),
        _train,
    ),
    "status": Verb(
        "what became of every segment, and what is due when",
        "mcgurk status --root data",
        ("--root", "--json"),
        _status,
    ),
    "serve": Verb(
        "Prefect with our deployments, a worker and MLflow, for one machine",
        "mcgurk serve --root data",
        ("--root", "--state"),
        _serve,
    ),
}


if __name__ == "__main__":
    sys.exit(main())
