"""A rerun does exactly what is missing, failed or stale; the same input gives the same bytes."""

import io
import json
import tarfile
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import timecode
from roots import PROFILE, Root, fates, write_clips
from timecode import Recipe

from schemas.manifest import part_path, read_manifest
from schemas.rules import ClipRules, FeatureRules
from schemas.shard import read_version
from tasks.feature_files import feature_path, open_members
from tasks.features import member_suffixes
from tasks.funnel import measure_funnel
from tasks.pack import PackConfig, describe
from tasks.parts import PartPlan, Plan, plan_stage
from tasks.publish import NotPublished
from tasks.validate import GateError

IDS = [f"video{n:06d}" for n in range(7)]
STAGES = ["download", "validate-clips", "extract", "validate-features", "pack"]


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> Root:
    """A root of seven clips in three parts; tests that change it make a root of their own."""
    folder = tmp_path_factory.mktemp("built")
    root = Root(folder / "root", f"folder:{folder / 'videos'}", write_clips(folder / "videos", IDS))
    root.build()
    return root


def own_root(tmp_path: Path, ids=IDS, recipe: Recipe | None = None) -> Root:
    return Root(
        tmp_path / "root", f"folder:{tmp_path / 'videos'}", write_clips(tmp_path / "videos", ids, recipe)
    )


def rows(root: Root, manifest: str) -> dict[str, dict]:
    return {row["key"]: row for _, row in read_manifest(root.path / manifest)}


def tars(root: Root) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (root.path / "shards").glob("*.tar")}


def test_a_second_build_does_nothing(built):
    assert built.build() == {}


def test_two_roots_of_the_same_clips_hold_the_same_bytes(built, tmp_path):
    other = replace(built, path=tmp_path / "elsewhere")

    other.build()

    assert tars(other) == tars(built)
    assert read_version(other.path) == read_version(built.path)


def test_a_late_clip_rebuilds_its_own_shard_and_no_other(tmp_path):
    root = own_root(tmp_path)
    late = tmp_path / "videos" / f"{IDS[3]}.mp4"
    content = late.read_bytes()
    late.unlink()
    root.build()
    before = tars(root)
    extracted = rows(root, "features")
    late.write_bytes(content)
    root.now += timedelta(days=1)

    done = root.build()

    key = f"{IDS[3]}_0_2000"
    (part,) = {part for part, row in read_manifest(root.path / "segments") if row["key"] == key}
    assert done == dict.fromkeys(STAGES, [part])
    now = tars(root)
    assert {name: now[name] for name in before} == before  # also the one that the new shard replaces
    assert [name.rsplit("-", 1)[0] for name in set(now) - set(before)] == [f"train-{part:06d}"]
    after = rows(root, "features")
    assert {k: after[k] for k in after if k != key} == {k: extracted[k] for k in extracted if k != key}


def test_one_changed_clip_is_decoded_alone(tmp_path, caplog):
    root = own_root(tmp_path)
    root.build()
    row = rows(root, "clips")[f"{IDS[2]}_0_2000"]
    (root.path / row["path"]).unlink()
    timecode.write(tmp_path / "videos" / f"{IDS[2]}.mp4", Recipe(seconds=2.5, frame_rate=20))
    decoded = []

    root.run("download"), root.run("validate-clips")
    stage = root.stage("extract")
    plan = plan_stage(root.stage("extract"))
    from tasks import extract

    extract.run(stage, plan.due(), PROFILE, lambda f, batches: map(f, decoded.extend(batches) or batches))

    assert [clip["key"] for batch in decoded for clip, _ in batch.clips] == [row["key"]]


def test_a_lost_feature_file_is_made_again(tmp_path):
    root = own_root(tmp_path, IDS[:3])
    root.build()
    before = tars(root)
    feature_path(root.path, "frames", 0).unlink()

    plan = plan_stage(root.stage("extract"))

    assert plan.parts == [PartPlan(0, "stale", "1 file(s) lost: features/frames/000000.arrow")]
    assert root.build() == {"extract": [0]}
    assert tars(root) == before


def test_leftovers_of_a_killed_run_are_swept_away(tmp_path):
    root = own_root(tmp_path, IDS[:3])
    leftover = root.path / "features" / "frames" / ".000000-000000.arrow"
    leftover.parent.mkdir(parents=True)
    leftover.write_bytes(b"half a fragment")

    root.build()

    assert not leftover.exists()
    assert measure_funnel(root.path)["in_shards"] == 3


@pytest.mark.parametrize(
    ("recipe", "reason"),
    [
        (Recipe(seconds=2, is_silent=True), "not_silent"),
        (Recipe(seconds=2, is_black=True), "not_black"),
        (Recipe(seconds=2, is_frozen=True), "not_frozen"),
        (Recipe(seconds=2, has_audio=False), "has_audio"),
        (Recipe(seconds=2, frame_rate=2), "frame_rate"),
    ],
)
def test_bad_clips_are_quarantined_by_the_expectation_they_break(tmp_path, recipe, reason):
    root = own_root(tmp_path, IDS[:1], recipe)

    with pytest.raises(NotPublished, match=rf"no sample, so no version: 1 of 1: {reason}: observed "):
        root.build()

    assert list(fates(root.path).values()) == [("quarantined", reason)]
    manifest = "clips/checked" if reason in ("has_audio", "frame_rate") else "features/checked"
    (row,) = rows(root, manifest).values()
    assert row["detail"].startswith(f"{reason}: observed ")


