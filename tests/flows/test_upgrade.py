"""Over months tools change and sources lose what they had: what stands stays until its successor is there."""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import timecode
from generated_films import Film
from old_roots import aged
from real_servers import hosting, run_mcgurk
from timecode import Recipe

from schemas.clip import CLOCK
from schemas.layout import MEDIA
from schemas.manifest import part_path, read_manifest, read_part
from schemas.shard import latest_digest, read_version
from tasks.feature_files import feature_path, open_members

IDS = [f"video{n}" for n in range(6)]
KEPT = "6 sample(s) stay as earlier code or tools made them: their media were not kept"


@pytest.fixture(scope="module")
def built(tmp_path_factory, prefect_server):
    """A root of six clips that was built with preset `lean`, and its host."""
    folder = tmp_path_factory.mktemp("lean")
    files = {one: timecode.write(folder / f"{one}.mp4", Recipe(seconds=2, frame_rate=10)) for one in IDS}
    (folder / "list.csv").write_text("".join(f'{one}, 0.000, 2.000, "/m/1"\n' for one in IDS))
    with hosting(files) as host:
        source = ("--source", f"{host.address}/{{video_id}}.mp4", "--segments", str(folder / "list.csv"))
        run_mcgurk("build", "--root", str(folder / "root"), "--preset", "lean", *source)
        yield folder / "root", host


@pytest.fixture
def corpus(built, tmp_path):
    """(root, host, run) of those clips; `run(verb, ...)` by the tools as they are."""
    root = shutil.copytree(built[0], tmp_path / "root")
    host = built[1]
    assert not [path for path in (root / MEDIA).rglob("*") if path.is_file()]
    host.statuses.clear()
    host.asked.clear()
    return (
        root,
        host,
        lambda verb, *options, code=0: run_mcgurk(verb, "--root", str(root), *options, code=code),
    )


