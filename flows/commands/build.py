"""`mcgurk build`: segments -> clips -> features -> shards; does what is missing, failed or stale."""

from dataclasses import replace
from pathlib import Path

from flows.builds.checks import check, handing_on
from flows.builds.memory import remember
from flows.builds.options import BuildOptions
from flows.builds.pipeline import Pipeline, resolve
from flows.builds.plan import is_complete, plan_all, require_parts
from flows.commands.announce import command, settings_text
from flows.commands.diff import differences_text
from flows.commands.logs import quieted
from flows.commands.text import funnel_text, plan_text
from flows.experiments.trainable import missing_to_train
from flows.services.servers import given_api, prefect_api, served_api
from schemas.errors import McgurkError
from schemas.layout import SEGMENTS, VERSIONS
from schemas.manifest import part_numbers
from schemas.receipt import read_receipt
from schemas.shard import latest_digest, read_version, receipt_path
from tasks.funnel import measure_funnel
from tasks.transport import templates
from tasks.versions.differences import differences

EXAMPLE = "mcgurk build --root data --preset small --segments eval_segments.csv --source folder:videos"
IS_LONG = True
Options = BuildOptions


def run(options: BuildOptions) -> int:
    """Prints what will be done, and does it."""
    pipeline = resolve(options)
    print(settings_text(pipeline), flush=True)
    plans = plan_all(pipeline)
    require_parts(pipeline, plans)
    print(plan_text(plans), flush=True)
    check(pipeline)
    templates.keep(pipeline.state, pipeline.secrets)
    if is_complete(pipeline, plans) and not _has_server(pipeline.state):
        remember(pipeline.root, pipeline.options, pipeline.state)
        digest = latest_digest(pipeline.root) or ""
    else:
        source = templates.without_secrets(options.source)[0] if options.source else None
        digest = _built(pipeline, replace(options, source=source))
    print(funnel_text(measure_funnel(pipeline.root)))
    if pipeline.receipt:
        print(f"\n{_of_receipt(pipeline, pipeline.receipt, digest)}")
    print(f"\ndataset version {digest}\ncard {pipeline.root / VERSIONS / digest}.html")
    if missing := missing_to_train(pipeline.root, read_version(pipeline.root, digest)):
        print(f"too little to train on: {missing}")
    else:
        print(f"next: {command('train', options.root, pipeline.state)}")
    return 0


def _of_receipt(pipeline: Pipeline, receipt: Path, digest: str) -> str:
    """How far the version matches the receipt that it is built from, and why it differs where it does."""
    found = differences(read_receipt(receipt), read_receipt(receipt_path(pipeline.root, digest)))
    more = command("diff", pipeline.root, None, str(receipt), "latest")
    return "\n".join([*differences_text(found), *([f"each of them: {more}"] if found.segments else [])])


def _has_server(state: Path) -> bool:
    """Whether a Prefect server is up that can show the run of this build."""
    return bool(given_api() or served_api(state))


def _built(pipeline: Pipeline, options: BuildOptions) -> str:
    """The digest of the version that the flow makes; `options`, which Prefect stores, must hold no secret."""
    with prefect_api(pipeline.state):
        from flows.build_dataset import build_dataset  # Prefect reads its settings when it is imported
        from flows.services.runs import outcome_of

        try:
            with quieted(pipeline.state), handing_on(pipeline):
                return outcome_of(lambda: build_dataset(options))
        except McgurkError:
            if part_numbers(pipeline.root / SEGMENTS):
                print(funnel_text(measure_funnel(pipeline.root)), flush=True)
            raise
