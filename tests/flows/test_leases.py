"""Two builds of one root at once: the same version as one build gives, and no work is done twice."""

import json
import os
import subprocess
import sys
from collections import Counter

import pytest
from real_servers import REPOSITORY, hosting, run_mcgurk
from roots import write_clips

from schemas.shard import read_history, read_version

IDS = [f"clip{n:02d}" for n in range(14)]


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    """A list of clips, and their files by video id."""
    folder = tmp_path_factory.mktemp("clips")
    (path,) = write_clips(folder, IDS)
    return path, {video_id: folder / f"{video_id}.mp4" for video_id in IDS}


def command(root, path, address):
    options = ["--segments", str(path), "--source", f"{address}/{{video_id}}", "--compute", "threads"]
    return ["build", "--root", str(root), "--preset", "demo", *options]


def test_two_builds_at_once_give_one_version_and_fetch_nothing_twice(clips, prefect_server, tmp_path):
    path, files = clips
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    with hosting(files) as host:
        argv = [sys.executable, "-m", "flows.commands.cli", *command(tmp_path / "two", path, host.address)]
        builds = [
            subprocess.Popen(
                argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment
            )
            for _ in range(2)
        ]
        told = [build.communicate(timeout=300)[0] for build in builds]
        asked = dict(host.asked)
        run_mcgurk(*command(tmp_path / "one", path, host.address))

    assert [build.returncode for build in builds] == [0, 0], told
    version = read_version(tmp_path / "one")
    assert read_version(tmp_path / "two") == version
    assert [line["digest"] for line in read_history(tmp_path / "two")] == [version.digest]
    attempts = (tmp_path / "two" / "state" / "attempts").glob("*.jsonl")
    lines = [json.loads(line)["key"] for file in attempts for line in file.read_text().splitlines()]
    assert Counter(lines) == Counter(f"{video_id}_0_2000" for video_id in IDS)
    assert set(asked) == set(IDS) and max(asked.values()) <= 2  # yt-dlp looks at the head, then takes all
    for stage in ("extract: part 0, ", "pack: part 0, ", "download: part 0, "):
        assert sum(text.count(stage) for text in told) == 1, stage
