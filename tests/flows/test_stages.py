"""The table of stages as a build sees them, against the facts of the same stages."""

import sys
from collections import Counter
from dataclasses import replace
from types import FrameType

import pytest

from flows import presets
from flows.builds.checks import check
from flows.builds.options import BuildOptions
from flows.builds.pipeline import resolve
from flows.commands.cli import main
from flows.stages import TABLE, stage_named, stages_from
from schemas.layout import STAGE_NAMES, STAGES, stage_facts
from tasks.sources.scenes.corpus import CorpusConfig


def test_both_tables_have_the_same_stages_in_the_same_order():
    assert [row.name for row in TABLE] == [facts.name for facts in STAGES]


def test_a_stage_reads_and_writes_what_its_facts_say(tmp_path):
    pipeline = resolve(BuildOptions(str(tmp_path), preset="demo", source="studio"))

    for row in TABLE:
        if row.make:
            facts = stage_facts(row.name)
            stage = row.over(pipeline)
            assert (stage.name, stage.reads, stage.writes) == (facts.name, facts.reads, facts.writes)


def test_each_stage_reads_what_the_one_before_it_writes():
    assert [facts.reads for facts in STAGES[1:]] == [facts.writes for facts in STAGES[:-1]]


def test_stages_from_one_on():
    assert [row.name for row in stages_from("pack")] == ["pack", "publish"]
    assert stages_from(None) == TABLE
    assert [row.name for row in TABLE if row.is_bounded] == ["download", "validate-clips", "extract"]


@pytest.mark.parametrize("name", [STAGE_NAMES[0], STAGE_NAMES[-1]])
def test_what_is_not_made_part_by_part_has_no_stage_over_a_root(name, tmp_path):
    pipeline = resolve(BuildOptions(str(tmp_path), preset="demo", source="studio"))

    with pytest.raises(TypeError, match=f"{name} is not made part by part"):
        stage_named(name).over(pipeline)


@pytest.fixture
def few_scenes(monkeypatch) -> str:
    """A preset of the studio that is small enough to be built here."""
    config = replace(presets.demo(), corpus=CorpusConfig(8, eval_share=0.3))
    monkeypatch.setitem(presets.PRESETS, "few", lambda: config)
    return "few"


def test_a_command_resolves_and_checks_its_options_once(tmp_path, prefect_server, few_scenes, capsys):
    """The flow that it starts takes the pipeline of the command, and the lists that the studio writes meanwhile."""
    called: Counter[str] = Counter()

    def look(frame: FrameType, event: str, argument: object) -> None:
        if event == "call" and frame.f_code in (resolve.__code__, check.__code__):
            called[frame.f_code.co_name] += 1

    sys.setprofile(look)
    try:
        exit_code = main(["build", "--root", str(tmp_path), "--preset", few_scenes, "--compute", "threads"])
    finally:
        sys.setprofile(None)

    assert exit_code == 0
    assert called == {"resolve": 1, "check": 1}
    assert "8 in shards" in capsys.readouterr().out
