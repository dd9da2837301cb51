"""Sources that bring their own segments, by the command line."""

import json

import timecode
from real_servers import snapshot
from timecode import Recipe

from schemas.manifest import read_manifest


def write_videos(folder, *names):
    folder.mkdir(exist_ok=True)
    for name in names:
        timecode.write(folder / name, Recipe(seconds=5.5, frame_rate=10))


def keys(root):
    return {row["key"] for _, row in read_manifest(root / "segments")}


def test_a_folder_of_videos_needs_no_list(tmp_path, mcgurk):
    root, videos = tmp_path / "root", tmp_path / "videos"
    write_videos(videos, "first.mp4", "the second.mp4")
    options = ("--root", str(root), "--compute", "threads")
    mcgurk("build", *options, "--preset", "small", "--source", f"folder:{videos}", "--window", "2")
    before, built = keys(root), snapshot(root)

    output = mcgurk("build", *options)  # what a schedule does: all of it is remembered

    assert len(before) == 6 and snapshot(root) == built
    assert "index: 0 new segments" in output

    write_videos(videos, "third.mp4")
    plan = json.loads(mcgurk("plan", "--root", str(root), "--json"))
    mcgurk("build", *options)

    status = json.loads(mcgurk("status", "--root", str(root), "--json"))
    assert plan["index"]["missing"] == 1 and plan["index"]["done"] > 0
    assert keys(root) - before == {"third_0_2000", "third_2000_4000", "third_4000_5500"}
    assert (status["segments"], status["in_shards"]) == (9, 9)


def test_windows_that_cannot_be_cut_are_told(tmp_path, mcgurk):
    root, videos = ("--root", str(tmp_path / "root")), tmp_path / "videos"
    videos.mkdir()
    asked = ("build", *root, "--source", f"folder:{videos}", "--window")

    assert "there is no video" in mcgurk(*asked, "10", code=2)
    assert "samples of this preset are 1 to 10 s long" in mcgurk(*asked, "11", code=2)
    assert "name either" in mcgurk(*asked, "10", "--segments", __file__, code=2)
    other = ("build", *root, "--source", "http://host/{video_id}", "--window", "10")
    assert "only the videos of --source folder:PATH" in mcgurk(*other, code=2)
    assert not (tmp_path / "root").exists()
