"""Make for parts: which are up to date, which rows can be copied, and how a part is committed.

A part is up to date if and only if its fingerprint is the one that a run would give it now, and its files exist with
their sizes. Prefect's retries, a new run and the command line all use this module.
"""

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa

from schemas.errors import InternalError
from schemas.files import digest_of
from schemas.manifest import PartHeader, Row, part_numbers, part_path, read_header, read_part, write_part
from schemas.outcome import BUG
from schemas.storage import lost_files, path_under

FEW_BUGS = 3
BUG_SHARE = 0.02
PartState = Literal["done", "stale", "failed", "missing"]
Only = Literal["failed", "stale", "all"]
Headers = Callable[
    [Path, str, int], PartHeader | None
]  # `header_of`, or a function that remembers its answers for a plan


def header_of(root: Path, manifest: str, part: int) -> PartHeader | None:
    """The header of part number `part` of a manifest under `root`; None if there is no such part."""
    return read_header(part_path(root / manifest, part))


@dataclass(frozen=True)
class Stage:
    """A stage over a root: manifest -> manifest. Its output depends on the input and on `settings`, nothing else."""

    name: str
    version: int
    root: Path
    reads: str
    writes: str
    schema: pa.Schema
    settings: Any = None
    joins: tuple[str, ...] = ()  # manifests with the same parts and keys, read beside `reads`
    recipe: str = ""  # digest of the settings, without the versions of code and tools; in no fingerprint

    @property
    def source(self) -> Path:
        """The folder of the manifest it reads."""
        return self.root / self.reads

    @property
    def target(self) -> Path:
        """The folder of the manifest it writes."""
        return self.root / self.writes

    def part_fingerprint(self, part: int, headers_of: Headers = header_of) -> str:
        """The fingerprint of what a run would write into part number `part` now, from the content of its inputs."""
        headers = [headers_of(self.root, name, part) for name in (self.reads, *self.joins)]
        return self.fingerprint_of([header.content if header else None for header in headers])

    def fingerprint_of(self, contents: Sequence[str | None]) -> str:
        """The same, for inputs with these content digests (of `reads`, then of `joins`)."""
        return digest_of(self.name, self.version, self._settings_digest, list(contents))

    def row_fingerprint(self, row: Row) -> str:
        """The same for two input rows that this stage turns into the same output."""
        facts = (row["key"], row["outcome"], row["digest"])
        return digest_of(self.name, self.version, self._settings_digest, *facts)

    @cached_property
    def _settings_digest(self) -> str:
        return digest_of(self.settings)  # once: a table of all labels is among them


@dataclass(frozen=True)
class PartPlan:
    """What a run would do with one part, and why."""

    part: int
    state: PartState
    reason: str = ""


@dataclass(frozen=True)
class Plan:
    """What a run would do with every part of one stage."""

    stage: str
    parts: list[PartPlan] = field(default_factory=list)
    note: str = ""  # anything else that a person should know before it starts

    def counts(self) -> dict[str, int]:
        """How many parts are done, stale, failed and missing."""
        counted = Counter(plan.state for plan in self.parts)
        return {state: counted[state] for state in ("done", "stale", "failed", "missing")}

    def due(self, only: Only = "all", parts: Sequence[int] | None = None) -> list[int]:
        """The parts to run: `only` narrows the kind (missing counts as stale), `parts` the numbers."""
        states = {"failed": {"failed"}, "stale": {"stale", "missing"}, "all": {"failed", "stale", "missing"}}
        return [
            plan.part
            for plan in self.parts
            if plan.state in states[only] and (parts is None or plan.part in parts)
        ]


def plan_stage(
    stage: Stage,
    upstream: Plan | None = None,
    only: Collection[int] | None = None,
    headers_of: Headers = header_of,
) -> Plan:
    """What a run would do with the parts of `stage`, given what the stage before it is about to do.

    `only` restricts it to some parts, if all would take long.
    """
    parts = upstream.parts if upstream else []
    pending: dict[int, PartState] = {p.part: p.state for p in parts if p.state != "done"}
    numbers = sorted({*part_numbers(stage.source), *pending})
    numbers = [part for part in numbers if only is None or part in only]
    return Plan(stage.name, [_plan_part(stage, part, pending.get(part), headers_of) for part in numbers])


def _plan_part(stage: Stage, part: int, pending: PartState | None, headers_of: Headers) -> PartPlan:
    header = headers_of(stage.root, stage.writes, part)
    if header is None:
        return PartPlan(part, "missing", "never built")
    if pending:
        return PartPlan(part, "stale", f"the stage before it is {pending}")
    if header.fingerprint != stage.part_fingerprint(part, headers_of):
        return PartPlan(part, "stale", "its input, configuration or code changed")
    lost = lost_files(stage.root, header.files)
    return PartPlan(part, "stale", f"{len(lost)} file(s) lost: {lost[0]}") if lost else PartPlan(part, "done")


@dataclass(frozen=True)
class Inputs:
    """What a stage reads for one part, and the fingerprint of a part made from it."""

    part: int
    rows: list[Row]
    fingerprint: str


def read_inputs(stage: Stage, part: int) -> Inputs:
    """The rows that `stage` reads for one part; what it joins is under `joined`, by manifest.

    The digest of a row includes what is joined to it.
    """
    # Taken first: if another run changes the input now, the part will be stale, never wrongly up to date.
    fingerprint = stage.part_fingerprint(part)
    rows = read_part(part_path(stage.source, part))
    joined = {name: read_part(part_path(stage.root / name, part)) for name in stage.joins}
    for n, row in enumerate(rows if joined else ()):
        row["joined"] = {name: others[n] for name, others in joined.items()}
        row["digest"] = digest_of(row["digest"], *(other["digest"] for other in row["joined"].values()))
    return Inputs(part, rows, fingerprint)


def reusable_rows(stage: Stage, part: int) -> dict[str, Row]:
    """The rows of an earlier build, by fingerprint: they are copied if it is equal."""
    path = part_path(stage.target, part)
    header = read_header(path)
    if header is None or lost_files(stage.root, header.files):
        return {}
    return {row["fingerprint"]: row for row in read_part(path)}


def propagate_failure(stage: Stage, row: Row) -> Row:
    """An input row that failed earlier, as a row of this stage: the first verdict is kept."""
    kept = {name: row[name] for name in ("key", "outcome", "reason", "detail")}
    return {**kept, "digest": "", "fingerprint": stage.row_fingerprint(row)}


def check_bugs(stage: Stage, part: int, rows: Sequence[Row]) -> None:
    """Raises InternalError if our own code failed on more than a small share of a part: the items are not to blame."""
    bugs = [row["detail"] for row in rows if row.get("reason") == BUG]
    if len(bugs) > max(FEW_BUGS, BUG_SHARE * len(rows)):
        raise InternalError(
            f"{stage.name}: mcgurk's own code failed on {len(bugs)} of {len(rows)} items of part {part}: {bugs[0]}"
        )


def commit_part(
    stage: Stage, inputs: Inputs, rows: Sequence[Row], files: Mapping[Path, int] | None = None
) -> None:
    """Writes the part last, after its files (path -> bytes): from here on it is up to date."""
    sizes = {path_under(stage.root, path): size for path, size in (files or {}).items()}
    header = PartHeader(stage.name, inputs.fingerprint, sizes)
    write_part(part_path(stage.target, inputs.part), rows, stage.schema, header)
