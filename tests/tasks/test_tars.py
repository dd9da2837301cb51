"""Media in tars: whole videos and cut segments, known by the members' names; one seek a member."""

import io
import tarfile

import av
import pytest
import timecode
from small_roots import clip_rows, fetch, passed
from timecode import Recipe

from schemas.layout import TARS
from schemas.outcome import ItemError
from tasks.index import IndexConfig, index
from tasks.sources import open_source
from tasks.transport.policy import Access, DownloadLimits

YOUTUBE = "-bcdefghij_"


@pytest.fixture(scope="module")
def media(tmp_path_factory):
    """Bytes of time-code clips by their length in seconds."""
    folder = tmp_path_factory.mktemp("media")
    recipes = {
        seconds: Recipe(seconds=seconds, frame_rate=10, key_every=5) for seconds in (0.6, 1, 2, 2.4, 2.8, 8)
    }
    return {n: timecode.write(folder / f"{n}.mp4", recipe).read_bytes() for n, recipe in recipes.items()}


def write_tar(path, members):
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for name, content in members:
            header = tarfile.TarInfo(name)
            header.size = len(content)
            tar.addfile(header, io.BytesIO(content))
    return path


def fetched(tmp_path, video_id, spec=None, access=None):
    """The names of the files that the tars in `tmp_path/tars` give of a video, and their content."""
    folder = tmp_path / "scratch" / str(len(list((tmp_path / "scratch").glob("*"))))
    folder.mkdir(parents=True)
    with open_source(spec or f"tars:{tmp_path}/tars", tmp_path / "state", access) as fetch_video:
        return {path.name: path.read_bytes() for path in fetch_video(video_id, folder).iterdir()}


@pytest.mark.parametrize(
    ("name", "file"),
    [
        (f"{YOUTUBE}.mp4", f"{YOUTUBE}.mp4"),
        (f"audio/train/Y{YOUTUBE}.WAV", f"{YOUTUBE}.wav"),
        (f"./{YOUTUBE}_30000_40000.flac", f"{YOUTUBE}_30000_40000.flac"),
        (f"{YOUTUBE}_30_40.webm", f"{YOUTUBE}_30000_40000.webm"),
        (f"Y{YOUTUBE}_30.000_40.000.wav", f"{YOUTUBE}_30000_40000.wav"),
        (f"{YOUTUBE}_0.5_2.25.mp3", f"{YOUTUBE}_500_2250.mp3"),
        (f"{YOUTUBE}_000030.mp4", f"{YOUTUBE}_30000_40000.mp4"),
        (f"scratch/x/{YOUTUBE}_30.mp4", f"{YOUTUBE}_30000_40000.mp4"),
    ],
)
def test_a_members_name_says_what_it_holds(tmp_path, name, file):
    write_tar(tmp_path / "tars" / "0.tar", [("other.mp4", b"other"), (name, b"bytes"), ("zzz.mp4", b"last")])

    assert fetched(tmp_path, YOUTUBE) == {file: b"bytes"}


def test_names_of_other_videos_and_things_are_not_taken(tmp_path):
    names = [
        "a.json",
        "a.txt",
        "._a.mp4",
        "a_x_0_10.mp4",
        "ab.mp4",
        "Ya.mp4",
        "a.000.jpg",
        "/a",
        "a_0_.wav",
    ]
    write_tar(tmp_path / "tars" / "0.tar", [(name, b"x") for name in [*names, "b.mp4"]])

    with pytest.raises(ItemError, match="nothing of a in tars:"):
        fetched(tmp_path, "a")


def test_no_members_name_becomes_a_path(tmp_path):
    names = [
        "../../up.mp4",
        "/abs/up.mp4",
        "..\\up.mp4",
        "a/../../up.mp4",
        "...mp4",
        "..",
        "\n.mp4",
        "é.mp4",
        "-.mp4",
    ]
    write_tar(tmp_path / "tars" / "0.tar", [(name, name.encode()) for name in names])

    assert fetched(tmp_path, "up") == {"up.mp4": b"../../up.mp4"}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["scratch", "state", "tars"]


