"""What each verb does: from the options of the command line to its exit code, printing what a person needs.

Imports stand inside, so that `mcgurk --help` and each verb pay for what they need only.
"""

import argparse
import json
import shlex
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from flows.services.watchdog import Watchdog


def _build_options(options: argparse.Namespace):
    from flows.builds.pipeline import BuildOptions

    return BuildOptions(
        root=options.root,
        preset=options.preset,
        segments=tuple(options.segments),
        source=options.source,
        window=options.window,
        val_share=options.val_share,
        eval_share=options.eval_share,
        labels=tuple(options.labels),
        per_class=options.per_class,
        sample=options.sample,
        from_stage=options.from_stage,
        only=options.only,
        parts=options.parts,
        compute=options.compute,
        state=options.state,
        refetch=options.refetch,
        strict=options.strict,
        growth=options.growth,
        with_media=options.with_media,
    )


def build(options: argparse.Namespace) -> int:
    """Does what is missing, failed or stale."""
    from flows.builds.checks import check
    from flows.builds.pipeline import plan_all, resolve
    from flows.commands.announce import command, settings_text
    from flows.commands.logs import quieted
    from flows.commands.text import funnel_text, plan_text
    from flows.experiments.trainable import missing_to_train
    from schemas.manifest import part_numbers
    from schemas.shard import read_version
    from tasks.transport import templates

    asked = _build_options(options)
    pipeline = resolve(asked)
    print(settings_text(pipeline), flush=True)
    print(plan_text(plan_all(pipeline)), flush=True)
    check(pipeline)
    templates.keep(pipeline.state, pipeline.secrets)
    asked = replace(asked, source=templates.without_secrets(asked.source)[0] if asked.source else None)
    from flows.services.servers import prefect_api
    from tasks.funnel import measure_funnel

    with prefect_api(pipeline.state):
        from flows.build_dataset import build_dataset
        from flows.services.runs import outcome_of

        try:
            with quieted(pipeline.state):
                digest = outcome_of(lambda: build_dataset(asked))
        except RuntimeError:
            if part_numbers(pipeline.root / "segments"):
                print(funnel_text(measure_funnel(pipeline.root)), flush=True)
            raise
    print(funnel_text(measure_funnel(pipeline.root)))
    version = read_version(pipeline.root, digest)
    print(f"\ndataset version {digest}\ncard {pipeline.root / 'versions' / digest}.html")
    if missing := missing_to_train(pipeline.root, version):
        print(f"too little to train on: {missing}")
    else:
        print(f"next: {command('train', options.root, pipeline.state)}")
    return 0


def plan(options: argparse.Namespace) -> int:
    """Says what build would do."""
    from flows.builds.pipeline import plan_all, resolve
    from flows.commands.announce import settings_text
    from flows.commands.text import plan_text

    pipeline = resolve(_build_options(options))
    if options.json:
        print(json.dumps({name: plan.counts() for name, plan in plan_all(pipeline).items()}))
        return 0
    print(settings_text(pipeline), flush=True)
    print(plan_text(plan_all(pipeline)))
    print(f"\nnext: {shlex.join(['mcgurk', 'build', *options.given])}")
    return 0


def status(options: argparse.Namespace) -> int:
    """What became of every segment."""
    from datetime import UTC, datetime

    from flows.builds.memory import find_state
    from flows.commands.announce import command
    from flows.commands.text import status_of, status_text
    from schemas.storage import open_root
    from tasks.lists.labels import find_labels

    root = open_root(options.root)
    state = find_state(root, options.state)
    status = status_of(root, state, datetime.now(UTC))
    if options.json:
        print(json.dumps(status))
        return 0
    print(status_text(status, {mid: name for mid, (_, name) in find_labels(root / "segments", []).items()}))
    print(
        f"\ndataset version {status['dataset_version'] or 'none yet'}{' (empty)' if status['is_emptied'] else ''}"
    )
    if status["reason"]:
        print(f"no sample: {status['reason']}")
    if status["next_attempt_at"]:
        again = command("build", options.root, state, "--from", "download")
        print(f"next attempt due {status['next_attempt_at']}: {again}")
    return 0


def doctor(options: argparse.Namespace) -> int:
    """What this machine has and lacks; 1 where something is missing."""
    from dataclasses import asdict
    from pathlib import Path

    from flows.commands.text import doctor_text
    from flows.credentials import secret_of
    from tasks.acquisition.doctor import examine
    from tasks.transport.lane_config import read_lanes

    state = Path(options.state or "state").expanduser().absolute()
    found = examine(read_lanes(state, ()), state, secret_of)
    print(json.dumps([asdict(one) for one in found]) if options.json else doctor_text(found))
    return 1 if any(one.remedy for one in found) else 0


def train(options: argparse.Namespace) -> int:
    """Trains, evaluates and offers for promotion; under torchrun all ranks train, and the first does the rest."""
    import os

    from flows.experiments.experiment import ExperimentOptions, assist, require_possible
    from flows.experiments.settings import parsed

    compared = _compared(options)
    settings = parsed(options.set)
    asked = ExperimentOptions(options.root, preset=options.preset, state=options.state, settings=settings)
    asked = asked if compared else replace(asked, model=options.model)
    ways = [one.asked_for(asked) for one in compared] or [asked]
    pipeline = _checked(ways)
    if int(os.environ.get("RANK", "0")) > 0:
        assist(asked)
        return 0
    for one in ways:
        require_possible(one)
    from flows.commands.announce import command
    from flows.commands.logs import quieted
    from flows.services.servers import prefect_api

    with prefect_api(pipeline.state):
        from flows.commands.text import comparison_text, scores_text
        from flows.run_experiment import run_experiment
        from flows.services.runs import outcome_of

        if compared:
            from flows.compare_models import compare_models

            with quieted(pipeline.state):
                found = outcome_of(lambda: compare_models(asked, compared))
            print(comparison_text(found))
        else:
            with quieted(pipeline.state):
                results = outcome_of(lambda: run_experiment(asked))
            print(f"{scores_text(results)}\n\n{results['reason']}\nreport  {results['report']}")
    print(f"next: {command('serve', options.root, pipeline.state)}")
    return 0


