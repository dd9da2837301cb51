"""build_dataset: index -> download -> validate -> extract -> validate -> pack -> publish, each gated."""

import logging
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from prefect import flow
from prefect.artifacts import create_table_artifact
from prefect.events import emit_event
from prefect.states import Completed

from flows.builds.checks import check
from flows.builds.memory import remember
from flows.builds.options import BuildOptions
from flows.builds.pipeline import Pipeline, parts_asked, plan_one, plan_publish, resolve, stages_asked
from flows.builds.takedown import finish_takedowns
from flows.compute import Map, open_compute
from flows.credentials import secrets_of
from flows.experiments.due import GROWTH, why_due
from flows.services.runs import UNREACHABLE, is_scheduled, is_waiting, noted, returned, take_over
from flows.task_runs import GROUP, stage_task
from schemas import layout
from schemas.shard import Version, latest_digest, read_version
from tasks import download, extract, funnel, index, pack, publish, validate
from tasks.acquisition import retention
from tasks.acquisition.retention import DiskBudget
from tasks.download import DownloadContext
from tasks.leases import HeldError, building, lease, remove_partial_writes
from tasks.parts import Stage
from tasks.sources import studio
from tasks.transport import templates
from tasks.versions.card import has_media, write_card

log = logging.getLogger(__name__)

GATHERING = ("download", "validate-clips", "extract")
MB = 1e6
GB = 1e9
NEW_VERSION = "mcgurk.dataset-version.created"
TRAINING_DUE = "mcgurk.training.due"  # fires the deployment TRAINING of prefect.yaml
TRAINING = "on-new-version"
# Who builds the same root waits for a group of parts at most; those after `clips` change the same files.
LEASES = {
    "index": "segments",
    "validate-segments": "segments",
    "download": "clips",
    "validate-clips": "clips",
}


@flow(name="build-dataset", persist_result=False)
def build_dataset(options: BuildOptions) -> Any:
    """Does what is missing, failed or stale, and nothing else; returns the digest of the dataset version.

    A scheduled one ends at once, as `Skipped`, where another process builds the same root. Raises NotPublished where
    what stands then makes no version.
    """
    pipeline = resolve(options)
    check(pipeline)
    take_over(pipeline.state)
    try:
        with noted(pipeline.state), building(pipeline.state, only_if_alone=is_scheduled()):
            return returned(_build(pipeline))
    except HeldError as held:
        log.warning("%s", held)
        return Completed(name="Skipped", message=str(held))


def _build(pipeline: Pipeline) -> str:
    before = latest_digest(pipeline.root)
    templates.keep(pipeline.state, pipeline.secrets)
    remember(pipeline.root, pipeline.options, pipeline.state)
    finish_takedowns(pipeline)
    asked = stages_asked(pipeline.options)
    with open_compute(pipeline.options.compute) as map_items:
        for name in asked:
            if name == "index":
                _index(pipeline, map_items)
            elif name not in (*GATHERING, "publish"):
                _run_stage(pipeline, name, map_items)
            elif name == GATHERING[-1]:
                _gather(pipeline, map_items, [one for one in asked if one in GATHERING])
    try:
        _publish(pipeline)
    finally:
        _show_funnel(pipeline)
    digest = latest_digest(pipeline.root) or ""
    if digest:
        _tell(pipeline, read_version(pipeline.root, digest), is_new=digest != before)
    return digest


def _tell(pipeline: Pipeline, version: Version, *, is_new: bool) -> None:
    """Tells Prefect of a new version, and where a training of this root is due and none waits, of that."""
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
        log.warning("a training is due (%s), and Prefect's server was not told: %s", why, error)


def _index(pipeline: Pipeline, map_items: Map) -> None:
    with lease(pipeline.state, LEASES["index"]):
        remove_partial_writes(pipeline.root, LEASES["index"])
        if pipeline.is_studio and not pipeline.options.segments:
            stage_task("studio", studio.render)(pipeline.state, pipeline.config.corpus, map_items)
        if record := pipeline.record():
            record.write(pipeline.state / layout.WINDOWS)
        counts = stage_task("index", index.index)(
            pipeline.root, pipeline.lists, pipeline.config.index, strict=pipeline.options.strict
        )
    log.info("index: %(segments)d new segments in %(parts)d new parts, %(malformed)d malformed lines", counts)


def _gather(pipeline: Pipeline, map_items: Map, names: Sequence[str]) -> None:
    """From download to extract, and again as long as only the disk's budget held fetching back."""
    *before, last = names
    is_held_back = True
    is_to_ask = pipeline.options.refetch and before[:1] == ["download"]
    while is_held_back:
        room = _room(pipeline)
        for name in before:
            _run_stage(pipeline, name, map_items, room)
        if is_to_ask:
            is_to_ask = False
            if _ask_again(pipeline):
                continue
        _run_stage(pipeline, last, map_items)
        _release(pipeline)
        is_held_back = room.was_spent and not _room(pipeline).is_spent
    if room.was_spent:
        log.warning(
            "download: %g GB of media wait for extraction, as many as may; nothing more is fetched until "
            "their parts are extracted",
            pipeline.config.download.unextracted_gb,
        )


