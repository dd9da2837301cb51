"""What differs between two versions, from their shards' sidecars: for versions without a receipt, such as retired ones.

Shards with equal digests are not opened. In the others, each slot is compared in both sidecars: slots are append-only,
so the same row of the same part is the same segment. What was taken down has no name in a sidecar, and gets none here.
"""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path

from schemas import layout
from schemas.files import open_table
from schemas.manifest import Row, part_numbers, part_path, read_part
from schemas.outcome import Outcome
from schemas.shard import (
    Shard,
    Version,
    exclude_path,
    index_path,
    latest_digest,
    read_exclusions,
    read_recorded_facts,
    read_successors,
)
from tasks.tombstones import read_tombstones
from tasks.versions.causes import Held, why_changed
from tasks.versions.differences import CAUSES, Difference, Differences

COLUMNS = ("key", "outcome", "reason", "digest", "labels", "split", "members")
NO_SAMPLE = "its part had no sample"
SHORT = 12  # characters of a digest


def differences_of_shards(root: Path, before: Version, after: Version) -> Differences:
    """What differs from `before` to `after`. Raises DataError for a damaged sidecar or tar."""
    return _Comparison(root, before, after).result()


@dataclass
class _Comparison:
    """Two versions, shard by shard."""

    root: Path
    before: Version
    after: Version
    num_same: int = 0
    num_same_shards: int = 0
    segments: list[Difference] = field(default_factory=list)
    untold: list[str] = field(default_factory=list)

    def result(self) -> Differences:
        self._compare()
        self._count_taken_down()
        excluded, included = self._exclusions()
        return Differences(
            self.before.digest,
            self.after.digest,
            self.num_same,
            0,
            self.num_same_shards,
            len(self.before.shards),
            self._settings,
            sorted(self.segments, key=lambda one: (list(CAUSES).index(one.cause), one.part, one.key)),
            excluded,
            included,
            self.untold,
        )

    @cached_property
    def _facts(self) -> list[dict]:
        return [read_recorded_facts(self.root, one.digest) for one in (self.before, self.after)]

    @cached_property
    def _settings(self) -> list[str]:
        old = asdict(self.before.profile)
        new = asdict(self.after.profile)
        names = [name for name in {**old, **new} if name != "name" and old.get(name) != new.get(name)]
        changes = ", ".join(f"{name} {old.get(name)} -> {new.get(name)}" for name in names)
        rules = [facts.get("rules") for facts in self._facts]
        found = [f"profile ({changes})"] if changes or self.before.fields != self.after.fields else []
        return found + (["rules"] if None not in rules and rules[0] != rules[1] else [])

    @property
    def _is_other_profile(self) -> bool:
        return self._settings[:1] != [] and self._settings[0] != "rules"

    def _exclusions(self) -> tuple[list[str], list[str]]:
        """Keys that are only on the later list, and keys only on the earlier; none if one of the lists is gone."""
        both = (self.before.digest, self.after.digest)
        for digest in both:
            if not exclude_path(self.root, digest).is_file():
                self.untold.append(f"the exclusion list of {digest[:SHORT]} is gone: lists are not compared")
                return [], []
        old, new = (read_exclusions(self.root, digest) for digest in both)
        return sorted(new - old), sorted(old - new)

    def _count_taken_down(self) -> None:
        """If sidecars are gone, tombstones still tell how many videos of the earlier version were taken down."""
        stones = read_tombstones(self.root).values()
        held = sum(stone.versions.get(self.before.digest, False) for stone in stones)
        if held and self.untold:
            self.untold.append(
                f"{held:,} video(s) that {self.before.digest[:SHORT]} held were taken down since"
            )

    def _compare(self) -> None:
        olds = {shard.part: shard for shard in self.before.shards}
        news = {shard.part: shard for shard in self.after.shards}
        for part in sorted({*olds, *news}):
            old = olds.get(part)
            new = news.get(part)
            if old and new and old.sha256 == new.sha256:
                self.num_same_shards += 1
                self.num_same += new.num_samples
            elif old and new:
                self._replaced(old, new)
            elif old:
                self._gone(old)
            elif new:
                self._added(new)

    def _replaced(self, old: Shard, new: Shard) -> None:
        news = self._rows(new)
        found = self._rows_before(old) if news is not None else None
        if news is None or found is None:
            return
        shard, olds = found
        for one, other in _paired(olds, news):
            if one and other and one["digest"] == other["digest"] and _is_ok(one):
                self.num_same += 1
            elif one and other and _is_ok(one) and _is_ok(other):
                self._note(other, new.part, *self._why_changed(Held(shard, one), Held(new, other)))
            elif one and _is_ok(one):
                self._lost(one, other, old.part)
            elif other and _is_ok(other):
                self._note(other, new.part, *(("returned", f"{_fate(one)} -> ok") if one else ("added", "")))

    def _gone(self, old: Shard) -> None:
        """For a part without a sample now, the manifest says why, if it describes the later version."""
        found = self._rows_before(old)
        if found is None:
            return
        path = part_path(self.root / layout.SHARDS, old.part)
        is_now = self.after.digest == latest_digest(self.root) and path.is_file()
        for one, other in _paired(found[1], read_part(path, COLUMNS) if is_now else []):
            if one and _is_ok(one):
                self._lost(one, other, old.part)

    def _added(self, new: Shard) -> None:
        """A part is dealt as a whole: it existed before, without a sample, if the index had that many segments."""
        known = (self._facts[0].get("funnel") or {}).get("segments", 0)
        was_there = sum(size for part, size in self._sizes.items() if part < new.part) < known
        why = ("returned", NO_SAMPLE) if was_there else ("added", "")
        for one in self._rows(new) or ():
            if _is_ok(one):
                self._note(one, new.part, *why)

    def _why_changed(self, old: Held, new: Held) -> tuple[str, str]:
        if self._is_other_profile:
            return "another_profile", ""
        return why_changed(self.root, old, new)

    def _rows_before(self, old: Shard) -> tuple[Shard, list[Row]] | None:
        """An earlier shard with its slots; if a take-down has replaced it, its successor, with its losses noted.

        A take-down copies the other samples byte by byte. None, which is noted, if no sidecar of either is left.
        """
        if index_path(self.root, old).is_file():
            return old, read_part(index_path(self.root, old), COLUMNS)
        for version in self._successors:
            shard = next((one for one in version.shards if one.part == old.part), None)
            if shard is None or index_path(self.root, shard).is_file():
                lost = old.num_samples - (shard.num_samples if shard else 0)
                self.segments += [Difference("", "taken_down", "", old.part)] * lost
                return shard or old, read_part(index_path(self.root, shard), COLUMNS) if shard else []
        self._rows(old)  # to have its loss noted
        return None

    @cached_property
    def _successors(self) -> list[Version]:
        return read_successors(self.root, self.before.digest)

    @cached_property
    def _sizes(self) -> dict[int, int]:
        """The number of segments of each part."""
        folder = self.root / layout.SEGMENTS
        return {one: open_table(part_path(folder, one)).metadata.num_rows for one in part_numbers(folder)}

    def _rows(self, shard: Shard) -> list[Row] | None:
        """The slots of a shard; None, which is noted, if its sidecar is gone."""
        path = index_path(self.root, shard)
        if path.is_file():
            return read_part(path, COLUMNS)
        self.untold.append(
            f"{path.name} is gone: which {shard.num_samples:,} sample(s) it had, and what became of them"
        )
        return None

    def _lost(self, old: Row, new: Row | None, part: int) -> None:
        """Why a sample of the earlier version is in no shard now."""
        if new is None:
            self._note(old, part, "unknown", "in no shard of the later version, which is not the latest")
        elif new["outcome"] == Outcome.FORGOTTEN:
            self.segments.append(Difference("", "taken_down", "", part))
        elif new["outcome"] == Outcome.QUARANTINED:
            self._note(old, part, "another_rule" if "rules" in self._settings else "rejected", _fate(new))
        else:
            self._note(
                old, part, "gone" if new["outcome"] == Outcome.UNAVAILABLE else "waiting", new["reason"]
            )

    def _note(self, row: Row, part: int, cause: str, detail: str) -> None:
        self.segments.append(Difference(row["key"], cause, detail, part))


def _paired(olds: Sequence[Row], news: Sequence[Row]) -> Iterator[tuple[Row | None, Row | None]]:
    for row in range(max(len(olds), len(news))):
        yield olds[row] if row < len(olds) else None, news[row] if row < len(news) else None


def _is_ok(row: Row) -> bool:
    return row["outcome"] == Outcome.OK


def _fate(row: Row) -> str:
    return f"{row['outcome']} ({row['reason']})" if row["reason"] else row["outcome"]
