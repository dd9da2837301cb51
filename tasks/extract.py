"""Extract: clips -> features. Each clip is decoded once for all its features, in batches of a few clips.

Decoding happens in a media process (`tasks.media.sandbox`): whatever a file does to that process affects only this
clip. A feature whose own settings did not change is not encoded again, even if others did.
"""

import logging
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from schemas.errors import MissingError, OperationalError
from schemas.feature import Profile, stored_profile
from schemas.files import digest_of
from schemas.layout import MEDIA, stage_facts
from schemas.manifest import REFETCH, Row, part_path, read_part
from schemas.outcome import ItemError, Outcome
from schemas.storage import as_local
from tasks import features
from tasks.feature_files import (
    digest_of_members,
    feature_path,
    fragment_path,
    fragment_paths,
    join_members,
    write_fragment,
)
from tasks.media import sandbox
from tasks.media.decode import decode
from tasks.media.measure import measure_clip
from tasks.media.old_cuts import is_old, mended_begin_s
from tasks.media.packets import RAW_CLOCK
from tasks.media.perceptual_hash import prints_of
from tasks.parts import Inputs, Stage, check_bugs, commit_part, propagate_failure, read_inputs, reusable_rows
from tasks.progress import MapItems, sign_of_life, tracked
from tasks.standing import media_of, recipe, stands

log = logging.getLogger(__name__)

VERSION = 5
# Per Dask task: a lost worker loses these, and 2 ms of scheduling are 2 % of their decoding time
CLIPS_PER_BATCH = 8
TOOLS = ("av", "numpy", "scipy", "simplejpeg", "soxr", "webrtcvad-wheels")  # their versions may change bytes

Members = dict[str, bytes]  # by suffix


@dataclass(frozen=True)
class ClipBatch:
    """Some clips of one part, and the features to make of each."""

    root: Path
    part: int
    number: int
    clips: list[tuple[Row, list[str]]]
    profile: Profile
    limits: sandbox.ProcessLimits = sandbox.LIMITS
    tools: dict[str, str] = field(
        default_factory=lambda: _tools()
    )  # those of the process that makes the batch; the worker must have the same


@dataclass
class _PartInProgress:
    inputs: Inputs
    rows: dict[str, Row]  # by key; for clips in progress only the fingerprints
    decoded: set[str] = field(default_factory=set)  # keys of clips that were decoded, or will be
    num_due: int = 0


def stage(root: Path, profile: Profile) -> Stage:
    """The stage `extract` over `root`."""
    held = {**asdict(profile), "name": ""}  # a profile is defined by its content
    settings = [held, {name: feature_settings(name, profile) for name in features.of_profile(profile)}]
    facts = stage_facts("extract")
    schema = features.manifest_schema(profile)
    stage = Stage(facts.name, VERSION, root, facts.reads, facts.writes, schema, settings)
    return replace(stage, recipe=recipe(profile))


def feature_settings(name: str, profile: Profile) -> list:
    """Everything that the bytes of one feature depend on, besides the clip."""
    module = features.modules()[name]
    return [VERSION, name, module.VERSION, module.settings(profile), _tools()]


def made_by(profile: Profile) -> str:
    """Code and tools that make the features of a profile, with their versions."""
    made = ", ".join(f"{name} {module.VERSION}" for name, module in features.of_profile(profile).items())
    return f"extract {VERSION} ({made}); " + ", ".join(
        f"{tool} {number}" for tool, number in _tools().items()
    )


@cache
def _tools() -> dict[str, str]:
    return {tool: version(tool) for tool in TOOLS}


def run(stage: Stage, parts: Sequence[int], profile: Profile, map_batches: MapItems) -> int:
    """Extracts the clips that are due in `parts`; returns how many were decoded.

    `map_batches(function, batches)` yields results in the order of completion.
    """
    works = {}
    batches = []
    for part in parts:
        work, due = _work(stage, part, profile)
        works[part] = work
        if not due:
            _commit(stage, work, profile)
        starts = range(0, len(due), CLIPS_PER_BATCH)
        batches += [ClipBatch(stage.root, part, n, due[n : n + CLIPS_PER_BATCH], profile) for n in starts]
    clips = sum(len(batch.clips) for batch in batches)
    results = ((part, row) for part, rows in _ended(map_batches, batches) for row in rows)
    for part, row in tracked(results, clips, "extract", log):
        work = works[part]
        work.rows[row["key"]] = _with_kept(row, work.rows[row["key"]], stage.recipe, made_by(profile))
        work.num_due -= 1
        if not work.num_due:
            _commit(stage, work, profile)
    return clips


def _ended(map_batches: MapItems, batches: Sequence[ClipBatch]) -> Iterator[tuple[int, list[Row]]]:
    if batches:
        yield from map_batches(extract_batch, batches)


