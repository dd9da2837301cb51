"""A list of one's own files gives back its segments: times as they stand, without them the whole file in windows."""

import csv

import pytest
import timecode
from hypothesis import given
from hypothesis import strategies as st
from roots import put
from timecode import Recipe

from schemas import layout
from schemas.segment import VIDEO_ID
from tasks.files import folders
from tasks.index import IndexConfig, deal
from tasks.lists.formats import read_list
from tasks.own_lists import cut_own, is_own, segments_of
from tasks.sources import open_source
from tasks.windows import Windows

WINDOWS = Windows(2.0)


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    """A clip of 5.5 s."""
    path = tmp_path_factory.mktemp("clips") / "clip.mp4"
    timecode.write(path, Recipe(seconds=5.5, frame_rate=10))
    return path.read_bytes()


def cut(tmp_path, *texts, windows=WINDOWS, **asked):
    """(video id's file, start, end, labels, split) of each segment of lists in `tmp_path` over `tmp_path/videos`."""
    paths = []
    for number, text in enumerate(texts):
        paths.append(tmp_path / f"list{number}.csv")
        paths[-1].write_text(text)
    record = cut_own(paths, f"folder:{tmp_path}/videos", tmp_path / "state", windows, **asked)
    record.write(tmp_path / "state" / layout.WINDOWS)
    found = read_list(segments_of(tmp_path / "state"))
    assert found.unread == []
    return [
        (record.files[row["video_id"]], row["start_ms"], row["end_ms"], tuple(row["labels"]), row["split"])
        for row in found.table.to_pylist()
    ]


NAMES = st.text(
    st.characters(exclude_characters="/\0\r\n", exclude_categories=("Cs", "Cc", "Cf", "Zl", "Zp", "Co", "Cn")),
    min_size=1, max_size=30,
).map(str.strip).filter(lambda name: name not in ("", ".", "..") and name.isprintable())  # fmt: skip
ROWS = st.lists(
    st.tuples(
        st.lists(NAMES, min_size=1, max_size=2).map(lambda names: "/".join(names) + ".mp4"),
        st.integers(0, 10**6),
        st.integers(1, 60_000),
        st.lists(st.sampled_from(["Dog", "bee, wasp", "/m/09x0r", "a&b"]), max_size=3, unique=True),
        st.sampled_from(["train", "val", "eval"]),
    ),
    min_size=1, max_size=8, unique_by=lambda row: (row[0], row[1], row[2]),
)  # fmt: skip


@given(rows=ROWS)
def test_rows_with_times_are_segments_as_they_stand(rows, tmp_path_factory):
    tmp_path = tmp_path_factory.mktemp("own")
    rows = [row for row in rows if all(len(name.encode()) < 200 for name in row[0].split("/"))]
    for name, *_ in rows:
        (tmp_path / "videos" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "videos" / name).touch()
    with (tmp_path / "list.csv").open("w", newline="") as file:
        out = csv.writer(file)
        out.writerow(["file", "start", "end", "label", "split"])
        for name, start, length, labels, split in rows:
            out.writerow([name, start / 1000, (start + length) / 1000, "|".join(labels), split])
    if not rows:
        return

    text = (tmp_path / "list.csv").read_text()
    found = cut(tmp_path, text)

    assert found == [
        (name, start, start + length, tuple(labels), split) for name, start, length, labels, split in rows
    ]
    with open_source(f"folder:{tmp_path}/videos", tmp_path / "state") as fetch:
        for video_id, name in folders.recorded(tmp_path / "state").items():
            assert VIDEO_ID.fullmatch(video_id)
            assert fetch(video_id, tmp_path) == tmp_path / "videos" / name


def test_a_file_without_times_is_cut_in_windows(tmp_path, clip):
    put(tmp_path / "videos", clip, "a.mp4", "b/a.mp4")

    found = cut(tmp_path, "file,label\na.mp4,Dog\nb/a.mp4,Cat|Dog\n")

    spans = [(0, 2000), (2000, 4000), (4000, 5500)]
    assert found == [("a.mp4", *span, ("Dog",), "") for span in spans] + [
        ("b/a.mp4", *span, ("Cat", "Dog"), "") for span in spans
    ]


def test_paths_are_relative_to_the_folder_or_the_list_or_absolute(tmp_path, clip):
    put(tmp_path / "videos", clip, "a.mp4")
    put(tmp_path, clip, "beside/b.mp4", "c.mp4")

    names = ["a.mp4", "beside/b.mp4", f"{tmp_path}/c.mp4", f"{tmp_path}/videos/a.mp4"]
    found = cut(tmp_path, "file,start,end\n" + "".join(f"{name},{n},9\n" for n, name in enumerate(names)))

    assert [name for name, *_ in found] == ["a.mp4", f"{tmp_path}/beside/b.mp4", f"{tmp_path}/c.mp4", "a.mp4"]
    with open_source(f"folder:{tmp_path}/videos", tmp_path / "state") as fetch:
        assert {fetch(video_id, tmp_path).name for video_id in ("a", "b", "c")} == {"a.mp4", "b.mp4", "c.mp4"}


