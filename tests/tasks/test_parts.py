"""A part is up to date, or the plan says why it is not."""

from dataclasses import replace

import pyarrow as pa
import pytest

from schemas.manifest import ROW_FIELDS, PartHeader, part_path, write_part
from tasks.parts import (
    PartPlan,
    Plan,
    Stage,
    commit_part,
    plan_stage,
    propagate_failure,
    read_inputs,
    reusable_rows,
)

SCHEMA = pa.schema(ROW_FIELDS)


def row(key, outcome="ok", digest="d", detail=""):
    return {
        "key": key,
        "outcome": outcome,
        "reason": "",
        "detail": detail,
        "digest": digest,
        "fingerprint": "",
    }


def write(root, manifest, part, rows):
    write_part(part_path(root / manifest, part), rows, SCHEMA, PartHeader("before", "", {}))


def build(stage, part=0):
    """The part as a run would write it, with one file of its own."""
    inputs = read_inputs(stage, part)
    path = stage.root / f"{part}.bin"
    path.write_bytes(b"12345")
    rows = [{**one, "fingerprint": stage.row_fingerprint(one)} for one in inputs.rows]
    commit_part(stage, inputs, rows, {path: 5})


@pytest.fixture
def stage(tmp_path):
    write(tmp_path, "in", 0, [row("a"), row("b")])
    return Stage("cook", 1, tmp_path, "in", "out", SCHEMA, {"heat": 1})


def test_a_part_that_was_never_built_is_missing(stage):
    assert plan_stage(stage).parts == [PartPlan(0, "missing", "never built")]


def test_a_built_part_is_done(stage):
    build(stage)

    assert plan_stage(stage).parts == [PartPlan(0, "done")]


@pytest.mark.parametrize(
    "change", [{"settings": {"heat": 2}}, {"version": 2}, {"settings": {"heat": 1, "salt": 0}}]
)
def test_other_settings_or_code_make_a_part_stale(stage, change):
    build(stage)

    assert plan_stage(replace(stage, **change)).parts == [
        PartPlan(0, "stale", "its input, configuration or code changed")
    ]


@pytest.mark.parametrize(
    "rows",
    [
        [row("a"), row("b", digest="other")],
        [row("a"), row("b", "waiting")],
        [row("a")],
        [row("b"), row("a")],
    ],
)
def test_other_content_of_its_input_makes_a_part_stale(stage, rows):
    build(stage)

    write(stage.root, "in", 0, rows)

    assert plan_stage(stage).parts[0].state == "stale"


def test_messages_never_make_a_part_stale(stage):
    build(stage)

    write(stage.root, "in", 0, [row("a", detail="a new message"), row("b")])

    assert plan_stage(stage).parts == [PartPlan(0, "done")]


@pytest.mark.parametrize("damage", ["lost", "cut short"])
def test_a_lost_or_short_file_is_named(stage, damage):
    build(stage)

    (stage.root / "0.bin").unlink() if damage == "lost" else (stage.root / "0.bin").write_bytes(b"1")

    assert plan_stage(stage).parts == [PartPlan(0, "stale", "1 file(s) lost: 0.bin")]


def test_a_damaged_part_is_built_anew(stage):
    build(stage)
    path = part_path(stage.target, 0)

    path.write_bytes(path.read_bytes()[:-9])

    assert plan_stage(stage).parts == [PartPlan(0, "missing", "never built")]
    assert reusable_rows(stage, 0) == {}


def test_what_the_stage_before_is_about_to_do_makes_a_part_stale(stage):
    build(stage)
    before = Plan("before", [PartPlan(0, "failed", "2 segment(s) due again"), PartPlan(7, "missing")])

    assert plan_stage(stage, before).parts == [
        PartPlan(0, "stale", "the stage before it is failed"),
        PartPlan(7, "missing", "never built"),
    ]


def test_joined_manifests_count_as_input(stage):
    joining = replace(stage, joins=("side",))
    write(stage.root, "side", 0, [row("a", digest="x"), row("b", digest="y")])
    build(joining)
    done = plan_stage(joining).counts()["done"]

    write(stage.root, "side", 0, [row("a", digest="x"), row("b", digest="z")])

    assert (done, plan_stage(joining).counts()["stale"]) == (1, 1)
    assert [one["joined"]["side"]["digest"] for one in read_inputs(joining, 0).rows] == ["x", "z"]


def test_only_rows_whose_own_input_changed_lose_their_fingerprint(stage):
    build(stage)

    write(stage.root, "in", 0, [row("a"), row("b", digest="other")])

    a, b = (stage.row_fingerprint(one) for one in read_inputs(stage, 0).rows)
    assert a in reusable_rows(stage, 0)
    assert b not in reusable_rows(stage, 0)


def test_nothing_is_copied_from_a_part_that_lost_a_file(stage):
    build(stage)
    (stage.root / "0.bin").unlink()

    assert reusable_rows(stage, 0) == {}


def test_what_failed_before_keeps_its_first_verdict(stage):
    failed = {**row("a", "waiting", digest="d", detail="HTTP 404"), "reason": "removed", "attempts": 1}

    kept = propagate_failure(stage, failed)

    assert (kept["outcome"], kept["reason"], kept["detail"], kept["digest"]) == (
        "waiting",
        "removed",
        "HTTP 404",
        "",
    )


PLAN = Plan("x", [PartPlan(n, s) for n, s in enumerate(("done", "stale", "failed", "missing"))])


@pytest.mark.parametrize(
    ("only", "parts", "due"),
    [
        ("all", None, [1, 2, 3]),
        ("failed", None, [2]),
        ("stale", None, [1, 3]),
        ("all", [0, 3], [3]),
        ("failed", [1], []),
        ("all", [], []),
    ],
)
def test_a_run_is_narrowed_by_kind_and_number(only, parts, due):
    assert PLAN.due(only, parts) == due


def test_a_plan_counts_every_state():
    assert PLAN.counts() == {"done": 1, "stale": 1, "failed": 1, "missing": 1}
    assert Plan("x").counts() == {"done": 0, "stale": 0, "failed": 0, "missing": 0}
