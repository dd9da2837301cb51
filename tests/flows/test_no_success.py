"""What did not come to be is not reported as success: no sample, no version, no event, exit 1, and the reason."""

import json
import shutil

import pytest
import timecode
from roots import write_clips
from timecode import Recipe

from schemas.shard import latest_digest, read_facts, read_version

NOBODY = "http://127.0.0.1:9/{video_id}.mp4"  # the discard port: refused


def num_events(root) -> int:
    """How many times a new version of `root` was announced."""
    from prefect import get_client  # it reads its settings when it is imported: after the server was started

    from flows.build_dataset import NEW_VERSION

    asked = {"filter": {"event": {"name": [NEW_VERSION]}}, "limit": 50}
    with get_client(sync_client=True) as client:
        answer = client.request("POST", "/events/filter", json=asked).json()
    return sum(one["payload"]["root"] == str(root) for one in answer["events"])


def test_what_is_no_list_stops_before_anything_starts(tmp_path, mcgurk):
    root = tmp_path / "root"
    film = timecode.write(tmp_path / "film.mp4", Recipe(seconds=2, frame_rate=10))
    (tmp_path / "empty.csv").write_text("")
    (tmp_path / "other.csv").write_text("name;begins;ends\nabc;0;ten\n")

    no_row = "no row could be read as a segment"
    why = {"empty.csv": no_row, "other.csv": no_row, film.name: "it is not text: it contains zero bytes"}
    for name in why:
        for verb in ("plan", "build"):
            told = mcgurk(
                verb, "--root", str(root), "--segments", str(tmp_path / name), "--source", NOBODY, code=2
            )
            assert f"{name} is not a list of segments: {why[name]}" in told
            assert "Traceback" not in told
    assert not root.exists()


def test_a_strict_list_stops_before_anything_starts(tmp_path, mcgurk):
    (tmp_path / "list.csv").write_text('abc, 0.000, 2.000, "/m/1"\nabc;0;10\n')
    asked = ("--root", str(tmp_path / "root"), "--segments", str(tmp_path / "list.csv"), "--source", NOBODY)

    told = mcgurk("build", *asked, "--strict", code=2)

    assert told.splitlines()[-1].startswith(
        "mcgurk build: 1 malformed line(s); the first: list.csv:2: not of the form"
    )
    assert not (tmp_path / "root").exists()


def test_a_verb_that_needs_a_version_names_the_build_of_one_and_no_option_of_another_verb(tmp_path, mcgurk):
    root = tmp_path / "none yet"

    for verb in ("train", "verify", "prune"):
        told = mcgurk(verb, "--root", str(root), code=2)

        assert (
            f"mcgurk {verb}: no dataset version under {root} (there: none); build one with `mcgurk build"
            in told
        )
    assert not root.exists()


def test_a_host_that_refuses_every_connection_gives_no_version(tmp_path, mcgurk):
    (tmp_path / "list.csv").write_text("".join(f'video{n}, 0.000, 2.000, "/m/1"\n' for n in range(3)))
    root = tmp_path / "root"
    asked = ("--root", str(root), "--segments", str(tmp_path / "list.csv"), "--source", NOBODY)

    told = mcgurk("build", *asked, "--compute", "threads", code=1)

    assert "        3 segments\n        0 in shards\n" in told
    reason = "no sample, so no version: 3 of 3: connection refused by 127.0.0.1:9 (waiting: network)"
    assert told.splitlines()[-1] == f"mcgurk build: stopped: publish: {reason}"
    assert "next: mcgurk train" not in told
    assert not (root / "versions").exists()
    assert num_events(root) == 0

    shown = mcgurk("status", "--root", str(root))
    assert "no sample: 3 of 3: connection refused by 127.0.0.1:9 (waiting: network)" in shown


def test_a_folder_whose_only_clip_is_quarantined_gives_no_version(tmp_path, mcgurk):
    (tmp_path / "videos").mkdir()
    timecode.write(tmp_path / "videos" / "one.mp4", Recipe(seconds=2, frame_rate=10, has_audio=False))
    (tmp_path / "list.csv").write_text('one, 0.000, 2.000, "/m/1"\n')
    root = tmp_path / "root"
    source = ("--segments", str(tmp_path / "list.csv"), "--source", f"folder:{tmp_path}/videos")

    told = mcgurk("build", "--root", str(root), *source, "--compute", "threads", code=1)

    assert "no sample, so no version: 1 of 1: has_audio: observed False (quarantined: has_audio)" in told
    assert latest_digest(root) is None


def test_status_of_a_root_that_has_only_its_index(tmp_path, mcgurk):
    from tasks.index import IndexConfig, index

    (tmp_path / "list.csv").write_text('one, 0.000, 2.000, "/m/1"\n')
    index(tmp_path / "root", [tmp_path / "list.csv"], IndexConfig())

    status = json.loads(mcgurk("status", "--root", str(tmp_path / "root"), "--json"))

    assert (status["segments"], status["waiting"], status["reason"]) == (
        1,
        {"pending": 1},
        "1 of 1: waiting: pending",
    )


@pytest.fixture(scope="module")
def built_once(tmp_path_factory, prefect_server):
    """A root of two clips, and what its build printed."""
    from real_servers import run_mcgurk

    folder = tmp_path_factory.mktemp("two")
    (path,) = write_clips(folder / "videos", ["one", "two"])
    source = ("--segments", str(path), "--source", f"folder:{folder}/videos")
    root = folder / "root"
    told = run_mcgurk("build", "--root", str(root), "--preset", "small", "--compute", "threads", *source)
    return root, told


def test_a_build_says_what_is_missing_to_train(built_once):
    _, told = built_once

    last = told.splitlines()[-1]
    assert last.startswith("too little to train on: ")
    assert "val has 0 of 2 videos that are needed" in last and "eval has 0 of 3" in last
    assert "next: mcgurk train" not in told


def test_after_a_takedown_of_everything_an_empty_version_stands(built_once, tmp_path, mcgurk):
    root = shutil.copytree(built_once[0], tmp_path / "root")
    first = read_version(root)

    mcgurk("forget", "one", "two", "--root", str(root))
    told = mcgurk("build", "--root", str(root), "--compute", "threads")

    version = read_version(root)
    assert (version.num_samples, version.shards) == (0, [])
    assert version.digest != first.digest
    assert read_facts(root, version.digest)["is_emptied"] is True
    for kind in ("md", "html"):
        page = (root / "versions" / f"{version.digest}.{kind}").read_text()
        assert "This version is empty: every sample was taken down." in page
    assert f"dataset version {version.digest}" in told
    assert f"dataset version {version.digest} (empty)" in mcgurk("status", "--root", str(root))
    assert num_events(root) == 0
    again = mcgurk("build", "--root", str(root), "--compute", "threads", "--preset", "dense")
    assert read_version(root).profile.name == "dense" and "too little to train on" in again
    assert num_events(root) == 0
