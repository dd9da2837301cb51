"""Shards depend on their samples only: same bytes twice, and a late clip moves nothing else."""

import json
import shutil
import tarfile
from dataclasses import replace

import pyarrow.parquet as pq
import pytest
from roots import Root, write_clips
from small_roots import NOW, PROFILE, RECIPE, extract_all, fetch, indexed, key_of, media, passed

from schemas.errors import DataError
from schemas.files import canonical_json, sha256_of_file
from schemas.manifest import part_numbers, part_path, read_part
from schemas.shard import JSON_SUFFIX, index_path, make_version, shard_name, tar_path
from tasks import pack
from tasks.feature_files import feature_path
from tasks.features import member_suffixes
from tasks.pack import PackConfig
from tasks.parts import plan_stage
from tasks.shard_files import packed

IDS = ["-dash", "_under", "plain", "zeta"]
LABELS = {"/m/09x0r": (0, "Speech"), "/m/04rlf": (137, "Music, live")}
CONFIG = PackConfig(PROFILE, LABELS)


def built(root, source):
    """Everything that is due before pack."""
    passed(root, "segments")
    fetch(root, source)
    passed(root, "clips")
    extract_all(root)
    passed(root, "features")


def pack_all(root, config=CONFIG):
    """Packs what is due; returns the parts."""
    stage = pack.stage(root, config)
    due = plan_stage(stage).due()
    pack.run(stage, due, config)
    return due


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    recipes = {video: replace(RECIPE, seconds=2.0 + n / 10) for n, video in enumerate(IDS)}
    return media(tmp_path_factory.mktemp("media"), recipes)


@pytest.fixture(scope="module")
def original(folder, tmp_path_factory):
    """Two parts of two clips; they are packed, and not written to again."""
    root = indexed(tmp_path_factory.mktemp("original"), IDS, part_size=2)
    built(root, f"folder:{folder}")
    pack_all(root)
    return root


@pytest.fixture
def root(original, tmp_path):
    return shutil.copytree(original, tmp_path / "root")


def tars(root):
    return {path.name: path.read_bytes() for path in sorted((root / "shards").glob("*.tar"))}


def members(root, shard):
    """The tar's members with their bytes, read as anybody would."""
    with tarfile.open(tar_path(root, shard)) as tar:
        return [(info, tar.extractfile(info).read()) for info in tar]


def facts_of(root):
    """The JSON of every sample, as text."""
    found = [(info.name, data) for shard in packed(root) for info, data in members(root, shard)]
    return {name.split(".")[0]: data.decode() for name, data in found if name.endswith(".json")}


def test_packing_twice_gives_the_same_bytes(root):
    before = tars(root)
    shutil.rmtree(root / "shards")

    assert pack_all(root) == [0, 1]
    assert tars(root) == before


def test_a_second_run_packs_nothing(root):
    assert pack_all(root) == []


def test_another_build_from_the_same_media_gives_the_same_bytes(original, folder, tmp_path):
    again = indexed(tmp_path, IDS[::-1], part_size=2)
    built(again, f"folder:{folder}")

    pack_all(again)

    assert tars(again) == tars(original)


def test_members_are_sorted_and_have_no_owner_and_no_time(original):
    for shard in packed(original):
        found = members(original, shard)
        suffixes = [info.name.split(".", 1)[1] for info, _ in found]

        assert suffixes == member_suffixes(PROFILE) * shard.num_samples
        facts = {(i.mtime, i.uid, i.gid, i.uname, i.gname, i.mode, i.isreg()) for i, _ in found}
        assert facts == {(0, 0, 0, "", "", 0o444, True)}


def test_samples_stand_in_slot_order(original):
    for shard in packed(original):
        names = [info.name.split(".")[0] for info, _ in members(original, shard)]
        segments = read_part(original / "segments" / f"{shard.part:06d}.parquet")

        assert list(dict.fromkeys(names)) == [row["key"] for row in segments]


def test_a_tar_is_named_by_split_part_and_digest(original):
    for shard in packed(original):
        assert shard.sha256 == sha256_of_file(tar_path(original, shard))
        assert shard.name == shard_name("train", shard.part, shard.sha256)
        assert shard.size_bytes == tar_path(original, shard).stat().st_size


def test_the_sidecar_points_at_the_bytes_of_every_member(original):
    for shard in packed(original):
        tar = tar_path(original, shard).read_bytes()
        rows = pq.ParquetFile(index_path(original, shard)).read().to_pylist()

        pointed = {
            f"{row['key']}.{one['suffix']}": tar[one["offset"] : one["offset"] + one["size_bytes"]]
            for row in rows
            for one in row["members"]
        }
        assert pointed == {info.name: data for info, data in members(original, shard)}
        assert all(row["size_bytes"] == sum(m["size_bytes"] for m in row["members"]) for row in rows)