def test_of_the_same_name_pictures_come_first_then_the_first_tar(tmp_path):
    write_tar(tmp_path / "tars" / "0.tar", [("a.wav", b"0"), ("b.mp4", b"0")])
    write_tar(tmp_path / "tars" / "deep" / "1.tar", [("a.mp4", b"1"), ("b.mp4", b"1"), ("a_1_2.mp4", b"2")])

    assert fetched(tmp_path, "a") == {"a.mp4": b"1", "a_1000_2000.mp4": b"2"}
    assert fetched(tmp_path, "b") == {"b.mp4": b"0"}


def test_tars_may_be_a_folder_a_pattern_or_one_file(tmp_path):
    for n in (0, 1):
        write_tar(tmp_path / "tars" / f"{n} [x].tar", [(f"{name}.mp4", b"%d" % n) for name in "ab"[n:]])

    assert fetched(tmp_path, "b", f"tars:{tmp_path}/*/1*.tar") == {"b.mp4": b"1"}
    assert fetched(tmp_path, "b", f"tars:{tmp_path}/tars/1 [x].tar") == {"b.mp4": b"1"}


@pytest.mark.parametrize(
    ("spec", "told"),
    [
        ("tars:", "name the tars as"),
        ("tars:{}/none", "there is no tar"),
        ("tars:{}/tars", "no media files"),
    ],
)
def test_where_nothing_is_it_is_told(tmp_path, spec, told):
    write_tar(tmp_path / "tars" / "0.tar", [("a.json", b"{}")])

    with pytest.raises(ValueError, match=told):
        fetched(tmp_path, "a", spec.format(tmp_path))


def test_headers_are_read_once_and_again_where_a_tar_is_another(tmp_path):
    path = write_tar(tmp_path / "tars" / "0.tar", [("a.mp4", b"a")])
    fetched(tmp_path, "a")
    (kept,) = (tmp_path / "state" / TARS).iterdir()
    written_ns = kept.stat().st_mtime_ns

    assert fetched(tmp_path, "a") == {"a.mp4": b"a"} and kept.stat().st_mtime_ns == written_ns

    write_tar(path, [("b.mp4", b"b" * 2000), ("a.mp4", b"A")])
    assert fetched(tmp_path, "a") == {"a.mp4": b"A"}


def test_a_damaged_tar_is_told_and_what_stands_before_is_used(tmp_path, caplog):
    path = write_tar(tmp_path / "tars" / "0.tar", [("a.mp4", b"a"), ("b.mp4", b"b" * 5000)])
    path.write_bytes(path.read_bytes()[:2500])

    assert fetched(tmp_path, "a") == {"a.mp4": b"a"}
    assert "ends beyond the file; what comes before that is used" in caplog.text
    with pytest.raises(ItemError, match="nothing of b"):
        fetched(tmp_path, "b")


def test_more_than_the_limit_is_not_unpacked(tmp_path):
    members = [(f"a_{n}_{n + 1}.mp4", b"x" * 1000) for n in range(20)]
    write_tar(tmp_path / "tars" / "0.tar", members)

    with pytest.raises(ItemError, match=r"too_large\): 20,000 bytes of a, more than 9,999"):
        fetched(tmp_path, "a", access=Access(limits=DownloadLimits(size_bytes=9_999)))


def first_number(path, begins_s):
    """The number that the picture shows with which the segment begins."""
    with av.open(str(path)) as container:
        frames = (frame for frame in container.decode(video=0) if frame.time >= begins_s - 0.01)
        return timecode.read_number(next(frames).to_ndarray(format="gray"))


def cut_out(tmp_path, members, start_s, end_s):
    """The clip row of a segment of `abc`, and the number that it begins with, by a root that downloads from tars."""
    return cut_by(tmp_path, members, f'abc, {start_s:.3f}, {end_s:.3f}, "/m/09x0r"\n')


