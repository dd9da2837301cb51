"""build_dataset: index -> download -> validate -> extract -> validate -> pack -> publish, each gated."""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import groupby
from typing import Any

from prefect import flow
from prefect.events import emit_event
from prefect.runtime import flow_run
from prefect.states import Completed

from flows.builds.checks import checked, handed_on
from flows.builds.memory import remember
from flows.builds.options import BuildOptions
from flows.builds.overview import renew_overview
from flows.builds.pipeline import Pipeline, resolve
from flows.builds.plan import plan_one, plan_publish
from flows.builds.signs import news
from flows.builds.takedown import finish_takedowns
from flows.compute import open_when_used
from flows.credentials import secrets_of
from flows.experiments.due import GROWTH, why_due
from flows.run_page import followed, named, rename, show_funnel, show_links, sound_alarms, stretch
from flows.services.runs import UNREACHABLE, is_scheduled, is_waiting, noted_run, record_result, take_over
from flows.stages import TABLE, BuildStage, Tools, stages_from
from flows.task_runs import parts_text, task_of
from schemas.errors import McgurkError
from schemas.layout import SEGMENTS, VALIDATION, VERSIONS, WINDOWS, stage_facts
from schemas.manifest import part_numbers
from schemas.shard import Version, latest_digest, read_version
from tasks import funnel, index, publish
from tasks.acquisition import retention
from tasks.acquisition.retention import DiskBudget
from tasks.columns import read_columns
from tasks.download import DownloadContext
from tasks.from_receipt import index_receipt, require_kept
from tasks.leases import HeldError, building, lease, remove_partial_writes
from tasks.sources import studio
from tasks.transport import templates
from tasks.versions.card import has_media, write_card

RunStage = Callable[[Pipeline, BuildStage, Tools], None]
log = logging.getLogger(__name__)

MB = 1e6
GB = 1e9
NEW_VERSION = "mcgurk.dataset-version.created"
TRAINING_DUE = "mcgurk.training.due"  # fires the deployment TRAINING of prefect.yaml
TRAINING = "on-new-version"


def _run_name() -> str:
    """The name of the run that starts now, from its options."""
    try:
        return _name_of(handed_on() or resolve(flow_run.parameters["options"]))
    except (McgurkError, OSError, ValueError):  # the run itself says what is wrong
        return named("build")


def _name_of(pipeline: Pipeline) -> str:
    """Says how many clips the index has, if there is an index."""
    parts = part_numbers(pipeline.root / SEGMENTS)
    count = read_columns(pipeline.root / SEGMENTS, parts, ("row",)).num_rows
    return named("build", pipeline.options.preset or "", f"{count} clips" if count else "")


@flow(name="build-dataset", flow_run_name=_run_name, persist_result=False)
def build_dataset(options: BuildOptions) -> Any:
    """Does what is missing, failed or stale, and nothing else; returns the digest of the dataset version.

    A scheduled build ends at once, as `Skipped`, if another process builds the same root. Raises NotPublished if the
    result makes no version.
    """
    pipeline = handed_on() or checked(options)
    take_over(pipeline.state)
    try:
        # An appeal takes turns with the hourly build, which may take an hour; otherwise it might never be heard.
        is_alone = is_scheduled() and not pipeline.options.retry
        with noted_run(pipeline.state), building(pipeline.state, only_if_alone=is_alone), followed():
            return record_result(_build(pipeline))
    except HeldError as held:
        log.warning("%s", held)
        return Completed(name="Skipped", message=str(held))


def _build(pipeline: Pipeline) -> str:
    before = latest_digest(pipeline.root)
    templates.keep(pipeline.state, pipeline.secrets)
    remember(pipeline.root, pipeline.options, pipeline.state)
    finish_takedowns(pipeline)
    with _announcing_signs(pipeline):
        digest = run_stages(pipeline, WHOLE)
    if digest:
        _announce(pipeline, read_version(pipeline.root, digest), is_new=digest != before)
        _show_links(pipeline, digest)
    return digest


def run_stages(pipeline: Pipeline, whole: Mapping[str, RunStage]) -> str:
    """Runs what is due of each stage, and notifies nobody; returns the digest of the version, empty if there is none.

    `whole` has the stages that are not made part by part.
    """
    with open_when_used(pipeline.options.compute) as map_items:
        for row, budget in _in_order(pipeline):
            context = DownloadContext(
                pipeline.now,
                pipeline.state,
                secret=secrets_of(pipeline.state),
                budget=budget,
                reopened=pipeline.reopened,
            )
            run = whole.get(row.name, _run_parts)
            with _blamed(row.name):
                run(pipeline, row, Tools(map_items, context))
    return latest_digest(pipeline.root) or ""


