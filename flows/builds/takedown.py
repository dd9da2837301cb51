"""Take-down: first the tombstone, then everything that shows or holds a video, and what was made from it.

Each step looks at what is there: after a kill, the same command (or the next build) does the rest.
"""

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from flows.builds.overview import overview_path, write_overview
from flows.builds.pipeline import Pipeline
from flows.services.databases import databases_of
from flows.stages import TABLE
from schemas.errors import OperationalError
from schemas.files import write_text
from schemas.shard import (
    EMPTIED,
    Shard,
    Version,
    latest_digest,
    make_version,
    published,
    read_facts,
    read_version,
    retire,
    write_version,
)
from schemas.storage import is_local, path_under
from tasks.acquisition.recheck import drop_marks
from tasks.funnel import measure_funnel
from tasks.leases import NAMES, lease, remove_partial_writes
from tasks.tombstones import read_tombstones, write_tombstones
from tasks.validate import forget_examples
from tasks.versions import erase as erase
from tasks.versions import receipts
from tasks.versions.card import has_media, write_card
from tasks.versions.duplicates import write_duplicates
from tasks.versions.server_traces import clean_server
from tasks.versions.traces import Named, clean_database, clean_log, find_traces

log = logging.getLogger(__name__)

PAGES = (".html", ".json", ".md", ".txt")


@dataclass
class Forgotten:
    """What a take-down did."""

    keys: list[str] = field(default_factory=list)
    removed: dict[str, int] = field(default_factory=dict)  # file -> bytes
    shards: dict[str, str | None] = field(default_factory=dict)  # shard -> its successor
    versions: dict[str, str] = field(default_factory=dict)  # version -> its successor
    pages: list[str] = field(default_factory=list)
    artifacts: list[str] = field(default_factory=list)  # of MLflow runs
    models: list[str] = field(default_factory=list)  # that were trained on a version that held it


def finish_takedowns(pipeline: Pipeline) -> None:
    """Finishes interrupted take-downs, before anything is built on what they left."""
    unfinished = [video_id for video_id, one in read_tombstones(pipeline.root).items() if not one.is_done]
    if unfinished:
        log.info("forget: an earlier take-down of %s was interrupted", ", ".join(unfinished))
        forget(pipeline, unfinished)


def forget(pipeline: Pipeline, video_ids: Sequence[str]) -> Forgotten:
    """Takes the videos down. Raises RequestError, and changes nothing, if one is unknown."""
    root = pipeline.root
    state = pipeline.state
    done = Forgotten()
    slots = erase.slots_of(root, video_ids)
    write_tombstones(root, video_ids, erase.versions_that_held(root, slots), is_done=False)
    with lease(state, *NAMES):
        # Again: a build may have published meanwhile.
        write_tombstones(root, video_ids, erase.versions_that_held(root, slots), is_done=False)
        stones = read_tombstones(root)
        held = {d: sure for v in video_ids for d, sure in sorted(stones[v].versions.items())}
        stages = [row.over(pipeline) for row in TABLE if row.make]
        written = erase.write_without(root, stages[-1], slots)
        erase.mark_manifests(stages, slots, written)
        done.keys = sorted(key for keys in slots.values() for key in keys)
        done.shards = {old: new and new.name for old, new in written.items()}
        done.versions = _succeed(pipeline, written, video_ids)
        done.removed = erase.remove_files(root, state, slots, written)
        drop_marks(state, video_ids)
        remove_partial_writes(root, *NAMES)
        done.pages = _clean_pages(pipeline, video_ids, held, done)
        _clean_tracking(pipeline.here, video_ids, held, done)
        named = Named(video_ids, done.keys)
        _clean_told(pipeline, named, done)
        write_tombstones(root, video_ids, {}, is_done=True)
        _require_no_trace(pipeline, named, slots)
    return done


def _clean_told(pipeline: Pipeline, named: Named, done: Forgotten) -> None:
    """Cleans what logs, the servers' databases and the page say about the videos."""
    state = pipeline.state
    here = pipeline.here
    done.pages += [
        path_under(state, path) for path in sorted((state / "logs").glob("*")) if clean_log(path, named)
    ]
    for path in (
        *sorted((state / "prefect").glob("*.db")),
        *sorted((here / "mlruns").glob("*.db")),
    ):  # and what they were
        if clean_database(path, named):
            done.pages.append(path_under(here, path))
    for address in _servers(pipeline):
        if clean_server(address, named):
            done.pages.append(address)
    page = overview_path(pipeline.root, state)
    if page.is_file() and named(page.read_text()):
        done.pages.append(page.name)
    write_overview(pipeline.root, state)


