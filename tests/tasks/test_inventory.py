"""A part of the index that is lost is named, and comes back into the same slots."""

import json
import shutil

import pytest
from hypothesis import given
from hypothesis import strategies as st
from segment_lists import videos, write_list

from schemas.errors import DataError
from schemas.feature import Profile
from schemas.manifest import part_path, read_part
from schemas.rules import Rules
from tasks import validate
from tasks.index import IndexConfig, index
from tasks.inventory import lost_parts, read_inventory
from tasks.tombstones import write_tombstones

CONFIG = IndexConfig(part_size=8, eval_part_size=4, val_share=0.2)


@pytest.fixture(scope="module")
def grown(tmp_path_factory):
    """A root that two lists came to together, and one more later; all of it is validated."""
    root = tmp_path_factory.mktemp("grown") / "root"
    first = [
        write_list(root.parent, "a.csv", videos(50)),
        write_list(root.parent, "eval_segments.csv", videos(9, 1)),
    ]
    index(root, first, CONFIG)
    index(root, [*first, write_list(root.parent, "b.csv", videos(30, seed=2))], CONFIG)
    check(root)
    return root


def check(root):
    """Validates the segments, as the second stage does."""
    stage = validate.stage(root, "segments", Rules(), Profile())
    validate.run(stage, sorted(read_inventory(root)), Rules(), Profile())


def lists_of(root):
    return sorted(root.parent.glob("*.csv"))


def copied(root, folder):
    for path in lists_of(root):
        shutil.copy(path, folder / path.name)
    return shutil.copytree(root, folder / "root")


def content(root):
    return {path.name: path.read_bytes() for path in (root / "segments").glob("*.parquet")}


def test_the_inventory_says_how_many_segments_each_part_and_list_has(grown):
    known = read_inventory(grown)
    recorded = json.loads((grown / "segments" / "lists.json").read_text())

    assert {part: one.segments for part, one in known.items()} == {
        part: len(read_part(part_path(grown / "segments", part))) for part in range(len(content(grown)))
    }
    assert {one["file"]: one["segments"] for name, one in recorded.items() if name != "#sha256"} == {
        "a.csv": 50, "eval_segments.csv": 9, "b.csv": 30,
    }  # fmt: skip
    assert {len(one.lists) for one in known.values()} == {1, 2}


@given(lost=st.sets(st.integers(0, 14), min_size=1), has_twin=st.booleans(), is_damaged=st.booleans())
def test_lost_parts_come_back_byte_by_byte(grown, tmp_path_factory, lost, has_twin, is_damaged):
    root = copied(grown, tmp_path_factory.mktemp("lost"))
    before = content(root)
    parts = sorted(part for part in lost if part in read_inventory(root))
    for part in parts:
        path = part_path(root / "segments", part)
        path.write_bytes(b"PAR1" + bytes(50) + b"PAR1") if is_damaged else path.unlink()
        if not has_twin:
            part_path(root / "segments" / "checked", part).unlink()

    assert lost_parts(root) == parts
    counts = index(root, [] if has_twin else lists_of(root), CONFIG)

    assert content(root) == before
    assert (counts["lists"], counts["segments"]) == (0, 0)
    assert lost_parts(root) == []


def test_without_twin_and_list_the_loss_names_the_list(grown, tmp_path):
    root = copied(grown, tmp_path)
    lost = next(part for part, one in read_inventory(root).items() if len(one.lists) == 1)
    part_path(root / "segments", lost).unlink()
    part_path(root / "segments" / "checked", lost).unlink()

    with pytest.raises(DataError, match=rf"{lost:06d}.parquet: lost, .*: name b.csv again with --segments"):
        index(root, [tmp_path / "a.csv"], CONFIG)


def test_another_choice_than_that_of_the_lost_part_is_refused(grown, tmp_path):
    root = copied(grown, tmp_path)
    part_path(root / "segments", 0).unlink()
    part_path(root / "segments" / "checked", 0).unlink()

    with pytest.raises(DataError, match="build with the options of its first build"):
        index(root, lists_of(root), IndexConfig(part_size=3, eval_part_size=4, val_share=0.2))

    assert lost_parts(root) == [0]


@pytest.mark.parametrize("has_twin", [True, False])
def test_a_video_that_was_taken_down_stays_forgotten_in_a_part_that_comes_back(grown, tmp_path, has_twin):
    root = copied(grown, tmp_path)
    video = read_part(part_path(root / "segments", 0))[3]["video_id"]
    write_tombstones(root, [video], {}, is_done=True)
    part_path(root / "segments", 0).unlink()
    if not has_twin:
        part_path(root / "segments" / "checked", 0).unlink()

    index(root, lists_of(root), CONFIG)

    row = read_part(part_path(root / "segments", 0))[3]
    assert (row["video_id"], row["outcome"], row["labels"]) == (video, "forgotten", [])


def test_a_root_from_before_the_inventory_gets_one_and_misses_what_other_manifests_have(grown, tmp_path):
    root = copied(grown, tmp_path)
    before = content(root)
    (root / "segments" / "parts.json").unlink()
    part_path(root / "segments", 2).unlink()

    assert lost_parts(root) == [2]
    index(root, [], CONFIG)

    assert content(root) == before
    assert sorted(read_inventory(root)) == sorted(read_inventory(grown))


def test_a_damaged_inventory_is_told_with_its_remedy(grown, tmp_path):
    root = copied(grown, tmp_path)
    path = root / "segments" / "parts.json"
    path.write_text(path.read_text().replace('"segments": 8', '"segments": 9', 1))

    with pytest.raises(DataError, match=r"parts.json is damaged, or was edited: .*; remove it, and a build"):
        lost_parts(root)