def test_a_file_is_one_video_however_lists_name_it(tmp_path, clip):
    put(tmp_path / "videos", clip, "a.mp4", "b/c.mp4")
    put(tmp_path / "elsewhere/inner", clip, "d.mp4")
    put(tmp_path / "elsewhere", clip, "a.mp4")
    (tmp_path / "videos/link").symlink_to(tmp_path / "elsewhere/inner")

    names = ["./a.mp4", "a.mp4", "b/../a.mp4", f"{tmp_path}/videos/./a.mp4", "link/../a.mp4"]
    found = cut(tmp_path, "file,start,end\n" + "".join(f"{name},{n},9\n" for n, name in enumerate(names)))

    assert [name for name, *_ in found] == ["a.mp4"] * 4 + ["link/../a.mp4"]  # that one is another file
    record = tmp_path / "state" / "windows" / "videos.csv"
    record.write_text(record.read_text().replace("a,a.mp4", "a,./a.mp4"))  # of before
    assert cut(tmp_path, "file,start,end\na.mp4,0,9\n")[0][0] == "a.mp4"
    assert folders.recorded(tmp_path / "state")["a"] == "a.mp4"


def test_files_that_are_not_there_are_counted_and_looked_for_again(tmp_path, clip, caplog):
    put(tmp_path / "videos", clip, "a.mp4")
    text = "file,start,end\na.mp4,0,1\nb.mp4,0,1\n"

    assert len(cut(tmp_path, text)) == 1
    assert (
        "list0.csv: 1 of 2 rows were not read; the first: list0.csv:3: no such file: 'b.mp4'" in caplog.text
    )
    with pytest.raises(ValueError, match="1 malformed line"):
        cut(tmp_path, text, strict=True)
    put(tmp_path / "videos", clip, "b.mp4")
    assert len(cut(tmp_path, text)) == 2


def test_a_list_of_which_nothing_is_there_is_refused(tmp_path):
    (tmp_path / "videos").mkdir()

    with pytest.raises(
        ValueError, match=r"list0.csv is not a list of segments: no row .* no such file: 'a.mp4'"
    ):
        cut(tmp_path, "file\na.mp4\nb.mp4\n")


def test_ids_and_windows_stay_whatever_a_list_says_later(tmp_path, clip):
    put(tmp_path / "videos", clip, "a.mp4", "b/a.mp4", "c.mp4")
    cut(tmp_path, "file\nb/a.mp4\n")
    before = folders.recorded(tmp_path / "state")

    found = cut(tmp_path, "file,label\na.mp4,Dog\nb/a.mp4,Dog\nc.mp4,\n")

    assert before.items() <= folders.recorded(tmp_path / "state").items()
    assert len(found) == 9 and before == {"a": "b/a.mp4"}


def test_lists_may_give_ids_but_not_one_for_two_files(tmp_path, clip):
    put(tmp_path / "videos", clip, "a.mp4", "b.mp4")

    found = cut(tmp_path, "video_id,file,start,end\nmine,a.mp4,0,1\n", "file,start,end\nb.mp4,0,1\n")

    assert [name for name, *_ in found] == ["a.mp4", "b.mp4"]
    assert folders.recorded(tmp_path / "state")["mine"] == "a.mp4"
    with pytest.raises(ValueError, match=r"video id mine stands for a.mp4 and for b.mp4"):
        cut(tmp_path, "video_id,file,start,end\nmine,b.mp4,0,1\n")


def test_windows_of_another_length_need_another_root(tmp_path, clip):
    put(tmp_path / "videos", clip, "a.mp4")
    cut(tmp_path, "file\na.mp4\n")

    with pytest.raises(ValueError, match="cut in windows of 2 s: another length needs another root"):
        cut(tmp_path, "file\na.mp4\n", windows=Windows(3.0))


@pytest.mark.parametrize(
    ("splits", "drawn"),
    [(("",), {"val", "eval"}), (("train", "test"), {"val"}), (("train", "val", "test"), set())],
)
def test_of_what_no_list_sets_apart_a_share_is_drawn(tmp_path, splits, drawn):
    lines = "".join(f"v{n},0,1,Dog,{splits[n % len(splits)]}\n" for n in range(300))
    (tmp_path / "list.csv").write_text(f"video_id,start,end,label,split\n{lines}")
    read = read_list(tmp_path / "list.csv")
    config = IndexConfig(val_share=0.1, eval_share=0.1)

    tables = [part.table for part in deal(tmp_path, [read], config)]
    rows = [row for table in tables for row in table.to_pylist()]

    said = {row["video_id"]: row["split"] for row in read.table.to_pylist()}
    moved = {row["split"] for row in rows if (said[row["video_id"]] or "train") != row["split"]}
    assert moved == drawn


def test_only_a_list_of_files_is_one(tmp_path):
    (tmp_path / "own.csv").write_text("label;path\nDog;a.mp4\n")
    (tmp_path / "other.csv").write_text("ytid,start,label\na,1,Dog\n")
    (tmp_path / "none").write_bytes(b"\0" * 100)

    (tmp_path / "both.csv").write_text("ytid,start,file\na,1,a.mp4\n")

    assert [is_own(tmp_path / name) for name in ("own.csv", "other.csv", "none")] == [True, False, False]
    assert [is_own(tmp_path / "both.csv", source) for source in (None, "folder:x", "youtube")] == [
        True,
        True,
        False,
    ]
    assert is_own(tmp_path / "own.csv", "youtube")  # and is told that this can't be
    assert read_list(tmp_path / "both.csv").table["key"].to_pylist() == ["a_1000_11000"]
    assert read_list(tmp_path / "own.csv").num_unread == 1
