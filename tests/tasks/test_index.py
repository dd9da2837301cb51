"""Slots are given once; a malformed line is told, counted and never in the way."""

import random
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.manifest import read_manifest
from tasks import index as module
from tasks.index import IndexConfig, index, read_list

HEADER = (
    "# Segments csv\n# num_ytids={n}, num_segs={n}, num_unique_labels=1, num_positive_labels=1\n# YTID, ...\n"
)
CONFIG = IndexConfig(part_size=8, eval_part_size=4, val_share=0.2)


def write_list(folder: Path, name: str, rows, header: bool = True) -> Path:
    lines = "".join(f'{video}, {start:.3f}, {end:.3f}, "{labels}"\n' for video, start, end, labels in rows)
    path = folder / name
    path.write_text((HEADER.format(n=len(rows)) if header else "") + lines)
    return path


def videos(count: int, seed: int = 0):
    rng = random.Random(seed)
    alphabet = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_"
    return [("".join(rng.choices(alphabet, k=11)), 30.0, 40.0, "/m/09x0r,/m/04rlf") for _ in range(count)]


def slots(root: Path) -> dict[str, tuple[int, int]]:
    return {row["key"]: (part, row["row"]) for part, row in read_manifest(root / "segments")}


def test_the_published_format_is_read(tmp_path, shared):
    found = read_list(shared / "audioset" / "eval_segments.csv")

    assert (found.table.num_rows, found.malformed) == (20_371, [])
    assert found.table["key"][0].as_py() == "--4gqARaEJE_0_10000"
    assert found.table["labels"][0].as_py() == ["/m/068hy", "/m/07q6cd_", "/m/0bt9lr", "/m/0jbk"]


def test_a_malformed_line_gives_file_line_and_reason(tmp_path):
    path = write_list(tmp_path, "list.csv", videos(3))
    path.write_text(path.read_text() + 'a/b,1.000,2.000,"/m/1"\nabc,5.000,4.000,"/m/1"\nabc,1,2,"x y"\nabc\n')

    found = read_list(path)

    assert found.table.num_rows == 3
    assert [line.split(": ", 1)[0] for line in found.malformed] == [f"list.csv:{n}" for n in (7, 8, 9, 10)]
    reasons = [line.split(": ", 1)[1] for line in found.malformed]
    assert reasons[0] == "unsafe video id 'a/b'"
    assert reasons[1] == "it ends at 4.000 s, not after its start at 5.000 s"
    assert reasons[2] == "malformed labels 'x y'"
    assert reasons[3].startswith("not of the form")


def test_a_byte_order_mark_is_no_part_of_a_list(tmp_path):
    path = write_list(tmp_path, "list.csv", videos(3), header=False)
    path.write_text("\ufeff" + path.read_text(), encoding="utf-8")

    found = read_list(path)

    assert (found.table.num_rows, found.malformed) == (3, [])


def test_malformed_lines_are_counted_and_stop_a_strict_build(tmp_path):
    path = write_list(tmp_path, "list.csv", videos(3))
    path.write_text(path.read_text() + "nonsense\n")

    with pytest.raises(ValueError, match=r"list.csv:7: not of the form"):
        index(tmp_path / "strict", [path], CONFIG, strict=True)
    counts = index(tmp_path / "root", [path], CONFIG)

    assert counts == {"lists": 1, "segments": 3, "parts": counts["parts"], "malformed": 1}
    assert not (tmp_path / "strict" / "segments").exists()


ODD = st.sampled_from(
    ['a,1,2,"/m/1"', "a, 1.5 ,2", '"', "", "#x", 'b, 1.0, 0.5, "/m/1"', "\x00", 'c,nan,2,"/m/1"']
)
GOOD = st.builds(
    lambda v, s, d, spaced: f'{v},{" " * spaced}{s},{" " * spaced}{s + d},{" " * spaced}"/m/0{d},/t/dd{s}"',
    st.text("abcXYZ019-_", min_size=1, max_size=12),
    st.integers(0, 9999),
    st.integers(1, 99),
    st.booleans(),
)


@given(lines=st.lists(st.one_of(GOOD, ODD), max_size=12))
def test_reading_whole_and_line_by_line_agree(lines):
    text = "\n".join(lines).replace(", ", ",")

    whole = module._parse_whole(text)
    table, malformed = module._parse_lines(text, "list.csv")

    if whole is not None:
        assert not malformed
        assert whole.to_pylist() == table.to_pylist()
    assert table.num_rows + len(malformed) == sum(
        bool(line.strip()) and not line.startswith("#") for line in text.splitlines()
    )


def test_slots_are_append_only(tmp_path):
    first, later = (
        write_list(tmp_path, "a.csv", videos(20)),
        write_list(tmp_path, "b.csv", videos(30, seed=1)),
    )
    index(tmp_path, [first], CONFIG)
    before = slots(tmp_path)

    counts = index(tmp_path, [first, later], CONFIG)

    after = slots(tmp_path)
    assert counts["segments"] == 30
    assert {key: after[key] for key in before} == before
    assert min(part for key, (part, _) in after.items() if key not in before) > max(
        p for p, _ in before.values()
    )


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


def test_a_header_that_promises_another_count_is_told(tmp_path, caplog):
    path = write_list(tmp_path, "list.csv", videos(3))
    path.write_text(path.read_text().replace("num_segs=3", "num_segs=5"))

    read_list(path)

    assert "its header promises 5 segments, it has 3" in caplog.text
