"""Sources that bring their own segments, by the command line."""

import json
import tarfile
import wave
from dataclasses import replace

import timecode
from real_servers import snapshot
from timecode import Recipe

from flows.builds.memory import recall, remember, with_remembered
from flows.builds.options import BuildOptions
from flows.builds.pipeline import resolve
from schemas.manifest import read_manifest
from tasks.index import index
from tasks.lists.labels import machine_ids
from tasks.sources import studio


def write_videos(folder, *names):
    folder.mkdir(exist_ok=True)
    for name in names:
        timecode.write(folder / name, Recipe(seconds=5.5, frame_rate=10))


def keys(root):
    return {row["key"] for _, row in read_manifest(root / "segments")}


def test_a_folder_of_videos_needs_no_list(tmp_path, mcgurk):
    root = tmp_path / "root"
    videos = tmp_path / "videos"
    write_videos(videos, "first.mp4", "the second.mp4")
    options = ("--root", str(root), "--compute", "threads")
    mcgurk("build", *options, "--preset", "small", "--source", f"folder:{videos}", "--window", "2")
    before = keys(root)
    built = snapshot(root)

    output = mcgurk("build", *options)  # what a schedule does: all of it is remembered

    assert len(before) == 6 and snapshot(root) == built
    assert "index: 0 new segments" in output

    write_videos(videos, "third.mp4")
    plan = json.loads(mcgurk("plan", "--root", str(root), "--json").splitlines()[-1])
    mcgurk("build", *options)

    status = json.loads(mcgurk("status", "--root", str(root), "--json"))
    assert plan["index"]["missing"] == 1 and plan["index"]["done"] > 0
    assert keys(root) - before == {"third_0_2000", "third_2000_4000", "third_4000_5500"}
    assert (status["segments"], status["in_shards"]) == (9, 9)


def test_a_source_on_disk_is_remembered_wherever_it_was_named_from(tmp_path, monkeypatch):
    (tmp_path / "there").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    for source in ("folder:videos", "folder:~/videos", f"folder:{tmp_path}/videos"):
        asked = with_remembered(BuildOptions("root", source=source), recall(tmp_path))
        remember(tmp_path, replace(asked, window=2.0))
        monkeypatch.chdir(tmp_path / "there")
        again = with_remembered(BuildOptions("root"), recall(tmp_path))
        monkeypatch.chdir(tmp_path)

        assert (again.source, again.window) == (f"folder:{tmp_path}/videos", 2.0)
    tars = with_remembered(BuildOptions("root", preset="small", source="tars:here/*.tar"), recall(tmp_path))
    assert tars.source == f"tars:{tmp_path}/here/*.tar"


def test_of_a_folder_nobody_has_set_videos_apart_so_a_share_is_evaluation(tmp_path):
    write_videos(tmp_path / "videos", "first.mp4")
    asked = BuildOptions(str(tmp_path / "root"), source=f"folder:{tmp_path}/videos", window=2.0)

    assert resolve(asked).config.index.eval_share == 0.1
    lists = replace(asked, window=None, segments=(str(write_list(tmp_path, {"a": "/m/dog"})),))
    assert resolve(lists).config.index.eval_share == 0.0  # there, a list is the evaluation set


def test_windows_that_cannot_be_cut_are_told(tmp_path, mcgurk):
    root = ("--root", str(tmp_path / "root"))
    videos = tmp_path / "videos"
    videos.mkdir()
    asked = ("build", *root, "--source", f"folder:{videos}", "--window")

    assert "there is no video" in mcgurk(*asked, "10", code=2)
    assert "samples of this preset are 1 to 10 s long" in mcgurk(*asked, "11", code=2)
    assert "name one of the two" in mcgurk(*asked, "10", "--segments", __file__, code=2)
    other = ("build", *root, "--source", "http://host/{video_id}", "--window", "10")
    assert "only the videos of --source folder:PATH" in mcgurk(*other, code=2)
    assert not (tmp_path / "root").exists()


def write_list(folder, labels):
    """A list of two-second segments, one a video; table and ontology beside it."""
    nodes = [("/m/music", "Music", ["/m/drum", "/m/horn"]), ("/m/drum", "Drum", []), ("/m/horn", "Horn", [])]
    ontology = [
        dict(zip(("id", "name", "child_ids"), node, strict=True)) for node in [*nodes, ("/m/dog", "Dog", [])]
    ]
    (folder / "ontology.json").write_text(json.dumps(ontology))
    path = folder / "list.csv"
    path.write_text("".join(f'{video}, 0.000, 2.000, "{label}"\n' for video, label in labels.items()))
    return path


