"""Standing samples: a sample stays until its successor exists, even if tools and code have changed.

A recipe is the settings of a sample; certain versions of code and tools made it. If only these versions differ, and the
media are gone or today's extraction rejects them, the sample is kept, and records what made it.
"""

from collections.abc import Collection
from dataclasses import fields
from functools import cache
from pathlib import Path

from schemas import layout
from schemas.feature import Profile
from schemas.files import digest_of
from schemas.manifest import Row, part_numbers, part_path, read_header, read_part
from schemas.outcome import Outcome
from schemas.shard import latest_digest, read_version
from tasks import features
from tasks.parts import Headers, PartPlan, Plan, Stage, header_of

DIGITS = 16  # of a recipe's digest
UNMARKED = "an earlier version of mcgurk"  # stands for the maker of a row that does not record one
OPEN_FACTS = ("num_kept", "num_lacking")  # of a part with rows that could be remade if their media returned


def recipe(profile: Profile) -> str:
    """The digest of the settings that features are made with. A new field with a default changes nothing."""
    settings = {one.name: getattr(profile, one.name) for one in fields(profile) if one.name != "name"}
    usual = {one.name: one.default for one in fields(profile)}
    held = {name: value for name, value in settings.items() if value != usual[name]}
    of_features = {name: module.settings(profile) for name, module in features.of_profile(profile).items()}
    return digest_of(held, of_features)[:DIGITS]


def stands(stage: Stage, row: Row | None) -> bool:
    """Whether `row`, from an earlier build of `stage`, is a sample with the same recipe."""
    if row is None or row["outcome"] != Outcome.OK:
        return False
    made_by_recipe = row.get("recipe") or _recipe_of_unmarked(stage.root, latest_digest(stage.root))
    return made_by_recipe == stage.recipe


@cache
def _recipe_of_unmarked(root: Path, digest: str | None) -> str | None:
    """The recipe of rows from before there were recipes: that of the latest version."""
    return recipe(read_version(root, digest).profile) if digest else None


def sampled_keys(root: Path, part: int) -> frozenset[str]:
    """The keys of a part that have features."""
    path = part_path(root / layout.FEATURES, part)
    if read_header(path) is None:
        return frozenset()
    return frozenset(
        row["key"] for row in read_part(path, ("key", "outcome")) if row["outcome"] == Outcome.OK
    )


def num_kept(root: Path, headers_of: Headers = header_of) -> int:
    """How many samples were made by older code or tools than a build would use now."""
    headers = (headers_of(root, layout.FEATURES, part) for part in part_numbers(root / layout.FEATURES))
    return sum(header.facts.get("num_kept", 0) for header in headers if header)


def kept_by_maker(root: Path) -> dict[str, int]:
    """The same, by what made them."""
    counts: dict[str, int] = {}
    for part in part_numbers(root / layout.FEATURES):
        header = header_of(root, layout.FEATURES, part)
        if header and header.facts.get("num_kept"):
            for row in read_part(part_path(root / layout.FEATURES, part), ("made_by", "is_kept")):
                if row["is_kept"]:
                    maker = row["made_by"] or UNMARKED
                    counts[maker] = counts.get(maker, 0) + 1
    return dict(sorted(counts.items()))


def with_returned(stage: Stage, planned: Plan, headers_of: Headers = header_of) -> Plan:
    """A plan of extraction in which parts are also stale if missing media of a row have returned."""
    parts = [_with_returned(stage, one, headers_of) for one in planned.parts]
    return Plan(planned.stage, parts, planned.note)


def _with_returned(stage: Stage, planned: PartPlan, headers_of: Headers) -> PartPlan:
    header = headers_of(stage.root, stage.writes, planned.part)
    if planned.state != "done" or header is None or not any(header.facts.get(name) for name in OPEN_FACTS):
        return planned
    there = media_of(stage, planned.part)
    back = sum(there.get(key, False) for key in unmade_keys(stage, planned.part))
    return PartPlan(planned.part, "stale", f"the media of {back} clip(s) are back") if back else planned


def media_of(stage: Stage, part: int) -> dict[str, bool]:
    """Whether the media of each `ok` clip of a part exist, by key; `stage` is extraction."""
    path = part_path(stage.source.parent, part)
    if read_header(path) is None:
        return {}
    rows = read_part(path, ("key", "outcome", "path"))
    return {row["key"]: bool(row["path"]) for row in rows if row["outcome"] == Outcome.OK}


def unmade_keys(stage: Stage, part: int) -> Collection[str]:
    """The clips of a part whose rows were not made from the current input: kept from earlier media, or waiting."""
    wanted = {row["key"]: stage.row_fingerprint(row) for row in read_part(part_path(stage.source, part))}
    rows = read_part(part_path(stage.target, part), ("key", "fingerprint"))
    return {row["key"] for row in rows if row["fingerprint"] != wanted.get(row["key"])}
