"""One's own files, as a person starts a build of them: folders a class, lists of files, and what is said of both."""

import json

import pytest
import timecode
from roots import put
from timecode import Recipe

from flows.builds.memory import recall
from flows.builds.options import BuildOptions
from flows.builds.pipeline import resolve
from schemas.manifest import read_manifest


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    """A clip of 3.5 s."""
    path = tmp_path_factory.mktemp("clips") / "clip.mp4"
    timecode.write(path, Recipe(seconds=3.5, frame_rate=10))
    return path.read_bytes()


def segments(root):
    return {row["key"]: (row["labels"], row["split"]) for _, row in read_manifest(root / "segments")}


def in_shards(root):
    return {row["key"] for _, row in read_manifest(root / "shards") if row["outcome"] == "ok"}


def test_folders_are_labels_and_what_was_passed_over_is_told(tmp_path, mcgurk):
    root = tmp_path / "root"
    videos = tmp_path / "videos"
    content = timecode.write(tmp_path / "clip.mp4", Recipe(seconds=2, frame_rate=10)).read_bytes()
    put(videos, content, "playing guitar/v_1.mp4", "playing guitar/v_2.3g2", "dog, barking/dQw4w9WgXcQ.f4v")
    put(videos, b"x", "dog, barking/notes.txt", "dog, barking/dQw4w9WgXcQ.srt", "dog, barking/song.m4a")
    (videos / "dog, barking" / "linked.mp4").symlink_to(tmp_path / "clip.mp4")
    asked = ("--root", str(root), "--source", f"folder:{videos}", "--window", "2", "--compute", "threads")

    said = mcgurk("build", *asked, "--preset", "small")

    assert "folder: 5 media files (1 behind links); skipped 1 .srt, 1 .txt" in said
    assert "folder: 1 of them have only sound, and no window is cut from them" in said
    assert "folder: 2 labels from folders (--labels none leaves them out)" in said
    assert "split    10% of the videos are validation and 10% evaluation" in said
    guitar = ["playing guitar"]
    dog = ["dog, barking"]
    labels = {key: labels for key, (labels, _) in segments(root).items()}
    assert labels == {
        "v_1_0_2000": guitar,
        "v_2_0_2000": guitar,
        "dQw4w9WgXcQ_0_2000": dog,
        "linked_0_2000": dog,
    }
    assert in_shards(root) == set(labels)


def test_a_file_of_a_folder_of_which_nothing_can_be_cut_is_a_failure_until_it_is_mended_or_gone(
    tmp_path, mcgurk, clip
):
    root = ("--root", str(tmp_path / "root"))
    videos = tmp_path / "videos"
    put(videos, clip, "a.mp4")
    put(videos, b"no film " * 99, "my film.mp4", "other.mp4")
    asked = (*root, "--source", f"folder:{videos}", "--window", "2", "--compute", "threads")

    mcgurk("build", *asked, "--preset", "small")

    listed = json.loads(mcgurk("failures", *root, "--json"))
    assert [(one["original"], one["outcome"], one["key"]) for one in listed] == [
        ("my film.mp4", "left_out", ""),
        ("other.mp4", "left_out", ""),
    ]
    assert all("repair or replace the file" in one["remedy"] for one in listed)
    told = mcgurk("failures", *root)
    assert told.startswith("every segment is in a shard\n") and "     my film.mp4  no window" in told
    story = mcgurk("status", *root).splitlines()
    assert story[1] == "my film.mp4 and other.mp4 were left out: no segment could be cut (mcgurk failures)."

    (videos / "other.mp4").unlink()
    put(videos, clip, "my film.mp4")
    mcgurk("build", *asked)

    assert mcgurk("failures", *root) == "every segment is in a shard\n"
    assert "left out" not in mcgurk("status", *root)


def test_folders_are_chosen_from_and_may_be_no_labels(tmp_path, mcgurk, clip):
    videos = tmp_path / "videos"
    put(videos, clip, "Dog/a.mp4", "Cat/b.mp4", "Cat/c.mp4")
    asked = ("plan", "--source", f"folder:{videos}", "--window", "2", "--preset", "small", "--root")

    assert "2 of 6 segments are selected" in mcgurk(*asked, str(tmp_path / "a"), "--labels", "Dog")
    assert "from folders" not in mcgurk(*asked, str(tmp_path / "b"), "--labels", "none")
    assert "did you mean 'Dog'" in mcgurk(*asked, str(tmp_path / "c"), "--labels", "Dogs", code=2)


def test_where_a_file_lies_elsewhere_folders_are_no_labels(tmp_path, mcgurk, clip):
    put(tmp_path / "videos", clip, "Dog/a.mp4", "b.mp4", "x/y/c.mp4")

    said = mcgurk(
        "plan", "--source", f"folder:{tmp_path}/videos", "--window", "2", "--root", str(tmp_path / "root")
    )

    assert "from folders" not in said and "folder: 3 media files; nothing was skipped" in said