def test_a_damaged_clip_becomes_a_row_and_its_part_completes(tmp_path):
    root = own_root(tmp_path, IDS[:3])
    root.build()
    row = rows(root, "clips")[f"{IDS[1]}_0_2000"]
    stage = root.stage("extract")
    path = root.path / row["path"]
    path.write_bytes(bytes(row["size_bytes"]))  # the same size, no content
    root.profile = replace(PROFILE, jpeg_quality=70)

    root.build()

    assert stage.name == "extract"
    found = rows(root, "features")[row["key"]]
    assert (found["outcome"], found["reason"]) == ("quarantined", "decodable")
    assert measure_funnel(root.path)["in_shards"] == 2


def test_a_quarantined_row_comes_back_when_the_rule_changes(tmp_path):
    root = own_root(tmp_path, IDS[:2], Recipe(seconds=2, is_silent=True))
    with pytest.raises(NotPublished, match="no sample, so no version"):
        root.build()
    assert measure_funnel(root.path)["quarantined"] == {"not_silent": 2}

    root.rules = replace(root.rules, features=FeatureRules(min_rms_db=-200.0))
    done = root.build()

    assert done == {"validate-features": [0], "pack": [0]}
    assert measure_funnel(root.path)["in_shards"] == 2


def test_a_rule_that_most_rows_break_stops_the_flow_and_writes_nothing(tmp_path):
    root = own_root(tmp_path, IDS[:3])
    root.rules = replace(root.rules, clips=ClipRules(min_frame_rate_hz=1000.0), min_rows=3)

    with pytest.raises(GateError, match="frame_rate fails for 3 of 3 rows"):
        root.build()

    assert not part_path(root.path / "clips" / "checked", 0).exists()
    assert "stops the flow" in (root.path / "reports" / "validation" / "index.html").read_text()


def test_every_sample_has_the_same_members(built):
    for path in (built.path / "shards").glob("*.tar"):
        with tarfile.open(path) as tar:
            members = tar.getmembers()
        names = [member.name for member in members]
        assert names == [f"{k}.{s}" for k in unique(names) for s in member_suffixes(PROFILE)]
        assert {(m.mtime, m.uid, m.gid, m.uname, m.mode) for m in members} == {(0, 0, 0, "", 0o444)}


def unique(names: list[str]) -> list[str]:
    return list(dict.fromkeys(name.split(".")[0] for name in names))


def test_the_index_beside_a_tar_points_at_its_bytes(built):
    for path in (built.path / "shards").glob("*.tar"):
        content = path.read_bytes()
        for row in pq.read_table(path.with_suffix(".parquet")).to_pylist():
            for member in row["members"]:
                data = content[member["offset"] : member["offset"] + member["size_bytes"]]
                with tarfile.open(path) as tar:
                    assert data == tar.extractfile(f"{row['key']}.{member['suffix']}").read()


def test_the_json_of_a_sample_says_what_and_whence_but_never_when(built):
    (path, *_) = sorted((built.path / "shards").glob("*.tar"))
    with tarfile.open(path) as tar:
        name = next(member.name for member in tar if member.name.endswith(".json"))
        text = tar.extractfile(name).read().decode()

    facts = json.loads(text)
    assert text == json.dumps(facts, sort_keys=True, separators=(",", ":"))
    assert facts["labels"] == ["/m/09x0r", "/m/04rlf"]
    assert facts["valid_ms"] == 2000
    assert facts["source"]["video_codec"] == "h264"
    assert not {"time", "date", "attempts", "path"} & set(facts)


def test_labels_have_their_names_and_indices_where_the_table_is_known(built):
    key = f"{IDS[0]}_0_2000"
    joined = {name: rows(built, name)[key] for name in ("segments/checked", "clips/checked")}
    row = {**rows(built, "features/checked")[key], "joined": joined}

    facts = json.loads(describe(row, PackConfig(PROFILE, {"/m/09x0r": (0, "Speech")})))

    assert (facts["tag"], facts["label_indices"], facts["text"]) == (
        ["Speech", "/m/04rlf"],
        [0],
        ["Speech, /m/04rlf"],
    )


def test_the_members_of_a_feature_file_stand_in_slot_order(built):
    with open_members(feature_path(built.path, "frames", 0)) as table:
        keys = table["key"].to_pylist()

    slots = [row["key"] for part, row in read_manifest(built.path / "segments") if part == 0]
    assert list(dict.fromkeys(keys)) == slots


def test_the_stored_log_mel_is_what_the_stored_sound_gives(built):
    from schemas.waveforms import log_mel

    with open_members(feature_path(built.path, "audio", 0)) as table:
        wave = np.frombuffer(table["data"][0].as_py()[44:], "<i2")
    with open_members(feature_path(built.path, "log_mel", 0)) as table:
        stored = np.load(io.BytesIO(table["data"][0].as_py()))

    assert np.array_equal(stored, log_mel(wave))


def test_what_no_stage_has_reached_waits(tmp_path):
    from tasks import index

    root = own_root(tmp_path, IDS[:3])
    index.index(root.path, root.lists, root.config)

    assert measure_funnel(root.path)["waiting"] == {"pending": 3}


def test_a_plan_names_the_parts_that_were_asked_for():
    plan = Plan(
        "x", [PartPlan(0, "done"), PartPlan(1, "stale"), PartPlan(2, "failed"), PartPlan(3, "missing")]
    )

    assert plan.counts() == {"done": 1, "stale": 1, "failed": 1, "missing": 1}
    assert (plan.due(), plan.due("failed"), plan.due("stale")) == ([1, 2, 3], [2], [1, 3])
    assert plan.due(parts=[0, 3]) == [3]