def cut_by(tmp_path, members, line):
    root = tmp_path / "root"
    root.mkdir()
    write_tar(tmp_path / "tars" / "0.tar", members)
    (root / "list.csv").write_text(line)
    index(root, [root / "list.csv"], IndexConfig(val_share=0.0))
    passed(root, "segments")
    fetch(root, f"tars:{tmp_path}/tars")
    row = clip_rows(root)["abc"]
    return row, first_number(root / row["path"], row["begins_s"]) if row["path"] else None


def test_a_segment_is_cut_out_of_a_whole_video(tmp_path, media):
    row, number = cut_out(tmp_path, [("abc.mp4", media[8])], 4.0, 6.0)

    assert (row["outcome"], row["covered_s"], number) == ("ok", 2.0, 40)


@pytest.mark.parametrize("name", ["abc_4000_6000.mp4", "abc_4_6.mp4", "abc_4.000_6.000.mp4", "abc.mp4"])
def test_a_member_that_is_the_segment_begins_with_it(tmp_path, media, name):
    row, number = cut_out(tmp_path, [(name, media[2])], 4.0, 6.0)

    assert (row["outcome"], row["length_s"], row["covered_s"], number) == ("ok", 2.0, 2.0, 0)


@pytest.mark.parametrize(("seconds", "number"), [(2.4, 0), (2.8, 5)])
def test_a_member_named_by_its_video_is_the_segment_if_it_is_no_longer(tmp_path, media, seconds, number):
    row, found = cut_out(tmp_path, [("abc.mp4", media[seconds])], 0.5, 2.5)

    assert (row["outcome"], row["covered_s"], found) == ("ok", 2.0, number)


def test_the_segments_own_member_comes_before_the_whole_video(tmp_path, media):
    row, number = cut_out(
        tmp_path, [("abc.mp4", media[8]), ("abc_1_3.mp4", media[1]), ("abc_4_6.mp4", media[2])], 4, 6
    )

    assert (row["outcome"], number) == ("ok", 0)


@pytest.mark.parametrize("name", ["abc_4_6.mp4", "abc.mp4"])
def test_a_cut_that_ends_early_is_too_short(tmp_path, media, name):
    row, _ = cut_out(tmp_path, [(name, media[1])], 4.0, 6.0)

    assert (row["outcome"], row["reason"]) == ("unavailable", "too_short")
    assert row["detail"] == "the video ends at 5.00 s, the segment is 4 to 6 s"


def test_a_segment_of_which_only_the_start_is_named_ends_with_its_video(tmp_path, media):
    row, _ = cut_by(tmp_path, [("abc_000004.mp4", media[8])], "abc,4,dog barking,train\n")

    assert (row["outcome"], row["length_s"], row["covered_s"]) == ("ok", 8.0, 8.0)
    assert row["key"] == "abc_4000_14000"


def test_less_than_a_second_of_it_is_too_short(tmp_path, media):
    row, _ = cut_by(tmp_path, [("abc_000004.mp4", media[0.6])], "abc,4,dog barking,train\n")

    assert (row["outcome"], row["reason"]) == ("unavailable", "too_short")


@pytest.mark.parametrize(
    ("members", "reason", "detail"),
    [
        ([("abc_1_3.mp4", b"x")], "removed", "no file for abc_4000_6000"),
        ([("xyz.mp4", b"x")], "removed", "nothing of abc in tars:"),
    ],
)
def test_what_the_tars_lack_is_gone(tmp_path, members, reason, detail):
    row, _ = cut_out(tmp_path, members, 4.0, 6.0)

    assert (row["outcome"], row["reason"], row["attempts"]) == ("waiting", reason, 1)
    assert detail in row["detail"]


def test_a_member_that_is_no_media_ends_as_a_row(tmp_path):
    row, _ = cut_out(tmp_path, [("abc.mp4", b"no media")], 4.0, 6.0)

    assert (row["outcome"], row["reason"]) == ("quarantined", "decodable")