def _servers(pipeline: Pipeline) -> Iterator[str]:
    """The databases of Prefect and MLflow that are on a server."""
    if databases := databases_of(pipeline.state):
        yield from (databases.address(name) for name in databases.names)


def _require_no_trace(pipeline: Pipeline, named: Named, slots: erase.Slots) -> None:
    """Raises OperationalError with the files that still name a video."""
    left = find_traces(pipeline.root, pipeline.state, named, slots)
    if left:
        more = f" and {len(left) - 1:,} more" if len(left) > 1 else ""
        raise OperationalError(
            f"{left[0]}{more} still names what was taken down: remove it or its line, and repeat the take-down"
        )


def _succeed(
    pipeline: Pipeline, written: Mapping[str, Shard | None], video_ids: Sequence[str]
) -> dict[str, str]:
    """Gives every version that names an old shard a successor without it: old -> new."""
    root = pipeline.root
    made = {}
    for digest in published(root):
        version = read_version(root, digest)
        if not any(shard.name in written for shard in version.shards):
            continue
        shards = [written.get(shard.name, shard) for shard in version.shards]
        successor = make_version(version.profile, version.fields, [shard for shard in shards if shard])
        with_media = has_media(root, digest)
        write_duplicates(root, successor)
        receipts.succeed(root, digest, successor, video_ids)
        write_version(root, successor, _facts(root, version, successor), replaces=digest)
        write_card(root, successor, pipeline.labels, with_media=with_media)
        retire(root, digest)
        made[digest] = successor.digest
    return made


def _facts(root: Path, version: Version, successor: Version) -> dict[str, Any]:
    """The facts of a version without its forgotten samples."""
    facts: dict[str, Any] = {
        **read_facts(root, version.digest),
        **({} if successor.shards else {EMPTIED: True}),
    }
    left = successor.num_samples
    before = version.num_samples
    if latest_digest(root) == version.digest and measure_funnel(root)["in_shards"] == left:
        return {**facts, "funnel": measure_funnel(root)}
    funnel = facts["funnel"]
    moved = {"in_shards": left, "forgotten": funnel["forgotten"] + before - left}
    return {**facts, "funnel": {**funnel, **moved}}


def _clean_pages(
    pipeline: Pipeline, video_ids: Sequence[str], held: Mapping[str, bool], done: Forgotten
) -> list[str]:
    """Cleans the cards, validation reports and reports of experiments that name or may show the videos."""
    from training.report.redact import without_media, without_videos

    root = pipeline.root
    changed = [
        *forget_examples(root / "reports" / "validation", done.keys),
        *receipts.forget(root, video_ids),
    ]
    for digest in published(root):
        cards = [root / "versions" / f"{digest}.{kind}" for kind in ("html", "md")]
        texts = "".join(path.read_text() for path in cards if path.is_file())
        if without_videos(texts, video_ids) != texts:
            changed.append(
                write_card(
                    root, read_version(root, digest), pipeline.labels, with_media=has_media(root, digest)
                )
            )
    for path in sorted((pipeline.here / "reports").glob("*/*")):
        if path.suffix in PAGES and path.parent.name != "validation":
            before = path.read_text()
            # The page of a run on a version that held it may show it without saying so.
            is_held = any(digest in before for digest in held)
            after = (without_media if is_held else without_videos)(before, video_ids)
            if after != before:
                write_text(path, after)
                changed.append(path)
    return [path_under(pipeline.here if is_local(path) else root, path) for path in changed]


def _clean_tracking(here: Path, video_ids: Sequence[str], held: Mapping[str, bool], done: Forgotten) -> None:
    """Cleans the artefacts of runs on the versions that held the videos, and tags the models trained on them."""
    from training.tracking.store import Store

    store = Store.of(here)
    if not (held and (store.uri or store.server or (here / "mlruns" / "mlflow.db").is_file())):
        return
    from training.report.redact import without_media
    from training.tracking import registry, runs

    done.artifacts = runs.clean_artifacts(store, held, partial(without_media, video_ids=video_ids))
    done.models = registry.tag_forgotten(store, held)