def test_the_json_is_canonical_and_knows_no_wall_clock(original):
    for key, text in facts_of(original).items():
        facts = json.loads(text)

        assert text == canonical_json(facts)
        assert facts["key"] == key
        assert set(facts) == {
            "key", "video_id", "segment_id", "split", "start_ms", "end_ms", "valid_ms", "labels",
            "label_indices", "tag", "text", "profile", "frame_rate_hz", "sample_rate_hz", "source", "checks",
            "schema_version",
        }  # fmt: skip
        assert str(NOW.date()) not in text


def test_labels_are_named_as_the_table_names_them(original):
    facts = json.loads(facts_of(original)[key_of("plain")])

    assert facts["labels"] == ["/m/09x0r", "/m/04rlf"]
    assert facts["label_indices"] == [0, 137]
    assert facts["tag"] == ["Speech", "Music, live"]
    assert facts["text"] == ["Speech, Music, live"]
    assert facts["segment_id"] == "plain_0"


def test_a_label_that_no_table_knows_keeps_its_machine_id(root):
    assert pack_all(root, PackConfig(PROFILE, {"/m/04rlf": (137, "Music, live")})) == [0, 1]

    facts = json.loads(facts_of(root)[key_of("plain")])
    assert facts["tag"] == ["/m/09x0r", "Music, live"]
    assert facts["label_indices"] == [137]


def test_a_late_clip_rebuilds_its_own_shard_only(folder, tmp_path):
    early = tmp_path / "early"
    root = tmp_path / "root"
    shutil.copytree(folder, early)
    (early / "zeta.mp4").unlink()
    indexed(root, IDS, part_size=2)
    built(root, f"folder:{early}")
    pack_all(root)
    before = {shard.part: shard for shard in packed(root)}
    fetch(root, f"folder:{folder}", days=1)
    passed(root, "clips")
    extract_all(root)
    passed(root, "features")

    (late,) = pack_all(root)

    after = {shard.part: shard for shard in packed(root)}
    assert after[late].num_samples == before[late].num_samples + 1
    assert {part: after[part] for part in after if part != late} == {
        part: before[part] for part in before if part != late
    }
    assert key_of("zeta") in facts_of(root)


def test_a_part_without_a_sample_has_no_shard_and_is_done(tmp_path):
    root = indexed(tmp_path / "root", ["gone"])
    built(root, f"folder:{media(tmp_path / 'empty', {})}")

    pack_all(root)

    assert (packed(root), list((root / "shards").glob("*.tar"))) == ([], [])
    assert pack_all(root) == []
    assert part_numbers(root / "shards") == [0]


def test_a_lost_tar_is_written_anew(root):
    before = tars(root)
    tar_path(root, packed(root)[1]).unlink()

    assert pack_all(root) == [1]
    assert tars(root) == before


def test_no_temporary_file_is_left_where_a_sample_cannot_be_read(root):
    shutil.rmtree(root / "shards")
    for path in (root / "features" / "audio").glob("*.arrow"):
        path.write_bytes(b"no feature file")

    with pytest.raises(DataError, match=r"000000.arrow is damaged: .*; `mcgurk verify --mend`"):
        pack_all(root)

    assert not list((root / "shards").glob("*"))


def test_the_version_does_not_depend_on_the_order_of_shards(original):
    shards = packed(original)

    assert make_version(PROFILE, member_suffixes(PROFILE), shards) == make_version(
        PROFILE, member_suffixes(PROFILE), shards[::-1]
    )
    assert (
        make_version(PROFILE, member_suffixes(PROFILE), shards[:1]).digest
        != make_version(PROFILE, member_suffixes(PROFILE), shards).digest
    )
    assert (
        make_version(
            replace(PROFILE, jpeg_quality=90), member_suffixes(replace(PROFILE, jpeg_quality=90)), shards
        ).digest
        != make_version(PROFILE, member_suffixes(PROFILE), shards).digest
    )
    assert JSON_SUFFIX in make_version(PROFILE, member_suffixes(PROFILE), shards).fields


def test_a_feature_that_changed_since_it_was_extracted_is_not_packed(tmp_path):
    root = Root(
        tmp_path / "root", f"folder:{tmp_path / 'media'}", write_clips(tmp_path / "media", ["one", "two"])
    )
    root.build()
    path = feature_path(root.path, "audio", 0)
    content = bytearray(path.read_bytes())
    content[content.index(b"RIFF") + 2000] ^= 1
    path.write_bytes(content)
    part_path(root.path / "shards", 0).unlink()

    with pytest.raises(
        DataError, match=r"audio/000000.arrow is damaged: its members of (one|two)_0_2000 are not"
    ):
        root.run("pack")
