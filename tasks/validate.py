"""Validate: a manifest -> the same manifest `checked`, in which rows that fail an expectation are quarantined.

A changed rule makes the parts stale, so rows return automatically. If a large share of a manifest fails, the flow
stops: then the run is suspect, not the rows.
"""

import json
import logging
from collections.abc import Collection, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jinja2
import pyarrow as pa

from schemas import layout
from schemas.clip import CLIPS
from schemas.errors import OperationalError
from schemas.feature import FEATURES, Profile
from schemas.files import MEND, read_json, write_json, write_text
from schemas.layout import stage_facts
from schemas.manifest import Row, read_manifest
from schemas.outcome import Outcome
from schemas.rules import Rules
from schemas.segment import SEGMENTS
from schemas.shard import SHARDS
from tasks import features
from tasks.parts import Stage, commit_part, propagate_failure, read_inputs

if TYPE_CHECKING:
    import pandas as pd

    from schemas.expectations import Finding

log = logging.getLogger(__name__)

VERSION = 1
SCHEMAS: dict[str, pa.Schema] = dict(zip(layout.JUDGED, (SEGMENTS, CLIPS, FEATURES, SHARDS), strict=True))
EXAMPLES = 20  # rejected rows that a report shows for each expectation


class GateError(OperationalError):
    """A whole manifest fails expectations: the flow stops here."""


def stage(root: Path, manifest: str, rules: Rules, profile: Profile) -> Stage:
    """The stage `validate-{manifest}` over `root`."""
    facts = stage_facts(f"validate-{manifest}")

    is_features = manifest == layout.FEATURES
    settings = [getattr(rules, manifest), profile if is_features else None]
    schema = features.manifest_schema(profile) if is_features else SCHEMAS[manifest]
    return Stage(facts.name, VERSION, root, facts.reads, facts.writes, schema, settings)


def run(stage: Stage, parts: Sequence[int], rules: Rules, profile: Profile) -> None:
    """Checks the whole manifest, writes the verdicts of `parts` and the reports. Raises GateError."""
    findings = judge(stage.root, stage.reads, rules, profile)
    for part in parts:
        inputs = read_inputs(stage, part)
        commit_part(stage, inputs, [_verdict(stage, row, findings) for row in inputs.rows])


def judge(root: Path, manifest: str, rules: Rules, profile: Profile) -> list["Finding"]:
    """The findings of the suite of `manifest`, which are also written as reports. Raises GateError."""
    from schemas import expectations  # 5 s of Great Expectations, only needed if something is checked

    judged = [field.name for field in SCHEMAS[manifest] if not pa.types.is_binary(field.type)]  # no prints
    rows = [row for _, row in read_manifest(root / manifest, judged) if row["outcome"] == Outcome.OK]
    suite = expectations.suite(manifest, rules, profile, features.member_suffixes(profile))
    findings = expectations.check(_frame(manifest, rows), suite, rules) if rows else []
    write_reports(root / layout.VALIDATION, manifest, len(rows), findings)
    broken = [one for one in findings if one.is_broken]
    if broken:
        listed = ", ".join(
            f"{one.name} fails for {len(one.rejected)} of {one.checked} rows" for one in broken
        )
        raise GateError(f"validate-{manifest}: {listed}; see {layout.VALIDATION}/index.html")
    rejected = {key for one in findings for key in one.rejected}
    log.info("validate-%s: %d rows, %d quarantined", manifest, len(rows), len(rejected))
    return findings


def _frame(manifest: str, rows: list[Row]) -> "pd.DataFrame":
    """The columns that the suites judge; GX reads pandas."""
    import pandas as pd

    derived = {
        layout.SEGMENTS: lambda row: {"length_s": (row["end_ms"] - row["start_ms"]) / 1000},
        layout.FEATURES: lambda row: {"valid_share": row["valid_ms"] / (row["length_s"] * 1000)},
        layout.SHARDS: lambda row: {"num_members": len(row["members"] or ())},
    }.get(manifest, lambda row: {})
    flat = ({name: value for name, value in row.items() if not isinstance(value, list)} for row in rows)
    return pd.DataFrame([{**kept, **derived(row)} for kept, row in zip(flat, rows, strict=True)])


def _verdict(stage: Stage, row: Row, findings: Sequence["Finding"]) -> Row:
    if row["outcome"] != Outcome.OK:
        return {**row, **propagate_failure(stage, row)}
    against = [(one.name, one.rejected[row["key"]]) for one in findings if row["key"] in one.rejected]
    checked = {**row, "fingerprint": stage.row_fingerprint(row)}
    if not against:
        return checked
    detail = "; ".join(f"{name}: observed {_short(value)}" for name, value in against)
    return {**checked, "outcome": Outcome.QUARANTINED.value, "reason": against[0][0], "detail": detail}


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def write_reports(folder: Path, manifest: str, rows: int, findings: Sequence["Finding"]) -> None:
    """Writes `{manifest}.json`, and `index.html` about all manifests that have one."""
    expectations = [
        {
            **asdict(one),
            "rejected": len(one.rejected),
            "examples": dict(list(one.rejected.items())[:EXAMPLES]),
        }
        for one in findings
    ]
    plain = json.loads(json.dumps(expectations, default=str))  # GX observes pandas values, and dates
    write_json(folder / f"{manifest}.json", {"manifest": manifest, "rows": rows, "expectations": plain})
    _write_page(folder)


def forget_examples(folder: Path, keys: Collection[str]) -> list[Path]:
    """Removes `keys` from the examples in reports; returns the reports that had any."""
    changed = []
    for path in [path for name in SCHEMAS if (path := folder / f"{name}.json").is_file()]:
        report = read_json(path, MEND)
        found = False
        for one in report["expectations"]:
            found |= bool(one["examples"].keys() & set(keys))
            one["examples"] = {key: value for key, value in one["examples"].items() if key not in keys}
        if found:
            write_json(path, report)
            changed.append(path)
    page = folder / "index.html"
    if page.is_file() and any(key in page.read_text() for key in keys):
        _write_page(folder)
        changed.append(page)
    return changed


def _write_page(folder: Path) -> None:
    paths = [folder / f"{name}.json" for name in SCHEMAS]
    reports = [read_json(path, MEND) for path in paths if path.is_file()]
    loader = jinja2.FileSystemLoader(Path(__file__).parent)
    template = jinja2.Environment(loader=loader, autoescape=True).get_template("validation.html")
    write_text(folder / "index.html", template.render(reports=reports))
