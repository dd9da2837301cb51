"""Publish: a version is made of shards that lack nothing, and every segment has exactly one fate."""

import json
import shutil

import pytest
from small_roots import LABELS, PROFILE, build, fetch, let_pass, write_segments

from schemas.manifest import part_path, read_header, read_part, write_part
from schemas.rules import Rules
from schemas.segment import SEGMENTS
from schemas.shard import SHARDS, latest_digest, read_version
from tasks import publish as module
from tasks.publish import fates, measure_funnel, publish
from tasks.validate import GateError

RULES = Rules()


@pytest.fixture
def root(tmp_path, folder):
    made = tmp_path / "root"
    write_segments(made, {0: ["-a", "gone"], 1: ["_b", "c"]})
    build(made, f"folder:{folder}")
    return made


def by_video(root) -> dict[str, tuple[str, str]]:
    return {row["key"].rsplit("_", 2)[0]: (row["outcome"], row["reason"]) for row in fates(root)}


def test_a_version_counts_what_became_of_every_segment(root):
    version = publish(root, PROFILE, RULES, LABELS)

    stored = json.loads((root / "versions" / f"{version.digest}.json").read_text())
    assert stored["facts"]["funnel"] == measure_funnel(root) == {
        "segments": 4, "in_shards": 3, "quarantined": {}, "unavailable": {}, "waiting": {"removed": 1},
        "forgotten": 0,
    }  # fmt: skip
    assert read_version(root) == version
    assert sum(shard.num_samples for shard in version.shards) == 3


def test_publishing_again_is_the_same_version(root):
    first = publish(root, PROFILE, RULES, LABELS)

    assert publish(root, PROFILE, RULES, LABELS) == first
    assert len(list((root / "versions").glob("*.md"))) == 1


def test_what_has_not_reached_a_shard_waits(tmp_path, folder):
    root = tmp_path / "root"
    write_segments(root, {0: ["-a", "gone"], 1: ["c"]})
    assert by_video(root) == dict.fromkeys(("-a", "gone", "c"), ("waiting", "pending"))

    fetch(root, f"folder:{folder}")

    pending = ("waiting", "pending")
    assert by_video(root) == {"-a": pending, "gone": ("waiting", "removed"), "c": pending}
    assert measure_funnel(root)["waiting"] == {"pending": 2, "removed": 1}


def test_a_part_that_lags_behind_the_others_waits(root):
    part_path(root / "shards", 1).unlink()

    assert by_video(root) == {
        "-a": ("ok", ""), "gone": ("waiting", "removed"), "_b": ("waiting", "pending"),
        "c": ("waiting", "pending"),
    }  # fmt: skip


@pytest.mark.parametrize("change", ["lost", "twice"])
def test_a_segment_that_is_lost_or_stands_twice_stops(root, change):
    path = part_path(root / "shards", 1)
    rows = read_part(path)
    rows = rows[:1] if change == "lost" else [rows[0], rows[0]]
    write_part(path, rows, SHARDS, read_header(path))

    with pytest.raises(RuntimeError, match="the index has 4 segments, the manifests"):
        measure_funnel(root)


def test_a_shard_that_lacks_a_member_is_never_published(root):
    path = part_path(root / "shards", 1)
    rows = read_part(path)
    rows[0]["members"] = rows[0]["members"][:-1]
    write_part(path, rows, SHARDS, read_header(path))

    with pytest.raises(GateError, match="all_members fails for 1 of 3 rows"):
        publish(root, PROFILE, RULES, LABELS)

    assert latest_digest(root) is None


def test_the_card_has_counts_and_escapes_labels(root):
    version = publish(root, PROFILE, RULES, LABELS)

    card = (root / "versions" / f"{version.digest}.md").read_text()

    assert "| train | 3 | 2 |" in card
    assert "4 segments = 3 in shards\n+ 0 quarantined\n+ 0 unavailable\n+ 1 waiting (removed 1)" in card
    assert r"| Drum \| &lt;roll> | 3 |" in card
    assert "| /m/2 | 3 |" in card
    assert "4 frames" in card and "16000 Hz" in card


def test_two_labels_of_one_name_are_both_counted(root):
    version = publish(root, PROFILE, RULES, {"/m/1": (0, "Drum"), "/m/2": (1, "Drum")})

    assert (root / "versions" / f"{version.digest}.md").read_text().count("| Drum | 3 |") == 2


def test_the_cards_own_example_reads_the_version(root, monkeypatch, capsys):
    version = publish(root, PROFILE, RULES, LABELS)
    card = (root / "versions" / f"{version.digest}.md").read_text()
    example = card.split("```python\n")[1].split("```")[0]
    monkeypatch.chdir(root)

    exec(compile(example, "card", "exec"), {})

    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["-a_0_2000", "_b_0_2000", "c_0_2000"]


def test_segments_of_a_part_that_is_new_are_counted_before_anything_is_built(root):
    publish(root, PROFILE, RULES, LABELS)
    source = read_part(part_path(root / "segments", 1))
    new = [{**row, "key": f"new{n}_0_2000"} for n, row in enumerate(source)]
    write_part(part_path(root / "segments", 2), new, SEGMENTS, read_header(part_path(root / "segments", 1)))

    counts = measure_funnel(root)

    assert (counts["segments"], counts["in_shards"], counts["waiting"]) == (
        6,
        3,
        {"removed": 1, "pending": 2},
    )
    shutil.rmtree(root / "segments" / "checked")
    let_pass(root, "segments")
    assert measure_funnel(root) == counts


def test_every_manifest_that_a_stage_writes_is_asked():
    assert set(module.MANIFESTS) == {
        "segments", "segments/checked", "clips", "clips/checked", "features", "features/checked", "shards"
    }  # fmt: skip