@contextmanager
def _blamed(stage: str) -> Iterator[None]:
    """An error that leaves the block names its stage: an alarm has no other information."""
    try:
        yield
    except McgurkError as error:
        if stage not in str(error):
            error.args = (f"{stage}: {error}",)
        raise


@contextmanager
def _announcing_signs(pipeline: Pipeline) -> Iterator[None]:
    """After the block, whether it failed or not, tells Prefect's server what started to fail and what works again.

    Only in a run of a deployment: a user who builds by hand sees it.
    """
    try:
        yield
    finally:
        if is_scheduled():
            sound_alarms(news(pipeline.root, pipeline.state, pipeline.now))


def _in_order(pipeline: Pipeline) -> Iterator[tuple[BuildStage, DiskBudget]]:
    """The stages to run, each with what the disk budget leaves for media."""
    rows = stages_from(pipeline.options.from_stage)
    for is_bounded, group in groupby(rows, key=lambda row: row.is_bounded):
        some = list(group)
        yield from _rounds(pipeline, some) if is_bounded else ((row, DiskBudget()) for row in some)


def _rounds(pipeline: Pipeline, rows: Sequence[BuildStage]) -> Iterator[tuple[BuildStage, DiskBudget]]:
    """From download to extract, repeated as long as only the disk budget held downloads back."""
    *before, last = rows
    is_to_request = pipeline.options.refetch and "download" in [row.name for row in before]
    is_held_back = True
    while is_held_back:
        budget = _disk_budget(pipeline)
        yield from ((row, budget) for row in before)
        if is_to_request:
            is_to_request = False
            if _request_refetch(pipeline):
                continue
        yield last, budget
        _release(pipeline)
        is_held_back = budget.was_spent and not _disk_budget(pipeline).is_spent
    if budget.was_spent:
        log.warning(
            "download: %g GB of media wait for extraction, which is the limit; downloads continue when "
            "their parts are extracted",
            pipeline.config.download.unextracted_gb,
        )


def _announce(pipeline: Pipeline, version: Version, *, is_new: bool) -> None:
    """Tells Prefect about a new version, and about a training of this root that is due if none is waiting."""
    root = str(pipeline.root)
    resource = {"prefect.resource.id": f"mcgurk.dataset.{version.digest}", "mcgurk.root": root}
    facts = {"digest": version.digest, "root": root}
    if is_new and version.shards:
        emit_event(NEW_VERSION, resource=resource, payload=facts)
    growth = pipeline.options.growth or GROWTH
    why = why_due(pipeline.root, pipeline.state, version, growth, pipeline.now)
    try:
        if why and not is_waiting(TRAINING, root):
            log.info("a training is due: %s", why)
            emit_event(TRAINING_DUE, resource=resource, payload={**facts, "why": why})
    except UNREACHABLE as error:  # the next build asks again
        log.warning("a training is due (%s), but Prefect's server could not be informed: %s", why, error)


def make_index(pipeline: Pipeline, row: BuildStage, tools: Tools) -> None:
    """Gives every segment its slot; before that, renders the scenes of the studio and reads the user's own files."""
    held = stage_facts(row.name).lease
    with lease(pipeline.state, held):
        remove_partial_writes(pipeline.root, held)
        if pipeline.is_studio and not pipeline.options.segments:
            task_of("studio", studio.render)(pipeline.state, pipeline.config.corpus, tools.map_items)
        if record := pipeline.record():
            record.write(pipeline.state / WINDOWS)
        if pipeline.receipt:
            task_of("receipt", index_receipt)(pipeline.root, pipeline.receipt)
        else:
            require_kept(pipeline.root)
        counts = task_of(row.name, index.index)(
            pipeline.root, pipeline.lists, pipeline.config.index, strict=pipeline.options.strict
        )
    log.info("index: %(segments)d new segments in %(parts)d new parts, %(malformed)d malformed lines", counts)
    if counts["segments"]:
        rename(_name_of(pipeline))


