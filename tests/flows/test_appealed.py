"""A verdict can be appealed: `build --retry` asks again at once, whatever it was, and for nothing else."""

import json
from pathlib import Path

import pytest
from real_servers import hosting, run_mcgurk
from roots import write_clips

IDS = [f"clip{n}" for n in range(5)]


@pytest.fixture
def hosted(tmp_path, prefect_server):
    """A root of five clips, two of which their host has lost, and the host."""
    (path,) = write_clips(tmp_path / "media", IDS)
    root = tmp_path / "root"
    with hosting({one: tmp_path / "media" / f"{one}.mp4" for one in IDS}) as host:
        host.statuses |= {"clip1": 404, "clip3": 404}
        source = (
            "--source",
            f"{host.address}/{{video_id}}.mp4",
            "--segments",
            str(path),
            "--preset",
            "small",
        )
        build(root, *source)
        host.statuses.clear()
        host.asked.clear()
        yield root, host


def build(root: Path, *options: str, code: int = 0) -> str:
    """In threads: a cluster takes seconds to start, and what is asked of a host does not depend on it."""
    return run_mcgurk("build", "--root", str(root), *options, "--compute", "threads", code=code)


def failures(root: Path) -> dict[str, dict]:
    told = json.loads(run_mcgurk("failures", "--root", str(root), "--json").splitlines()[-1])
    return {one["video_id"]: one for one in told}


def in_shards(root: Path) -> int:
    return json.loads(run_mcgurk("status", "--root", str(root), "--json"))["in_shards"]


def test_what_is_gone_is_asked_for_again_only_where_somebody_appeals(hosted):
    root, host = hosted
    lost = failures(root)
    assert set(lost) == {"clip1", "clip3"}
    assert all("build --retry removed tries it again now" in one["remedy"] for one in lost.values())

    build(root)  # what the schedule runs
    assert not host.asked and in_shards(root) == 3

    told = build(root, "--retry", "removed")
    assert "2 segment(s) reopened" in told
    assert set(host.asked) == {"clip1", "clip3"} and in_shards(root) == 5 and failures(root) == {}


def test_a_video_is_appealed_alone(hosted):
    root, host = hosted

    assert "1 segment(s) reopened" in build(root, "--retry", "clip3")

    assert set(host.asked) == {"clip3"} and set(failures(root)) == {"clip1"}


def test_what_is_still_gone_waits_on(hosted):
    root, host = hosted
    host.statuses |= {"clip1": 404, "clip3": 404}

    build(root, "--retry", "clip1", "clip3")
    host.asked.clear()
    build(root)

    assert set(failures(root)) == {"clip1", "clip3"} and not host.asked and in_shards(root) == 3


def test_a_name_that_is_neither_a_class_nor_missing_is_refused(hosted):
    root, host = hosted

    told = build(root, "--retry", "clip0", code=2)

    assert "--retry clip0: neither a class of failure nor a video that is missing here" in told
    assert not host.asked


def test_the_verdict_on_a_local_file_falls_with_the_file(tmp_path, prefect_server):
    (path,) = write_clips(tmp_path / "media", IDS)
    film = tmp_path / "media" / "clip2.mp4"
    whole = film.read_bytes()
    film.write_bytes(b"not a film" * 500)
    root = tmp_path / "root"
    source = ("--source", f"folder:{film.parent}", "--segments", str(path), "--preset", "small")
    build(root, *source)
    assert set(failures(root)) == {"clip2"}
    assert "nothing to do" in build(root)  # the same file has the same verdict

    film.write_bytes(whole)
    build(root)

    assert in_shards(root) == 5