def _room(pipeline: Pipeline) -> DiskBudget:
    """What the disk's budget leaves for media that wait for extraction."""
    budget_bytes = pipeline.config.download.unextracted_gb * GB
    return DiskBudget(lambda: budget_bytes - retention.unextracted_bytes(*map(pipeline.stage, GATHERING)))


def _ask_again(pipeline: Pipeline) -> int:
    """Has clips fetched again whose media were not kept, and that would be made otherwise; returns how many."""
    clips = pipeline.stage("download")
    extract = pipeline.stage("extract")
    with lease(pipeline.state, LEASES["download"]):
        needs = retention.needs(clips, extract, only=parts_asked(pipeline.options))
        count = retention.request_refetch(clips, needs.lost, pipeline.now, kept=needs.standing)
    if count:
        log.info("download: %s", retention.refetch_notice(needs.all))
    return count


def _release(pipeline: Pipeline) -> None:
    """Removes the media of what was extracted, where the preset doesn't keep them."""
    if not pipeline.config.download.keep_media:
        with lease(pipeline.state, LEASES["download"], "features"):
            freed = retention.release(pipeline.stage("download"), pipeline.stage("extract"))
        if freed:
            log.info("extract: %.1f MB of media removed", freed / MB)


def _run_stage(pipeline: Pipeline, name: str, map_items: Map, room: DiskBudget | None = None) -> None:
    """One stage, as one task run a group of due parts."""
    stage = pipeline.stage(name)
    only = pipeline.options.only
    due = plan_one(pipeline, name).due(only, parts_asked(pipeline.options))
    if not due:
        log.info("%s: nothing to do", name)
    else:
        _sweep(pipeline, name)
    day = DownloadContext(
        pipeline.now, pipeline.state, secret=secrets_of(pipeline.state), budget=room or DiskBudget()
    )
    runner = stage_task(name, _runner(pipeline, name, map_items, day))
    for group in _groups(name, due):
        with lease(pipeline.state, LEASES.get(name, "features")):
            # Another build may have done it while this one waited.
            left = plan_one(pipeline, name, only=group).due(only, group)
            if left:
                runner(stage, left)
            else:
                log.info("%s: another build has done parts %d to %d", name, group[0], group[-1])


def _sweep(pipeline: Pipeline, name: str) -> None:
    """Removes what an earlier run of a stage left when it was killed."""
    held = LEASES.get(name, "features")
    with lease(pipeline.state, held):
        remove_partial_writes(pipeline.root, held)


def _runner(
    pipeline: Pipeline, name: str, map_items: Map, day: DownloadContext
) -> Callable[[Stage, Sequence[int]], object]:
    config = pipeline.config
    if name.startswith("validate-"):
        return lambda stage, parts: validate.run(stage, parts, config.rules, config.profile)
    return {
        "download": lambda stage, parts: download.run(stage, parts, config.download, day),
        "extract": lambda stage, parts: extract.run(stage, parts, config.profile, map_items),
        "pack": lambda stage, parts: pack.run(stage, parts, pipeline.pack_config),
    }[name]


def _groups(name: str, parts: Sequence[int]) -> Iterator[Sequence[int]]:
    """Validation reads the whole manifest anyway, so it is one task run."""
    size = len(parts) if name.startswith("validate-") else GROUP
    for start in range(0, len(parts), max(size, 1)):
        yield parts[start : start + size]


def _publish(pipeline: Pipeline) -> None:
    with lease(pipeline.state, "features"):
        if not plan_publish(pipeline, plan_one(pipeline, "pack")).due():
            log.info("publish: nothing to do")
            _show_media(pipeline)
            return
        remove_partial_writes(pipeline.root, "features")
        config = pipeline.config
        runner = stage_task("publish", publish.publish)
        media = pipeline.with_media
        runner(pipeline.root, config.profile, config.rules, pipeline.labels, with_media=media)


def _show_media(pipeline: Pipeline) -> None:
    """Writes the latest version's card with media, where they are allowed and not in it yet."""
    version = read_version(pipeline.root)
    if pipeline.with_media and version.shards and not has_media(pipeline.root, version.digest):
        log.info("%s", write_card(pipeline.root, version, pipeline.labels, with_media=True))


def _show_funnel(pipeline: Pipeline) -> None:
    counts = funnel.measure_funnel(pipeline.root)
    rows = [
        {"fate": fate, "reason": reason, "segments": n}
        for fate in ("quarantined", "unavailable", "waiting")
        for reason, n in counts[fate].items()
    ]
    rows.insert(0, {"fate": "in shards", "reason": "", "segments": counts["in_shards"]})
    try:
        create_table_artifact(rows, key="funnel", description="What became of every segment")
    except UNREACHABLE as error:  # the page lacks it; the root does not
        log.warning("Prefect's server has no funnel of this run: %s", error)