def test_a_list_of_files_needs_no_source_and_no_ids(tmp_path, mcgurk, clip):
    root = tmp_path / "root"
    lists = tmp_path / "here"
    put(lists, clip, "a.mp4", "deep/b c.mp4", "d.mp4")
    text = "file;label;split\na.mp4;Dog|Cat;train\ndeep/b c.mp4;Cat;test\nd.mp4;Dog;val\nno.mp4;Dog;val\n"
    (lists / "mine.csv").write_text(text, encoding="utf-16")
    build = ("build", "--root", str(root), "--compute", "threads")

    said = mcgurk(*build, "--preset", "small", "--window", "2", "--segments", str(lists / "mine.csv"))

    assert f"source   folder:{lists}" in said
    assert "mine.csv: 1 of 4 rows were not read; the first: mine.csv:5: no such file: 'no.mp4'" in said
    found = segments(root)
    assert {key.rsplit("_", 2)[1:][0] for key in found} == {"0", "2000"} and len(found) == 6 == len(
        in_shards(root)
    )
    assert found["a_0_2000"] == (["Dog", "Cat"], "train") and found["d_2000_3500"] == (["Dog"], "val")
    assert {split for key, (_, split) in found.items() if key.startswith("b-c-")} == {"eval"}

    assert "index: 0 new segments" in mcgurk(*build)  # what a schedule does: the folder is not cut in windows


def test_what_a_list_of_files_cannot_be_is_told(tmp_path, mcgurk, clip):
    put(tmp_path, clip, "a.mp4")
    (tmp_path / "mine.csv").write_text("file\na.mp4\n")
    (tmp_path / "gone.csv").write_text("file\nb.mp4\n")
    root = ("plan", "--root", str(tmp_path / "root"), "--segments")

    told = mcgurk(*root, str(tmp_path / "mine.csv"), "--source", "youtube", code=2)
    assert "mine.csv names files: their --source must be folder:PATH, not youtube" in told
    assert "gone.csv is not a list of segments: no row could be read as a segment" in mcgurk(
        *root, str(tmp_path / "gone.csv"), code=2
    )
    assert "samples of this preset are 1 to 10 s" in mcgurk(
        *root, str(tmp_path / "mine.csv"), "--window", "11", code=2
    )
    for shares in (
        ("--val-share", "1"),
        ("--val-share", "0.6", "--eval-share", "0.5"),
        ("--eval-share", "-1"),
    ):
        assert "are shares from 0" in mcgurk(*root, str(tmp_path / "mine.csv"), *shares, code=2)
    assert not (tmp_path / "root").exists()


def test_shares_are_as_asked_and_remembered(tmp_path, mcgurk, clip):
    put(tmp_path / "videos", clip, "a.mp4")
    asked = ("--root", str(tmp_path / "root"), "--source", f"folder:{tmp_path}/videos", "--window", "2")
    mcgurk(
        "build",
        *asked,
        "--preset",
        "small",
        "--compute",
        "threads",
        "--val-share",
        "0",
        "--eval-share",
        "0.3",
    )

    config = resolve(BuildOptions(str(tmp_path / "root"))).config.index
    other = BuildOptions(str(tmp_path / "other"), source=f"folder:{tmp_path}", window=2.0)
    assert (config.val_share, config.eval_share) == (0.0, 0.3)
    assert recall(tmp_path / "root")["val_share"] == 0.0
    assert resolve(other).config.index.val_share == 0.1


def test_a_nested_vggsound_matches_its_list(tmp_path, mcgurk, clip):
    put(
        tmp_path / "videos",
        clip,
        "train/0/-abcdefghij_000030.mp4",
        "x/abcdefghijk_7.mp4",
        "y/abcdefghijl.mp4",
    )
    lines = [
        '-abcdefghij,30,"bee, wasp",train',
        "abcdefghijk,7,dog,test",
        "abcdefghijl,1,dog,test",
        "no,1,dog,test",
    ]
    (tmp_path / "vggsound.csv").write_text("\n".join(lines))
    root = ("--root", str(tmp_path / "root"))

    mcgurk("build", *root, "--preset", "small", "--segments", str(tmp_path / "vggsound.csv"),
           "--source", f"folder:{tmp_path}/videos", "--compute", "threads")  # fmt: skip

    status = json.loads(mcgurk("status", *root, "--json"))
    assert in_shards(tmp_path / "root") == {
        "-abcdefghij_30000_40000", "abcdefghijk_7000_17000", "abcdefghijl_1000_11000",
    }  # fmt: skip
    assert status["waiting"] == {"removed": 1}


def test_what_was_not_read_is_told_before_anything_starts(tmp_path, mcgurk):
    rows = [f"v{n},0,10,/m/1" for n in range(297)] + ["no row", "bad id!,0,10,/m/1", "v,10,0,/m/1"]
    (tmp_path / "list.csv").write_text("\n".join(rows))

    said = mcgurk("plan", "--root", str(tmp_path / "root"), "--segments", str(tmp_path / "list.csv"))

    assert "list.csv: 3 of 300 rows were not read; the first: list.csv:298: not of the form" in said