def _work(stage: Stage, part: int, profile: Profile) -> tuple[_PartInProgress, list[tuple[Row, list[str]]]]:
    """One part in progress, and the clips to decode with the features to make of each."""
    inputs = read_inputs(stage, part)
    old = {row["key"]: row for row in reusable_rows(stage, part).values()}
    work = _PartInProgress(inputs, {})
    due = []
    media = media_of(stage, part)
    maker = made_by(profile)
    for row in inputs.rows:
        key = row["key"]
        fingerprint = stage.row_fingerprint(row)
        before = old.get(key)
        if row["outcome"] != Outcome.OK:
            work.rows[key] = propagate_failure(stage, row)
        elif before and before["fingerprint"] == fingerprint:
            work.rows[key] = {**before, "is_kept": bool(before.get("is_kept")) and before["made_by"] != maker}
        elif not media.get(key, True):
            work.rows[key] = _kept(before) if before and stands(stage, before) else _waiting_for_media(row)
        else:
            kept = _kept_features(before, row, profile)
            standing = before if stands(stage, before) else None
            work.rows[key] = {"fingerprint": fingerprint, "features": kept, "before": standing}
            due.append((row, [name for name in features.of_profile(profile) if name not in kept]))
    _locate(stage, part, [row for row, _ in due])
    work.decoded = {row["key"] for row, _ in due}
    work.num_due = len(due)
    for name in features.modules():
        for fragment in fragment_paths(stage.root, name, part):
            fragment.unlink()  # from a killed run
    return work, due


def _kept(before: Row) -> Row:
    """A sample that stays unchanged. Its fingerprint shows that it was not made from the current clip."""
    return {**before, "is_kept": True}


def _waiting_for_media(clip: Row) -> Row:
    """The row of a clip whose media were released and whose settings have changed since."""
    why = {"outcome": Outcome.WAITING.value, "reason": REFETCH, "detail": "its media were not kept"}
    return {"key": clip["key"], "digest": "", "fingerprint": "", **why}


def _locate(stage: Stage, part: int, clips: Sequence[Row]) -> None:
    """Fills in the paths of clips that had none when they were validated, because their media were fetched since."""
    without_path = [row for row in clips if not row["path"]]
    if without_path:
        rows = read_part(part_path(stage.source.parent, part), ("key", "path"))
        paths = {row["key"]: row["path"] for row in rows}
        for row in without_path:
            row["path"] = (
                paths[row["key"]] or f"{MEDIA}/{row['key']}"
            )  # if there is nothing, decoding reports it


def _kept_features(before: Row | None, row: Row, profile: Profile) -> dict[str, dict[str, str]]:
    """The features of an earlier build that a new one would make identically: name -> its entry in the row."""
    if before is None or before["outcome"] != Outcome.OK:
        return {}
    return {
        made["name"]: made
        for made in before["features"] or ()
        if made["name"] in features.of_profile(profile)
        and made["fingerprint"] == _feature_fingerprint(made["name"], row, profile)
    }


def _feature_fingerprint(name: str, row: Row, profile: Profile) -> str:
    return digest_of(feature_settings(name, profile), row["key"], row["digest"])


def _with_kept(row: Row, waiting: Row, recipe: str, maker: str) -> Row:
    """A new row together with the features of an earlier build; or the earlier sample, if extraction failed."""
    made = {**waiting["features"], **{one["name"]: one for one in row.get("features") or ()}}
    fingerprint = waiting["fingerprint"]
    if row["outcome"] != Outcome.OK and waiting["before"]:
        log.warning(
            "extract: kept the earlier sample of %s: %s (%s)", row["key"], row["detail"], row["reason"]
        )
        return {**_kept(waiting["before"]), "fingerprint": fingerprint}
    if row["outcome"] != Outcome.OK:
        return {**row, "fingerprint": fingerprint}
    digest = digest_of({name: one["digest"] for name, one in made.items()}, row["valid_ms"])
    provenance = {
        "features": [made[name] for name in sorted(made)],
        "made_by": maker,
        "recipe": recipe,
        "is_kept": False,
    }
    return {**row, "fingerprint": fingerprint, "digest": digest, **provenance}


def _commit(stage: Stage, work: _PartInProgress, profile: Profile) -> None:
    rows = [work.rows[row["key"]] for row in work.inputs.rows]
    part = work.inputs.part
    check_bugs(stage, part, [row for row in rows if row["key"] in work.decoded])
    keys = [row["key"] for row in rows if row["outcome"] == Outcome.OK]
    sizes = {}
    fragments = {}
    for name in features.of_profile(profile):
        fragments[name] = fragment_paths(stage.root, name, part)
        target = feature_path(stage.root, name, part)
        sizes[target] = join_members(target, fragments[name], keys)
    commit_part(stage, work.inputs, rows, sizes)
    for name in features.modules():
        for fragment in fragments.get(name, ()):
            fragment.unlink()
        if name not in fragments:
            feature_path(stage.root, name, part).unlink(missing_ok=True)  # of another profile
    log.info("extract: part %d, %d of %d clips", part, len(keys), len(rows))


