"""Findings: what `verify` has checked, and what differs from what was recorded."""

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from schemas.errors import McgurkError


@dataclass(frozen=True)
class Difference:
    """One difference from what was recorded; fields that do not apply are empty."""

    where: str  # a shard, a part, a clip or a version, as a path under the root
    problem: str
    key: str = ""
    member: str = ""  # the suffix after the key and its dot

    def __str__(self) -> str:
        name = ".".join(one for one in (self.key, self.member) if one)
        return f"{self.where}: {name + ': ' if name else ''}{self.problem}"


@dataclass
class Findings:
    """How many things of each kind were checked, and the differences."""

    checked: Counter = field(default_factory=Counter)
    differences: list[Difference] = field(default_factory=list)

    def __iadd__(self, other: "Findings") -> "Findings":
        self.checked += other.checked
        self.differences += other.differences
        return self


def damage_of(path: Path, error: McgurkError) -> str:
    """What an error says is wrong with `path`, without the path and the remedy."""
    return str(error).removeprefix(f"{path} ").partition("; ")[0]