def test_a_wider_choice_adds_and_a_narrower_one_keeps(tmp_path, mcgurk):
    root = tmp_path / "root"
    videos = tmp_path / "videos"
    write_videos(videos, *(f"{name}.mp4" for name in "abcd"))
    path = write_list(tmp_path, {"a": "/m/drum", "b": "/m/horn", "c": "/m/dog", "d": "/m/drum"})
    options = (
        "--root",
        str(root),
        "--preset",
        "small",
        "--source",
        f"folder:{videos}",
        "--segments",
        str(path),
    )
    build = ("build", *options, "--compute", "threads")

    mcgurk(*build, "--labels", "Drum", "--per-class", "1")
    (first,) = keys(root)
    shards = snapshot(root / "shards")
    mcgurk(*build, "--labels", "Music")
    narrower = mcgurk(*build, "--labels", "Horn")

    assert first in {"a_0_2000", "d_0_2000"}
    assert keys(root) == {"a_0_2000", "b_0_2000", "d_0_2000"}
    assert shards.items() <= snapshot(root / "shards").items()
    assert "2 segments that are no longer selected keep their slots" in narrower
    plan = json.loads(mcgurk("plan", *options, "--labels", "Music", "Dog", "--json").splitlines()[-1])
    assert (plan["index"]["done"], plan["index"]["missing"]) == (2, 1)


def test_choices_that_cannot_be_made_are_told(tmp_path, mcgurk):
    root = ("plan", "--root", str(tmp_path / "root"))
    path = write_list(tmp_path, {"a": "/m/drum"})
    asked = (*root, "--segments", str(path), "--labels")

    assert "did you mean 'Drum'" in mcgurk(*asked, "Drums", code=2)
    assert "name them too, with --segments" in mcgurk(*root, "--labels", "Drum", code=2)
    assert "numbers of segments, from 1" in mcgurk(*asked, "Drum", "--sample", "0", code=2)
    write_videos(tmp_path / "videos", "a.mp4")
    windows = ("--source", f"folder:{tmp_path}/videos", "--window", "2")
    assert "no segment of the lists has a label" in mcgurk(*root, *windows, "--labels", "Drum", code=2)
    (tmp_path / "ontology.json").unlink()
    assert "get it from github.com/audioset/ontology" in mcgurk(*asked, "Drum", code=2)
    assert not (tmp_path / "root").exists()


def test_the_studios_scenes_are_chosen_by_category(tmp_path, mcgurk):
    def chosen(*options):
        output = mcgurk("plan", "--root", str(tmp_path), "--preset", "demo", *options)
        return [line.split("index: ")[1] for line in output.splitlines() if "are selected" in line]

    assert chosen("--labels", "Musical instrument") == ["126 of 432 segments are selected"]
    assert chosen("--labels", "Bell", "Animal", "--per-class", "3") == ["18 of 432 segments are selected"]


def test_training_on_a_category_of_the_studio_knows_what_stands_below(tmp_path):
    pipeline = resolve(BuildOptions(str(tmp_path), preset="demo"))
    index(tmp_path, studio.lists(tmp_path / "lists", pipeline.config.corpus), pipeline.config.index)

    mids = machine_ids(["Bell", "Animal"], pipeline.labels, pipeline.ontology)

    names = {name for mid, (_, name) in pipeline.labels.items() if mid in mids}
    assert names == {"Church bell", "Wind chime", "Chirp, tweet", "Frog"}


def write_tar(path, files):
    with tarfile.open(path, "w") as tar:
        for name, file in files.items():
            tar.add(file, name)


def test_tars_are_a_source(tmp_path, mcgurk):
    write_videos(tmp_path, "long.mp4")
    timecode.write(tmp_path / "cut.mp4", Recipe(seconds=2, frame_rate=10))
    with wave.open(str(tmp_path / "sound.wav"), "wb") as sound:
        sound.setparams((1, 2, 16_000, 0, "NONE", ""))
        sound.writeframes(bytes(4 * 16_000))
    members = {"a.mp4": "long", "b_30_32.mp4": "cut", "Yelevenchars.mp4": "cut", "d.wav": "sound"}
    write_tar(tmp_path / "0.tar", {name: next(tmp_path.glob(f"{stem}.*")) for name, stem in members.items()})
    starts = {"a": 3, "b": 30, "elevenchars": 70, "d": 0, "gone": 0}
    path = tmp_path / "list.csv"
    path.write_text("".join(f'{name}, {s}.000, {s + 2}.000, "/m/1"\n' for name, s in starts.items()))
    root = ("--root", str(tmp_path / "root"))

    mcgurk("build", *root, "--preset", "small", "--segments", str(path), "--source", f"tars:{tmp_path}",
           "--compute", "threads")  # fmt: skip

    status = json.loads(mcgurk("status", *root, "--json"))
    assert status["in_shards"] == 3
    assert (status["quarantined"], status["waiting"]) == ({"has_video": 1}, {"removed": 1})