def upgraded(root: Path, verb: str, *options: str) -> str:
    """What a command prints with another version of numpy, as importlib.metadata sees it."""
    info = root.parent / "tools" / "numpy-0.dist-info"
    info.mkdir(parents=True, exist_ok=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: numpy\nVersion: 99.1\n")
    return run_with(info.parent, verb, "--root", str(root), *options)


def run_with(modules: Path, *arguments: str, code: int = 0) -> str:
    """What a command prints that finds the modules of this folder first."""
    command = [Path(sys.executable).parent / "mcgurk", *arguments]
    environment = {**os.environ, "PYTHONPATH": str(modules)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=180)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


def lose(host) -> None:
    host.statuses |= dict.fromkeys(IDS, 404)


def test_an_upgrade_asks_for_no_media_and_empties_no_corpus(corpus):
    root, host, run = corpus
    before = read_version(root)
    lose(host)

    assert KEPT in upgraded(root, "plan")
    upgraded(root, "build")  # what the schedule runs

    assert read_version(root) == before and before.num_samples == 6
    assert not host.asked
    again = upgraded(root, "plan")
    assert KEPT in again and "nothing to do" in again
    assert json.loads(run("status", "--json"))["kept"] == 6
    assert "6 samples were made by earlier code or tools" in run("status")
    rows = [row for _, row in read_manifest(root / "features")]
    assert [row["is_kept"] for row in rows] == [True] * 6
    assert all("extract " in row["made_by"] and "numpy 99.1" not in row["made_by"] for row in rows)
    for kind in ("md", "html"):
        card = (root / "versions" / f"{before.digest}.{kind}").read_text()
        assert "Made by earlier code or tools" in card and rows[0]["made_by"] in card


STRICTER = """
import schemas.rules
schemas.rules.ClipRules.__init__.__defaults__ = (8_000, 11.0, 64)
"""


def test_rules_that_come_with_an_upgrade_remove_no_sample_until_they_are_accepted(tmp_path, prefect_server):
    """The new mcgurk refuses films of 10 frames a second, and the last version has one."""
    root = tmp_path / "root"
    (tmp_path / "films").mkdir()
    for frame_rate in (10, 25):
        timecode.write(tmp_path / "films" / f"at{frame_rate}.mp4", Recipe(seconds=2, frame_rate=frame_rate))
    source = ("--source", f"folder:{tmp_path / 'films'}", "--window", "2")
    run_mcgurk("build", "--root", str(root), "--preset", "small", *source)
    before = read_version(root)
    assert before.num_samples == 2
    newer = tmp_path / "newer"
    newer.mkdir()
    (newer / "sitecustomize.py").write_text(STRICTER)

    told = run_with(newer, "build", "--root", str(root), code=1)  # what the schedule runs

    assert f"1 sample(s) fewer than version {before.digest[:12]} (1 instead of 2)" in told
    assert "the rules of its preset changed with mcgurk; to accept them, build with --preset" in told
    assert read_version(root) == before
    run_with(newer, "build", "--root", str(root), "--preset", "small")
    assert read_version(root).num_samples == 1


@pytest.mark.slow
def test_only_refetch_asks_again_and_what_is_gone_stays(corpus):
    root, host, run = corpus
    before = read_version(root)
    lose(host)
    del host.statuses["video3"]

    told = upgraded(root, "plan", "--refetch")
    assert "6 clip(s) are fetched again: extraction changed, and their media were not kept" in told
    upgraded(root, "build", "--refetch")

    assert set(host.asked) == set(IDS)
    assert read_version(root) == before  # the same bytes, though one was made anew
    assert json.loads(run("status", "--json"))["kept"] == 5
    made = {row["key"]: row for _, row in read_manifest(root / "features")}
    assert "numpy 99.1" in made["video3_0_2000"]["made_by"] and not made["video3_0_2000"]["is_kept"]
    clips = {row["video_id"]: row for _, row in read_manifest(root / "clips")}
    assert {(row["outcome"], row["path"]) for row in clips.values()} == {("ok", None)}
    assert (clips["video0"]["reason"], clips["video0"]["attempts"]) == ("removed", 1)
    assert clips["video0"]["next_attempt_at"] and clips["video3"]["next_attempt_at"] is None
    assert not [path for path in (root / MEDIA).rglob("*") if path.is_file()]

    host.statuses.clear()
    host.asked.clear()
    upgraded(root, "build")
    assert not host.asked  # it is asked again another day
    upgraded(root, "build", "--refetch")
    assert set(host.asked) == set(IDS) - {"video3"}
    assert json.loads(run("status", "--json"))["kept"] == 0
    assert read_version(root) == before


def test_another_preset_without_media_changes_nothing_until_they_are_asked_for(corpus):
    root, host, run = corpus
    before = read_version(root)
    parts = (root / "features").stat().st_mtime_ns

    assert "6 clip(s) can't be extracted: the settings changed" in run("plan", "--preset", "dense")
    told = run("build", "--preset", "dense", code=2)

    assert "preset dense needs the media of 6 clip(s) again, which were not kept; nothing was changed" in told
    assert "Traceback" not in told
    assert (read_version(root), (root / "features").stat().st_mtime_ns) == (before, parts)
    assert not host.asked
    assert "nothing to do" in run("plan")  # the preset was not remembered

    lose(host)
    del host.statuses["video1"]
    told = run("build", "--preset", "dense", "--refetch")
    version = read_version(root)
    assert (version.profile.name, version.num_samples) == ("dense", 1)
    assert (
        f"5 sample(s) fewer than version {before.digest[:12]} (1 instead of 6): its profile or rules changed"
        in told
    )


def test_a_clip_that_is_lost_here_and_at_its_source_keeps_its_sample(corpus):
    root, host, run = corpus
    before = latest_digest(root)
    run("build", "--preset", "standard", "--refetch")  # keeps media: nothing is fetched, and none is there
    assert not host.asked
    host.statuses["video9"] = 404
    (root.parent / "more.csv").write_text('video9, 0.000, 2.000, "/m/1"\n')
    host.files["video9"] = timecode.write(root.parent / "video9.mp4", Recipe(seconds=2, frame_rate=10))
    del host.statuses["video9"]
    run("build", "--segments", str(root.parent / "more.csv"))
    version = read_version(root)
    (lost,) = [path for path in (root / MEDIA).rglob("*") if path.is_file()]
    lost.unlink()
    host.statuses["video9"] = 404

    assert "1 file(s) lost" in run("plan")
    run("build")

    assert version.num_samples == 7 and version.digest != before
    assert read_version(root) == version
    rows = read_part(part_path(root / "clips", 1), ("outcome", "reason", "detail", "path"))
    assert rows == [{"outcome": "ok", "reason": "removed", "detail": "HTTP 404", "path": None}]


FILM = Film("mp4", "libx264", "aac", "24", 44_100, 50, 2, False, 0.0, 0.0, 0.0, 0.0, False)
WEBM = replace(FILM, container="webm", video="libvpx", audio="libvorbis", b_pictures=0)


@pytest.fixture
def of_before(tmp_path, prefect_server):
    """(root, host) of two clips that were cut into MP4 and one into Matroska, when streams could come apart."""
    files = {}
    for name, film in {
        "first": FILM,
        "second": replace(FILM, frame_rate="30000/1001"),
        "third": WEBM,
    }.items():
        (tmp_path / name).mkdir()
        files[name] = film.write(tmp_path / name)
    (tmp_path / "list.csv").write_text("".join(f'{name}, 2.417, 4.417, "/m/1"\n' for name in files))
    root = tmp_path / "root"
    with hosting(files) as host:
        source = ("--source", f"{host.address}/{{video_id}}.mp4", "--segments", str(tmp_path / "list.csv"))
        run_mcgurk("build", "--root", str(root), "--preset", "small", *source)
        aged(root, files)
        host.asked.clear()
        yield root, host


def frames_of(root):
    with open_members(feature_path(root, "frames", 0)) as table:
        return {(row["key"].split("_")[0], row["suffix"]): row["data"] for row in table.to_pylist()}


def test_cuts_of_before_are_mended_or_keep_what_was_made_of_them(of_before):
    root, host = of_before
    before = frames_of(root)
    made = {row["video_id"]: row for _, row in read_manifest(root / "clips")}
    assert {name: Path(row["path"]).suffix for name, row in made.items()} == {
        "first": ".mp4",
        "second": ".mp4",
        "third": ".mkv",
    }

    told = run_mcgurk("plan", "--root", str(root))
    assert (
        "2 clip(s) were cut by an earlier version, which could shift sound against picture; extraction corrects them"
        in told
    )
    assert (
        "1 clip(s) were cut by an earlier version, which could shift sound against picture: what was made"
        in told
    )
    run_mcgurk("build", "--root", str(root))

    assert not host.asked and read_version(root).num_samples == 3
    rows = {row["key"].split("_")[0]: row for _, row in read_manifest(root / "features")}
    assert {name: row["is_kept"] for name, row in rows.items()} == {
        "first": False,
        "second": False,
        "third": True,
    }
    assert frames_of(root) == before  # which were made of today's cuts
    assert json.loads(run_mcgurk("status", "--root", str(root), "--json"))["kept"] == 1
    told = run_mcgurk("plan", "--root", str(root))
    assert "1 clip(s) were cut" in told and "extraction corrects them" not in told and "nothing to do" in told

    run_mcgurk("build", "--root", str(root), "--refetch")

    assert set(host.asked) == {"third"}
    assert frames_of(root) == before
    assert {row["clock"] for _, row in read_manifest(root / "clips") if row["video_id"] == "third"} == {CLOCK}
    assert json.loads(run_mcgurk("status", "--root", str(root), "--json"))["kept"] == 0