def extract_batch(batch: ClipBatch) -> tuple[int, list[Row]]:
    """Decodes the clips of a batch and writes their features as fragments: (part, a row per clip).

    Raises OperationalError on a worker with other versions of the tools: its bytes may differ.
    """
    if batch.tools != _tools():
        raise OperationalError(
            f"this worker has {_tools()}, the build has {batch.tools}: install the same requirements.lock on both"
        )
    rows = []
    made = defaultdict(dict)
    for clip, names in batch.clips:
        sign_of_life()
        try:
            row, members = extract_clip(batch, clip, names)
        except ItemError as error:
            rows.append(_failed(clip, error))
            continue
        rows.append(row)
        for name, of_feature in members.items():
            made[name][clip["key"]] = of_feature
    for name, samples in made.items():
        write_fragment(fragment_path(batch.root, name, batch.part, batch.number), samples)
    return batch.part, rows


def extract_clip(batch: ClipBatch, clip: Row, names: Sequence[str]) -> tuple[Row, dict[str, Members]]:
    """One clip's row of the manifest and its members by feature, from the media process. Raises ItemError.

    Raises MissingError if its file is missing, which says nothing about the clip.
    """
    profile = batch.profile
    path = batch.root / clip["path"]
    length_s = min(clip["length_s"], profile.length_ms / 1000)
    arguments = {
        "span_s": (clip["begins_s"], length_s),
        "is_old": is_old(clip),
        "profile": asdict(profile),
        "names": list(names),
    }
    try:
        with as_local(path) as local:
            local.stat()
            facts, answered = sandbox.call("extract", {"path": str(local), **arguments}, batch.limits)
    except FileNotFoundError:
        raise MissingError(f"{path} is missing: build --from download fetches it again") from None
    members = _by_feature(answered, profile)
    entries = [_entry(name, members[name], _feature_fingerprint(name, clip, profile)) for name in names]
    row = {"key": clip["key"], "outcome": Outcome.OK.value, "reason": "", "detail": ""}
    facts |= {name: bytes.fromhex(text) for name, text in facts.pop("prints").items()}
    gap_ms = 1000 * min(clip["covered_s"], length_s) - facts["valid_ms"]
    return {**row, "length_s": length_s, **facts, "duration_gap_ms": gap_ms, "features": entries}, members


def _by_feature(answered: Mapping[str, bytes], profile: Profile) -> dict[str, Members]:
    """The members, named `feature/suffix`, by feature. Raises ItemError for any that no feature declares."""
    declared = {name: set(one.suffixes(profile)) for name, one in features.of_profile(profile).items()}
    members: dict[str, Members] = {name: {} for name in declared}
    for place, data in answered.items():
        name, _, suffix = place.partition("/")
        if suffix not in declared.get(name, ()):
            raise ItemError(
                Outcome.QUARANTINED, "decodable", f"the media process answered with {place[:80]!r}"
            )
        members[name][suffix] = data
    return members


def _entry(name: str, members: Members, fingerprint: str) -> dict[str, str]:
    return {"name": name, "fingerprint": fingerprint, "digest": digest_of_members(members)}


def answer_extract(
    path: str,
    span_s: tuple[float, float],
    profile: dict[str, Any],
    names: list[str],
    is_old: bool = False,
) -> tuple[Row, dict[str, bytes]]:
    """Decodes one clip: returns its measures, and the members of the features `names` as `feature/suffix`.

    `span_s` is where the segment begins in the file, and its length. Raises ItemError (waiting) for an old cut that
    can't be corrected.
    """
    of = stored_profile(profile)
    begins_s, length_s = span_s
    clock = None
    if is_old:
        mended_s = mended_begin_s(Path(path), begins_s)
        if mended_s is None:
            raise ItemError(Outcome.WAITING, REFETCH, "sound may be shifted against picture in this cut")
        begins_s = mended_s
        clock = RAW_CLOCK
    decoded = decode(Path(path), begins_s, length_s, of, clock)
    members = {
        f"{name}/{suffix}": data
        for name in names
        for suffix, data in features.modules()[name].members(decoded, of).items()
    }
    facts = measure_clip(decoded, of)
    prints = {name: data.hex() for name, data in prints_of(decoded, facts, of).items()}
    return {**facts, **features.measures(decoded, of), "prints": prints}, members


def _failed(clip: Row, error: ItemError) -> Row:
    why = {"outcome": error.outcome.value, "reason": error.reason, "detail": error.detail}
    return {"key": clip["key"], "digest": "", **why}