def _disk_budget(pipeline: Pipeline) -> DiskBudget:
    """What the disk budget leaves for media that wait for extraction."""
    budget_bytes = pipeline.config.download.unextracted_gb * GB
    bounded = [row.over(pipeline) for row in TABLE if row.is_bounded]
    return DiskBudget(lambda: budget_bytes - retention.unextracted_bytes(*bounded))


def _request_refetch(pipeline: Pipeline) -> int:
    """Marks clips to be fetched again whose media were not kept but are needed now; returns how many."""
    clips = pipeline.stage("download")
    extract = pipeline.stage("extract")
    with lease(pipeline.state, stage_facts("download").lease):
        needs = retention.needs(clips, extract, only=pipeline.options.part_numbers)
        count = retention.request_refetch(clips, needs.lost, pipeline.now, kept=needs.standing)
    if count:
        log.info("download: %s", retention.refetch_notice(needs.all))
    return count


def _release(pipeline: Pipeline) -> None:
    """Removes the media of extracted clips, if the preset doesn't keep them."""
    if not pipeline.config.download.keep_media:
        with lease(pipeline.state, *(stage_facts(name).lease for name in ("download", "extract"))):
            freed = retention.release(pipeline.stage("download"), pipeline.stage("extract"))
        if freed:
            log.info("extract: %.1f MB of media removed", freed / MB)


def _run_parts(pipeline: Pipeline, row: BuildStage, tools: Tools) -> None:
    """One stage, as one task run per group of due parts."""
    stage = row.over(pipeline)
    only = pipeline.options.only
    due = plan_one(pipeline, row.name).due(only, pipeline.options.part_numbers)
    if not due:
        log.info("%s: nothing to do", row.name)
        return
    held = stage_facts(row.name).lease
    with lease(pipeline.state, held):
        remove_partial_writes(pipeline.root, held)  # of a run that was killed
    runner = task_of(
        row.name,
        lambda parts: row.run and row.run(pipeline, tools, stage, parts),
        retries=row.retries,
        retry_delay_s=row.retry_delay_s,
    )
    num_done = 0
    for group in _groups(due, row.group or len(due)):
        with (
            lease(pipeline.state, held),
            stretch(num_done / len(due), (num_done + len(group)) / len(due)),
        ):
            # Another build may have done these parts while this one waited.
            left = plan_one(pipeline, row.name, only=group).due(only, group)
            if left:
                runner.with_options(task_run_name=f"{row.name} {parts_text(left)}")(left)
            else:
                log.info("%s: another build has done parts %d to %d", row.name, group[0], group[-1])
        num_done += len(group)


def _groups(parts: Sequence[int], size: int) -> Iterator[Sequence[int]]:
    for start in range(0, len(parts), size):
        yield parts[start : start + size]


def _publish(pipeline: Pipeline, row: BuildStage, tools: Tools) -> None:
    try:
        publish_version(pipeline, row, tools)
    finally:
        show_funnel(funnel.measure_funnel(pipeline.root))
        renew_overview(pipeline.root, pipeline.state)


def publish_version(pipeline: Pipeline, row: BuildStage, tools: Tools) -> None:
    """Makes a version of the shards, if that is due."""
    del tools
    held = stage_facts(row.name).lease
    with lease(pipeline.state, held):
        if not plan_publish(pipeline, plan_one(pipeline, "pack")).due():
            log.info("publish: nothing to do")
            _show_media(pipeline)
            return
        remove_partial_writes(pipeline.root, held)
        runner = task_of(row.name, publish.publish)
        runner(
            pipeline.root,
            pipeline.settings,
            with_media=pipeline.with_media,
            accepts_rules=pipeline.accepts_rules,
        )


def _show_media(pipeline: Pipeline) -> None:
    """Writes the latest version's card with media, if they are allowed and not in it yet."""
    version = read_version(pipeline.root)
    if pipeline.with_media and version.shards and not has_media(pipeline.root, version.digest):
        log.info("%s", write_card(pipeline.root, version, pipeline.labels, with_media=True))


def _show_links(pipeline: Pipeline, digest: str) -> None:
    folder = pipeline.root / VERSIONS
    places = {"dataset version": digest, "data card": folder / f"{digest}.html"}
    show_links({**places, "what was checked": pipeline.root / VALIDATION / "index.html"})


WHOLE: Mapping[str, RunStage] = {
    "index": make_index,
    "publish": _publish,
}  # the stages that are not made part by part
