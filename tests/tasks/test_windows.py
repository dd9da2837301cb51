"""A folder of videos is cut in windows without a list; ids and windows stay whatever is added."""

import csv

import pytest
import timecode
from hypothesis import given
from hypothesis import strategies as st
from timecode import Recipe

from schemas import layout
from schemas.outcome import ItemError
from schemas.segment import VIDEO_ID
from tasks.files import folders
from tasks.lists.formats import read_list
from tasks.sources import open_source
from tasks.windows import Windows, _duration_s, cut_in_windows, segments_of

WINDOWS = Windows(2.0)


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    """Clips of 5.5 s and of half a second."""
    made = tmp_path_factory.mktemp("clips")
    for name, seconds in (("long", 5.5), ("short", 0.5)):
        timecode.write(made / f"{name}.mp4", Recipe(seconds=seconds, frame_rate=10))
    return made


def put(clips, folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes((clips / "long.mp4").read_bytes())


def record(tmp_path):
    """Cuts what is in `tmp_path/videos`; returns the keys of all windows."""
    cut_in_windows(f"folder:{tmp_path}/videos", tmp_path, WINDOWS).write(tmp_path / layout.WINDOWS)
    found = read_list(segments_of(tmp_path))
    assert found.unread == []
    return found.table["key"].to_pylist()


def test_a_video_is_cut_in_consecutive_windows(tmp_path, clips):
    put(clips, tmp_path / "videos", "a.mp4")

    assert record(tmp_path) == ["a_0_2000", "a_2000_4000", "a_4000_5500"]


def test_what_is_no_video_or_too_short_is_left_out(tmp_path, clips, caplog):
    put(clips, tmp_path / "videos", "a.mp4", "a.wav", "a.txt")
    (tmp_path / "videos" / "broken.mp4").write_bytes(b"no video")
    (tmp_path / "videos" / "s.mp4").write_bytes((clips / "short.mp4").read_bytes())

    assert {key.split("_")[0] for key in record(tmp_path)} == {"a"}
    assert "left out broken.mp4: " in caplog.text and "left out s.mp4: 0.5" in caplog.text


def test_a_file_that_cannot_be_read_is_left_out(tmp_path, caplog):
    assert _duration_s("a.mp4", tmp_path / "a.mp4", 0) is None  # it has gone since the folder was listed

    assert "left out a.mp4: [Errno 2]" in caplog.text


def test_a_name_that_no_list_can_hold_is_told(tmp_path, clips, caplog):
    put(clips, tmp_path / "videos", "a.mp4", "b\udcff.mp4", "c\n.mp4")

    assert {key.split("_")[0] for key in record(tmp_path)} == {"a"}
    assert r"left out 'b\udcff.mp4'" in caplog.text and r"left out 'c\n.mp4'" in caplog.text


def test_what_is_added_later_moves_nothing(tmp_path, clips):
    put(clips, tmp_path / "videos", "b.mp4", "b c.mp4")
    before = record(tmp_path)
    again = record(tmp_path)
    put(clips, tmp_path / "videos", "a.mp4", "b.avi", "b-c.mp4")

    after = record(tmp_path)

    assert before == again == after[: len(before)]
    assert len(after) == len(set(after)) == 5 * 3


def test_every_id_leads_to_its_file(tmp_path, clips):
    names = ["a.mp4", "a.avi", "a b.mp4", "ä.mp4", "-x.mp4", "a.b.mp4", f"{'long' * 20}.mp4", "CAPS.MP4"]
    put(clips, tmp_path / "videos", *names)
    record(tmp_path)

    with (tmp_path / layout.WINDOWS / folders.LIST).open(newline="") as lines:
        files = {row["video_id"]: row["file"] for row in csv.DictReader(lines)}
    with open_source(f"folder:{tmp_path}/videos", tmp_path) as fetch:
        assert {fetch(video_id, tmp_path).name: video_id for video_id in files} == {
            name: video_id for video_id, name in files.items()
        }
    assert sorted(files.values()) == sorted(names)
    assert {files["a"], files["-x"], files["CAPS"]} == {"a.avi", "-x.mp4", "CAPS.MP4"}
    assert all(VIDEO_ID.fullmatch(video_id) for video_id in files)


def test_an_id_never_stands_for_a_second_file(tmp_path, clips):
    put(clips, tmp_path / "videos", "a.mp4")
    record(tmp_path)
    (tmp_path / "videos" / "a.mp4").rename(tmp_path / "videos" / "a.mov")

    keys = record(tmp_path)

    assert {key.rsplit("_", 2)[0] for key in keys} > {"a"}
    with open_source(f"folder:{tmp_path}/videos", tmp_path) as fetch:
        (other,) = {key.rsplit("_", 2)[0] for key in keys} - {"a"}
        assert fetch(other, tmp_path).name == "a.mov"
        with pytest.raises(ItemError, match="no file for a"):
            fetch("a", tmp_path)


@given(name=st.text(min_size=1, max_size=80).filter(lambda name: "\0" not in name and "/" not in name))
def test_any_name_gets_a_safe_id(name):
    assert VIDEO_ID.fullmatch(folders._id_of(f"{name}.mp4", ()))


@given(st.floats(1.0, 60.0), st.floats(0.0, 500.0))
def test_windows_follow_each_other_and_lose_less_than_the_shortest(length_s, duration_s):
    times = Windows(length_s).spans(duration_s)

    assert [start for start, _ in times[1:]] == [end for _, end in times[:-1]]
    assert duration_s - (times[-1][1] if times else 0.0) < 1.0 + 0.001


def test_other_windows_need_another_root(tmp_path, clips):
    put(clips, tmp_path / "videos", "a.mp4")
    record(tmp_path)

    with pytest.raises(ValueError, match="cut in windows of 2 s: another length needs another root"):
        cut_in_windows(f"folder:{tmp_path}/videos", tmp_path, Windows(3.0))


def test_a_folder_without_a_video_is_told(tmp_path):
    (tmp_path / "a.txt").touch()

    with pytest.raises(ValueError, match="there is no video"):
        cut_in_windows(f"folder:{tmp_path}", tmp_path, WINDOWS)
