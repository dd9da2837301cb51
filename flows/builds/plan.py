"""What a build would do, stage by stage, without doing it."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

from flows.builds.pipeline import Pipeline
from flows.stages import TABLE, stage_named
from schemas.errors import RequestError
from schemas.layout import SEGMENTS, VERSIONS
from schemas.manifest import part_numbers
from schemas.shard import duplicates_path, exclude_path, latest_digest, make_version, receipt_path
from tasks import index
from tasks.acquisition import retention
from tasks.features import member_suffixes
from tasks.from_receipt import missing_parts, require_kept
from tasks.inventory import lost_parts
from tasks.parts import Headers, PartPlan, Plan, header_of, plan_stage
from tasks.shard_files import packed
from tasks.sources import studio
from tasks.standing import num_kept
from tasks.tombstones import read_tombstones
from tasks.versions.card import has_media, kept_on_card
from tasks.versions.croissant import lacks_croissant
from tasks.versions.receipts import is_kept

LOST = "lost: it comes back from its validated twin, or from its lists"


def plan_all(pipeline: Pipeline) -> dict[str, Plan]:
    """What a run would do, stage by stage, without doing it."""
    headers_of = cache(header_of)  # several stages need each of them
    with _planned_lists(pipeline) as lists:
        before = plan_index(pipeline, lists, headers_of)
    plans = {before.stage: before}
    for row in TABLE:
        if row.make:
            before = plan_one(pipeline, row.name, before, headers_of=headers_of)
            plans[row.name] = before = _with_refetches(pipeline, before, headers_of)
    return {**plans, "publish": plan_publish(pipeline, before, headers_of)}


def require_parts(pipeline: Pipeline, plans: Mapping[str, Plan]) -> None:
    """Raises RequestError if `--parts` names a part that neither exists nor would be created for new segments."""
    there = {one.part for one in plans["index"].parts}
    absent = sorted(set(pipeline.options.part_numbers or ()) - there)
    if absent:
        has = f"its parts are 0 to {max(there)}" if there else "it has none yet"
        raise RequestError(
            f"--parts {pipeline.options.parts}: {pipeline.root} has no part {absent[0]}: {has}"
        )


def is_complete(pipeline: Pipeline, plans: Mapping[str, Plan]) -> bool:
    """Whether a build would change nothing: no part is due, and no take-down is unfinished.

    Nor does a card lack its media, or a receipt its copy.
    """
    if any(plan.due() for plan in plans.values()):
        return False
    if pipeline.receipt and not is_kept(pipeline.root, pipeline.receipt):
        return False
    if not all(one.is_done for one in read_tombstones(pipeline.root).values()):
        return False
    digest = latest_digest(pipeline.root)
    return digest is not None and (not pipeline.with_media or has_media(pipeline.root, digest))


def _with_refetches(pipeline: Pipeline, planned: Plan, headers_of: Headers) -> Plan:
    """The plan of the download with what must be, or would have to be, fetched again; other plans unchanged."""
    if planned.stage != "download":
        return planned
    needs = retention.needs(pipeline.stage("download"), pipeline.stage("extract"), headers_of)
    if pipeline.options.refetch:
        return retention.with_refetch(planned, needs.all)
    return replace(planned, note=retention.describe_needs(needs))


def plan_one(
    pipeline: Pipeline,
    name: str,
    before: Plan | None = None,
    *,
    only: Collection[int] | None = None,
    headers_of: Headers = header_of,
) -> Plan:
    """What a run would do with the parts of one stage, given the plan of the stage before it."""
    row = stage_named(name)
    stage = row.over(pipeline)
    planned = plan_stage(stage, before, only, headers_of)
    return row.revise(pipeline, stage, planned, headers_of) if row.revise else planned


def plan_index(pipeline: Pipeline, lists: Sequence[Path], headers_of: Headers = header_of) -> Plan:
    """The parts that exist, and those that new lists would open. Raises RequestError for a file that is not a list.

    Raises DataError for a root whose receipt is gone.
    """
    new = index.new_lists(pipeline.root, lists, pipeline.config.index)
    if pipeline.options.strict:
        index.require_well_formed(new)
    opened = [one.part for one in index.deal(pipeline.root, new, pipeline.config.index)] if new else []
    if path := pipeline.receipt:
        opened += missing_parts(pipeline.root, path)
    else:
        require_kept(pipeline.root)
    lost = lost_parts(pipeline.root, headers_of)
    done = [PartPlan(part, "done") for part in part_numbers(pipeline.root / SEGMENTS) if part not in lost]
    again = [PartPlan(part, "missing", LOST) for part in lost]
    new_parts = [PartPlan(part, "missing", "new segments") for part in opened if part not in lost]
    return Plan(
        "index", done + again + new_parts, note="\n".join(one.problems for one in new if one.problems)
    )


@contextmanager
def _planned_lists(pipeline: Pipeline) -> Iterator[Sequence[Path]]:
    """The lists; those of the studio and of windows as a build would write them."""
    with TemporaryDirectory(prefix="mcgurk-") as folder:
        if record := pipeline.record():
            yield [record.write(Path(folder)), *pipeline.published]
        elif pipeline.has_studio_lists:
            yield studio.lists(Path(folder), pipeline.config.corpus)
        else:
            yield pipeline.lists


def plan_publish(pipeline: Pipeline, before: Plan, headers_of: Headers = header_of) -> Plan:
    """Whether the existing shards are the latest version, and its page, which is written last, exists."""
    digest = latest_digest(pipeline.root)
    pending = [plan for plan in before.parts if plan.state != "done"]
    if digest is None:
        return Plan("publish", [PartPlan(0, "missing", "no version yet")])
    profile = pipeline.config.profile
    standing = make_version(profile, member_suffixes(profile), packed(pipeline.root, headers_of))
    if pending or standing.digest != digest:
        return Plan("publish", [PartPlan(0, "stale", "the shards change")])
    if not (pipeline.root / VERSIONS / f"{digest}.html").is_file():
        return Plan("publish", [PartPlan(0, "stale", "its page is missing")])
    if kept_on_card(pipeline.root, digest) != num_kept(pipeline.root, headers_of):
        return Plan("publish", [PartPlan(0, "stale", "its page miscounts samples of earlier tools")])
    lists = exclude_path(pipeline.root, digest), duplicates_path(pipeline.root, digest)
    if not all(path.is_file() for path in lists):
        return Plan("publish", [PartPlan(0, "stale", "its duplicates have not been searched for")])
    if lacks_croissant(pipeline.root, digest):
        return Plan("publish", [PartPlan(0, "stale", "its Croissant file is missing")])
    if not receipt_path(pipeline.root, digest).is_file():
        return Plan("publish", [PartPlan(0, "stale", "its receipt is missing")])
    return Plan("publish", [PartPlan(0, "done")])
