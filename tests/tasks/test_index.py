"""Slots are given once; a malformed line is told, counted and never in the way."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from segment_lists import videos, write_list

from schemas.manifest import read_manifest
from tasks.index import IndexConfig, index

CONFIG = IndexConfig(part_size=8, eval_part_size=4, val_share=0.2)


def slots(root: Path) -> dict[str, tuple[int, int]]:
    return {row["key"]: (part, row["row"]) for part, row in read_manifest(root / "segments")}


def test_malformed_lines_are_counted_and_stop_a_strict_build(tmp_path):
    path = write_list(tmp_path, "list.csv", videos(3))
    path.write_text(path.read_text() + "nonsense\n")

    with pytest.raises(ValueError, match=r"list.csv:7: not of the form"):
        index(tmp_path / "strict", [path], CONFIG, strict=True)
    counts = index(tmp_path / "root", [path], CONFIG)

    assert counts == {"lists": 1, "segments": 3, "parts": counts["parts"], "malformed": 1}
    assert not (tmp_path / "strict" / "segments").exists()


def test_slots_are_append_only(tmp_path):
    first = write_list(tmp_path, "a.csv", videos(20))
    later = write_list(tmp_path, "b.csv", videos(30, seed=1))
    index(tmp_path, [first], CONFIG)
    before = slots(tmp_path)

    counts = index(tmp_path, [first, later], CONFIG)

    after = slots(tmp_path)
    assert counts["segments"] == 30
    assert {key: after[key] for key in before} == before
    assert min(part for key, (part, _) in after.items() if key not in before) > max(
        p for p, _ in before.values()
    )


@pytest.mark.parametrize("lost", [(0,), (2, 5), (4, 9, 10), (8,), (10, 11)])
def test_after_a_kill_every_segment_gets_the_slot_that_it_would_have_had(tmp_path, lost):
    lists = [
        write_list(tmp_path, "a.csv", videos(50)),
        write_list(tmp_path, "eval_segments.csv", videos(9, 1)),
    ]
    index(tmp_path, lists, CONFIG)
    paths = sorted((tmp_path / "segments").glob("*.parquet"))
    before = [path.read_bytes() for path in paths]
    records = [tmp_path / "segments" / name for name in ("lists.json", "parts.json")]
    for path in [*records, *(paths[part] for part in lost)]:
        path.unlink()  # what was not written yet

    counts = index(tmp_path, lists, CONFIG)

    assert counts["parts"] == len(lost)
    assert [path.read_bytes() for path in sorted((tmp_path / "segments").glob("*.parquet"))] == before


def test_the_order_of_lines_does_not_matter(tmp_path):
    rows = videos(40)
    index(tmp_path / "a", [write_list(tmp_path, "a.csv", rows)], CONFIG)
    index(tmp_path / "b", [write_list(tmp_path, "b.csv", rows[::-1])], CONFIG)

    assert slots(tmp_path / "a") == slots(tmp_path / "b")


def test_all_segments_of_a_video_are_in_one_split(tmp_path):
    rows = videos(60)
    train = write_list(tmp_path, "train.csv", rows)
    more = [(video, 50.0, 60.0, labels) for video, _, _, labels in rows]
    index(tmp_path, [train], CONFIG)
    index(tmp_path, [write_list(tmp_path, "eval_segments.csv", more)], CONFIG)

    splits: dict[str, set[str]] = {}
    for _, row in read_manifest(tmp_path / "segments"):
        splits.setdefault(row["video_id"], set()).add(row["split"])
    assert all(len(of_video) == 1 for of_video in splits.values())
    assert {split for of_video in splits.values() for split in of_video} == {"train", "val"}


def test_the_eval_list_stays_whole(tmp_path):
    rows = videos(30)
    lists = [write_list(tmp_path, "train.csv", rows), write_list(tmp_path, "eval_segments.csv", rows[:10])]

    index(tmp_path, lists, CONFIG)

    eval_videos = {
        row["video_id"] for _, row in read_manifest(tmp_path / "segments") if row["split"] == "eval"
    }
    assert eval_videos == {video for video, *_ in rows[:10]}


def test_audiosets_three_lists_are_read_in_one_go(tmp_path, shared):
    published = [shared / "audioset" / name for name in ("balanced_train_segments.csv", "eval_segments.csv")]
    evaluated = published[1].read_text().splitlines()[3].split(",")[0]
    unbalanced = write_list(
        tmp_path, "unbalanced_train_segments.csv", [*videos(5000), (evaluated, 300.0, 310.0, "/m/09x0r")]
    )

    counts = index(tmp_path / "root", [unbalanced, *published], IndexConfig())

    splits = Counter((row["csv"], row["split"]) for _, row in read_manifest(tmp_path / "root" / "segments"))
    assert (counts["segments"], counts["malformed"]) == (5001 + 22_160 + 20_371, 0)
    assert splits["eval_segments.csv", "eval"] == 20_371
    assert splits["balanced_train_segments.csv", "eval"] == 0
    assert splits["unbalanced_train_segments.csv", "eval"] == 1  # another segment of a video of evaluation


def test_the_test_split_of_vggsound_is_evaluation_and_wins(tmp_path):
    (tmp_path / "vggsound.csv").write_text("a,0,dog barking,test\nb,0,dog barking,train\n")
    audioset = write_list(tmp_path, "train.csv", [("a", 50.0, 60.0, "/m/0bt9lr")])

    index(tmp_path, [audioset, tmp_path / "vggsound.csv"], IndexConfig(val_share=0.0))

    splits = {row["key"]: row["split"] for _, row in read_manifest(tmp_path / "segments")}
    assert splits == {"a_0_10000": "eval", "a_50000_60000": "eval", "b_0_10000": "train"}


def test_a_segment_named_again_gets_one_slot_and_another_of_its_video_its_own(tmp_path):
    rows = videos(10)
    later = [(rows[0][0], 50.0, 60.0, rows[0][3])]
    lists = [write_list(tmp_path, name, rows + later + rows[::-1]) for name in ("a.csv", "b.csv")]

    counts = index(tmp_path, lists, CONFIG)

    found = [(row["video_id"], row["csv"]) for _, row in read_manifest(tmp_path / "segments")]
    assert counts["segments"] == len(found) == 11
    assert Counter(video for video, _ in found) == {video: 1 for video, *_ in rows} | {rows[0][0]: 2}
    assert {csv for _, csv in found} == {"a.csv"}  # the list that named it first


def test_a_part_holds_one_split_and_its_size(tmp_path):
    index(tmp_path, [write_list(tmp_path, "a.csv", videos(50))], CONFIG)

    parts: dict[int, list] = {}
    for part, row in read_manifest(tmp_path / "segments"):
        parts.setdefault(part, []).append(row)
    assert all(len({row["split"] for row in rows}) == 1 for rows in parts.values())
    assert all([row["row"] for row in rows] == list(range(len(rows))) for rows in parts.values())
    assert max(len(rows) for rows in parts.values()) == 8


def test_a_share_of_the_videos_is_evaluation_where_no_list_says_which(tmp_path):
    config = replace(CONFIG, val_share=0.1, eval_share=0.1)
    path = write_list(tmp_path, "windows.csv", videos(400))
    index(tmp_path, [path], config)
    before = {row["key"]: row["split"] for _, row in read_manifest(tmp_path / "segments")}

    index(tmp_path, [write_list(tmp_path, "more.csv", videos(440))], config)

    after = {row["key"]: row["split"] for _, row in read_manifest(tmp_path / "segments")}
    shares = {split: count / len(before) for split, count in Counter(before.values()).items()}
    assert shares == pytest.approx({"train": 0.8, "val": 0.1, "eval": 0.1}, abs=0.05)
    assert {key: after[key] for key in before} == before
    of_video: dict[str, set[str]] = {}
    for key, split in after.items():
        of_video.setdefault(key.rsplit("_", 2)[0], set()).add(split)
    assert all(len(splits) == 1 for splits in of_video.values())