def _compared(options: argparse.Namespace):
    """The variants that `--study`, or `--model` with commas, asks to compare; none for one model."""
    from flows.experiments.studies import models_named, study_named
    from training.learning.ranks import world_size

    if options.study and options.model:
        raise ValueError(f"--study {options.study} names its models itself: give it without --model")
    asked = options.study or options.model
    if asked is None:
        return ()
    found = study_named(asked) if options.study else models_named(asked)
    if len(found) > 1 and world_size() > 1:
        raise ValueError(
            f"torchrun trains one model, and {asked} names {len(found)}: compare them without torchrun"
        )
    return found if len(found) > 1 else ()


def _checked(ways):
    """The pipeline, where no setting is one that no training can have, whatever the dataset. Raises ValueError."""
    from flows.builds.pipeline import BuildOptions, resolve
    from flows.experiments.fit import check

    pipeline = resolve(BuildOptions(ways[0].root, ways[0].preset, state=ways[0].state))
    for one in ways:
        check(one.merge_settings(pipeline.config.train))
    return pipeline


def demo(options: argparse.Namespace) -> int:
    """The whole job on generated scenes."""
    from flows.commands.demo import demo as run_demo

    return run_demo(options.root)


def serve(options: argparse.Namespace) -> int:
    """Serves until it is interrupted."""
    from flows.builds.pipeline import state_folder
    from flows.commands.serve import Doors
    from flows.commands.serve import serve as run_servers
    from schemas.storage import is_local, open_root

    root = open_root(options.root)
    if not is_local(root):
        raise ValueError(f"--root {options.root}: MLflow's database needs a disk: serve a local folder")
    doors = Doors(tuple(options.origin), options.mlflow_login)
    return run_servers(root, state_folder(root, options.state), doors)


def deploy(options: argparse.Namespace) -> int:
    """Puts pool, deployments and automation on the user's own Prefect server."""
    from flows.services.servers import given_api, prefect_api
    from schemas.storage import open_root

    root = open_root(options.root)
    if given_api() is None:
        raise ValueError("no server: set PREFECT_API_URL or a Prefect profile; for one of ours, mcgurk serve")
    with prefect_api(Path()) as address:
        from flows.services.deployments import POOL, deploy

        deploy(str(root))
    print(f"deployed on {address} for {root}\nnext: prefect worker start --pool {POOL}")
    return 0


def swept(options: argparse.Namespace, watchdog: "Watchdog") -> None:
    """Has what a stopped or killed command leaves half-written under its root removed."""
    from flows.builds.pipeline import state_folder
    from schemas.storage import is_local, open_root

    root = open_root(options.root)
    if is_local(root):
        watchdog.sweeps(root, state_folder(root, getattr(options, "state", None)))


def _indexed(options: argparse.Namespace):
    """The pipeline of a root that has segments, published or not. Raises ValueError for any other."""
    from flows.builds.pipeline import BuildOptions, resolve
    from schemas.manifest import part_numbers
    from schemas.storage import open_root

    if not part_numbers(open_root(options.root) / "segments"):
        raise ValueError(f"{options.root} has no segments: nothing was changed")
    return resolve(BuildOptions(options.root, state=options.state))


def _standing(options: argparse.Namespace):
    """The pipeline of a root that has a version. Raises ValueError for any other."""
    from flows.builds.pipeline import BuildOptions, resolve
    from schemas.shard import read_version
    from schemas.storage import open_root

    read_version(open_root(options.root))
    return resolve(BuildOptions(options.root, state=options.state))


def verify(options: argparse.Namespace) -> int:
    """Every digest anew from the bytes on disk; 1 where something differs."""
    from flows.commands.announce import command
    from flows.commands.text import verify_text
    from flows.compute import open_compute
    from tasks.leases import lease
    from tasks.versions.verify import verify as verify_root

    pipeline = _standing(options)
    with lease(pipeline.state, "tars"):
        with open_compute("threads") as map_items:
            found = verify_root(pipeline.root, map_items)
        if options.rebuild:
            from flows.builds.rebuild import rebuild

            with open_compute(options.compute) as map_items:
                found += rebuild(pipeline, map_items)
    if options.json:
        told = [vars(one) for one in found.differences]
        print(json.dumps({"checked": dict(found.checked), "differences": told}))
    else:
        print(verify_text(found, command("plan", options.root, pipeline.state)))
    return 1 if found.differences else 0


def prune(options: argparse.Namespace) -> int:
    """Removes what no kept version, no running training and no manifest names."""
    from flows.commands.text import pruned_text
    from tasks.versions.prune import prune as prune_root

    pipeline = _standing(options)
    print(pruned_text(prune_root(pipeline.root, pipeline.state)))
    return 0


def forget(options: argparse.Namespace) -> int:
    """Takes videos down, everywhere, and says what was done."""
    from flows.builds.takedown import forget as forget_videos
    from flows.commands.announce import command
    from flows.commands.text import forgotten_text

    pipeline = _indexed(options)
    print(f"taking down {', '.join(options.video_ids)} under {pipeline.root}", flush=True)
    print(forgotten_text(forget_videos(pipeline, options.video_ids)))
    print(f"next: {command('verify', options.root, pipeline.state)}")
    return 0
