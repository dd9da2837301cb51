"""Whatever differs on disk is named: the shard, the sample, the member."""

import json
import shutil

import pytest
from roots import Root, write_clips

from schemas.manifest import PartHeader, part_path, read_header, read_part, write_part
from schemas.segment import segment_key
from schemas.shard import SHARDS, duplicates_path, exclude_path, index_path, read_version, tar_path
from tasks.extract import feature_path
from tasks.versions.verify import compare_tars, verify

IDS = ["-dash", "_under", "plain", "zeta"]
KEY = segment_key("plain", 0, 2000)


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    folder = tmp_path_factory.mktemp("media")
    root = Root(tmp_path_factory.mktemp("root"), f"folder:{folder}", write_clips(folder, IDS))
    root.build()
    return root.path


@pytest.fixture
def root(original, tmp_path):
    return shutil.copytree(original, tmp_path / "root")


def differences(root):
    return [(one.where, one.key, one.member, one.problem) for one in verify(root, map).differences]


def shard_of(root, key=KEY):
    """The shard that holds a key, and the key's row."""
    for shard in read_version(root).shards:
        for row in read_part(index_path(root, shard)):
            if row["key"] == key:
                return shard, row
    raise AssertionError(key)


def flip(path, offset):
    """One bit of a file, in place."""
    content = bytearray(path.read_bytes())
    content[offset] ^= 1
    path.write_bytes(content)


def member_of(row, suffix):
    return next(one for one in row["members"] if one["suffix"] == suffix)


def test_a_whole_root_is_proved(original):
    found = verify(original, map)

    assert found.differences == []
    assert {kind: found.checked[kind] for kind in ("versions", "shards", "samples", "members", "clips")} == {
        "versions": 1, "shards": 2, "samples": 4, "members": 4 * 5, "clips": 4,
    }  # fmt: skip
    assert found.checked["features"] == 4 * 4  # two frames, sound and log-mel
    assert found.checked["parts"] == 7 * 2


@pytest.mark.parametrize("suffix", ["001.jpg", "wav", "log_mel.npy", "json"])
def test_a_flipped_bit_is_found_in_its_member(root, suffix):
    shard, row = shard_of(root)
    flip(tar_path(root, shard), member_of(row, suffix)["offset"] + 60)

    found = differences(root)

    where = f"shards/{shard.name}.tar"
    assert [one[:3] for one in found] == [(where, "", ""), (where, KEY, suffix)]
    assert "has the sha256" in found[0][3]
    assert found[1][3] == "differs from what was packed"


def test_a_flipped_bit_between_members_is_found_in_its_shard(root):
    shard, row = shard_of(root)
    last = member_of(row, "wav")
    flip(tar_path(root, shard), last["offset"] + last["size_bytes"] + 1)  # padding

    assert [one[:3] for one in differences(root)] == [(f"shards/{shard.name}.tar", "", "")]


def test_a_broken_header_of_a_member_names_what_it_hides(root):
    shard, row = shard_of(root)
    flip(tar_path(root, shard), member_of(row, "json")["offset"] - 512)

    found = differences(root)

    assert (f"shards/{shard.name}.tar", KEY, "json") in [one[:3] for one in found]


def test_a_lost_tar_is_named_by_shard_and_part(root):
    shard, _ = shard_of(root)
    tar_path(root, shard).unlink()

    lost = f"shards/{shard.name}.tar"
    assert differences(root) == [
        (f"shards/{shard.part:06d}.parquet", "", "", f"its file {lost} is missing or has another size"),
        (lost, "", "", "is gone"),
    ]


def test_an_index_that_points_elsewhere_is_found(root):
    shard, _ = shard_of(root)
    rows = read_part(index_path(root, shard))
    wrong = next(row for row in rows if row["key"] == KEY)["members"][0]
    wrong["offset"] += 512
    write_part(index_path(root, shard), rows, SHARDS, PartHeader("pack", "", {}))

    found = [one[:3] for one in differences(root)]

    assert (f"shards/{shard.name}.tar", KEY, "000.jpg") in found


def test_a_version_that_lists_another_shard_is_found(root):
    path = root / "versions" / f"{read_version(root).digest}.json"
    stored = json.loads(path.read_text())
    stored["shards"] = stored["shards"][:1]
    path.write_text(json.dumps(stored))

    edited = [problem for where, _, _, problem in differences(root) if where == f"versions/{path.name}"]
    del stored["#sha256"]  # as an earlier mcgurk wrote it
    path.write_text(json.dumps(stored))
    problems = [problem for where, _, _, problem in differences(root) if where == f"versions/{path.name}"]

    assert edited == ["is damaged, or was edited: its content is not what its #sha256 says"]
    assert problems[0].startswith("its content has the digest ")
    assert problems[1] == "its list of tars (.txt) differs"


def test_an_exclusion_list_that_was_changed_or_lost_is_found(root):
    digest = read_version(root).digest
    listed = exclude_path(root, digest)
    where = f"versions/{digest}.json"
    listed.write_text(f"{KEY}\n")
    changed = differences(root)
    listed.unlink()

    pairs = duplicates_path(root, digest).name
    assert changed == [(where, "", "", f"{listed.name} beside it is not the list that {pairs} gives")]
    gone = f"{listed.name} beside it: missing; `mcgurk build` searches for duplicates again"
    assert differences(root) == [(where, "", "", gone)]


def test_a_clip_with_other_bytes_and_one_that_is_gone_are_found(root):
    clips = {row["key"]: row for part in (0, 1) for row in read_part(part_path(root / "clips", part))}
    flip(root / clips[KEY]["path"], 3000)
    other = segment_key("zeta", 0, 2000)
    (root / clips[other]["path"]).unlink()

    found = {(where, key): problem for where, key, _, problem in differences(root)}

    assert found[clips[KEY]["path"], KEY].endswith(f"not {clips[KEY]['sha256']}")
    assert found[clips[other]["path"], other] == "is gone"


def test_a_feature_that_is_not_what_was_extracted_is_found(root):
    shard, row = shard_of(root)
    path = feature_path(root, "audio", shard.part)
    sound = tar_path(root, shard).read_bytes()[member_of(row, "wav")["offset"] :][:4000]
    flip(path, path.read_bytes().index(sound) + 100)

    expected = (str(path.relative_to(root)), KEY, "wav", "is not what was extracted")
    assert differences(root) == [expected]


def test_rows_that_are_not_those_of_the_index_are_found(root):
    path = part_path(root / "shards", 0)
    header = read_header(path)
    write_part(path, read_part(path)[::-1], SHARDS, header)

    problems = {problem for where, _, _, problem in differences(root) if where == "shards/000000.parquet"}

    assert "its rows are not those of the index" in problems


def test_a_part_that_is_no_part_is_named(root):
    part_path(root / "features" / "checked", 1).write_bytes(b"nothing of the kind")

    assert differences(root) == [("features/checked/000001.parquet", "", "", "is not readable as a part")]


def test_a_root_without_a_version_is_refused(tmp_path):
    with pytest.raises(ValueError, match="no dataset version"):
        verify(tmp_path, map)


def test_tars_are_compared_member_by_member(root, tmp_path):
    shard, row = shard_of(root)
    rebuilt = shutil.copy(tar_path(root, shard), tmp_path / "rebuilt.tar")
    flip(rebuilt, member_of(row, "000.jpg")["offset"] + 100)

    assert [(one.key, one.member, one.problem) for one in compare_tars(root, shard, rebuilt)] == [
        (KEY, "000.jpg", "was rebuilt with different bytes")
    ]
