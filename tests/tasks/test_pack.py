"""Pack: the bytes of a tar depend on its samples only, and anybody finds them by the sidecar."""

import hashlib
import io
import json
import shutil
import tarfile
import wave
from datetime import timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from small_roots import LABELS, NOW, PROFILE, build, fetch, let_pass, rows_of, write_segments

from schemas.manifest import part_path, read_header, read_part
from schemas.shard import index_path, make_version, member_suffixes, tar_path
from tasks import extract, features, pack
from tasks.pack import PackConfig, packed
from tasks.parts import plan_stage


@pytest.fixture
def root(tmp_path, folder):
    """Two parts; `late` of the first is not there yet."""
    made = tmp_path / "root"
    write_segments(made, {0: ["-a", "late"], 1: ["_b", "c"]})
    build(made, f"folder:{folder}")
    return made


def tars(root: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted((root / "shards").glob("*.tar"))}


def repack(root: Path) -> None:
    config = PackConfig(PROFILE, LABELS)
    pack.run(pack.stage(root, config), [0, 1], config)


def test_packing_twice_gives_the_same_bytes(root):
    before = tars(root)
    shutil.rmtree(root / "shards")

    repack(root)

    assert tars(root) == before
    assert len(before) == 2


def test_the_order_of_rows_in_feature_files_does_not_matter(root):
    before = tars(root)
    for name in features.modules():
        path = extract.feature_path(root, name, 1)
        table = pa.Table.from_pylist(extract.read_members(path).to_pylist()[::-1], extract.MEMBERS)
        with extract.writing_members(path) as writer:
            writer.write_table(table)
    shutil.rmtree(root / "shards")

    repack(root)

    assert tars(root) == before


def test_members_are_sorted_and_carry_no_clock_and_no_owner(root):
    *_, last = packed(root)
    with tarfile.open(tar_path(root, last)) as tar:
        members = tar.getmembers()

    keys = ["_b_0_2000", "c_0_2000"]
    assert [one.name for one in members] == [f"{key}.{s}" for key in keys for s in member_suffixes(PROFILE)]
    facts = {(one.mtime, one.uid, one.gid, one.uname, one.gname, one.mode) for one in members}
    assert facts == {(0, 0, 0, "", "", 0o444)}


def test_a_tar_is_named_by_its_bytes(root):
    for shard in packed(root):
        content = tar_path(root, shard).read_bytes()
        digest = hashlib.sha256(content).hexdigest()
        assert (shard.sha256, shard.size_bytes) == (digest, len(content))
        assert shard.name == f"train-{shard.part:06d}-{digest[:8]}"


def test_offsets_in_the_sidecar_point_at_the_members_bytes(root):
    for shard in packed(root):
        content = tar_path(root, shard).read_bytes()
        with tarfile.open(fileobj=io.BytesIO(content)) as tar:
            for row in read_part(index_path(root, shard)):
                for one in row["members"] or ():
                    stored = tar.extractfile(f"{row['key']}.{one['suffix']}").read()
                    assert content[one["offset"] :][: one["size_bytes"]] == stored
                assert row["size_bytes"] in (None, sum(one["size_bytes"] for one in row["members"] or ()))


def test_the_sidecar_has_a_row_for_every_slot(root):
    first, _ = packed(root)

    rows = read_part(index_path(root, first))

    assert [(row["key"], row["outcome"], row["reason"]) for row in rows] == [
        ("-a_0_2000", "ok", ""), ("late_0_2000", "waiting", "removed")
    ]  # fmt: skip
    assert rows[1]["members"] is None
    assert first.num_samples == 1


def sample(root: Path, key: str = "c_0_2000") -> dict[str, bytes]:
    *_, last = packed(root)
    with tarfile.open(tar_path(root, last)) as tar:
        of_key = [one for one in tar.getmembers() if one.name.split(".")[0] == key]
        return {one.name.split(".", 1)[1]: tar.extractfile(one).read() for one in of_key}


def test_the_json_of_a_sample_is_canonical_and_knows_no_wall_clock(root):
    text = sample(root)["json"].decode()

    facts = json.loads(text)
    assert text == json.dumps(facts, sort_keys=True, separators=(",", ":"))
    assert facts["valid_ms"] == 2000
    assert (facts["source"]["width_px"], facts["source"]["sample_rate_hz"]) == (384, 16_000)
    assert "2026" not in text and str(root) not in text


def test_labels_stand_with_their_names_and_indices(root):
    facts = json.loads(sample(root)["json"])

    assert facts["labels"] == ["/m/1", "/m/2"]
    assert facts["label_indices"] == [3]  # the table does not know /m/2
    assert facts["tag"] == ["Drum | <roll>", "/m/2"]
    assert facts["text"] == ["Drum | <roll>, /m/2"]


def test_a_sample_holds_exactly_what_the_profile_says(root):
    members = sample(root)

    assert sorted(members) == member_suffixes(PROFILE)
    with wave.open(io.BytesIO(members["wav"])) as sound:
        assert (sound.getframerate(), sound.getnchannels(), sound.getnframes()) == (16_000, 1, 32_000)
    mel = np.load(io.BytesIO(members["log_mel.npy"]))
    assert (mel.shape, mel.dtype) == ((64, 200), np.float16)


def test_a_clip_that_comes_late_rebuilds_its_own_shard_only(root, folder):
    before, (_, kept) = tars(root), packed(root)
    shutil.copy(folder / "c.mp4", folder / "late.mp4")
    fetch(root, f"folder:{folder}", NOW + timedelta(days=1))

    counts = build(root, f"folder:{folder}")

    assert counts == {"fetched": 0, "decoded": 1, "packed": 1}
    first, second = packed(root)
    assert (first.num_samples, second) == (2, kept)
    assert {name: tars(root)[name] for name in before} == before  # a version may still name the old tar
    assert rows_of(root, "shards")["late"]["outcome"] == "ok"


def test_a_part_without_a_sample_has_no_shard(tmp_path, folder):
    root = tmp_path / "empty"
    write_segments(root, {0: ["x", "y"]})

    assert build(root, f"folder:{folder}") == {"fetched": 2, "decoded": 0, "packed": 1}

    assert (packed(root), tars(root)) == ([], {})
    assert read_header(part_path(root / "shards", 0)).files == {}


def test_other_labels_change_the_shards_and_nothing_before(root, folder):
    before = make_version(PROFILE, packed(root)).digest

    assert build(root, f"folder:{folder}", labels={}) == {"fetched": 0, "decoded": 0, "packed": 2}

    assert make_version(PROFILE, packed(root)).digest != before


def test_a_lost_tar_is_packed_again(root, folder):
    before, (first, _) = tars(root), packed(root)
    tar_path(root, first).unlink()

    assert build(root, f"folder:{folder}") == {"fetched": 0, "decoded": 0, "packed": 1}

    assert tars(root) == before


def test_nothing_under_way_is_left_behind(root):
    let_pass(root, "features")

    assert not list((root / "shards").glob(".*"))
    assert plan_stage(pack.stage(root, PackConfig(PROFILE, LABELS))).due() == []
