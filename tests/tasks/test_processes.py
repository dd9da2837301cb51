"""A program that yt-dlp starts is as confined as one that we start."""

import os
import subprocess

import pytest
import timecode
import yt_dlp
from ffmpeg_runs import run_ffmpeg
from small_roots import RECIPE
from yt_dlp.postprocessor.ffmpeg import FFmpegMergerPP

from tasks.media.merging import merger
from tasks.media.probe import probe
from tasks.processes import write_confined

SHOWN = "env; ulimit -t; ulimit -v"


def run(path, *arguments, **environment):
    given = {"PATH": os.environ["PATH"], **environment}
    return subprocess.run([path, *arguments], env=given, capture_output=True, text=True, check=True).stdout


def test_a_confined_program_has_limits_and_no_secret(tmp_path):
    path = write_confined(tmp_path / "a b" / "sh", "/bin/sh", seconds=7, memory_bytes=1 << 30)

    told = run(path, "-c", SHOWN, SECRET="s3cr3t", HOME="/home/me")

    assert told.splitlines()[-2:] == ["7", str(1 << 20)]
    assert "s3cr3t" not in told and "HOME" not in told and "PATH=" in told


def test_limits_that_are_lower_stay(tmp_path):
    inner = write_confined(tmp_path / "inner", "/bin/sh", seconds=7, memory_bytes=1 << 30)
    path = write_confined(tmp_path / "outer", str(inner), seconds=5, memory_bytes=1 << 29)

    assert run(path, "-c", SHOWN).splitlines()[-2:] == ["5", str(1 << 19)]


@pytest.mark.parametrize("name", ["state", "the state's"])
def test_yt_dlp_merges_with_the_confined_ffmpeg(tmp_path, name):
    whole = timecode.write(tmp_path / "clip.mp4", RECIPE)
    parts = {}
    for stream in "va":
        parts[stream] = str(tmp_path / f"{stream}.mp4")
        run_ffmpeg("-i", whole, "-map", f"0:{stream}", "-c", "copy", parts[stream])
    formats = [
        {"vcodec": "h264", "acodec": "none", "protocol": "https", "filepath": parts["v"]},
        {"vcodec": "none", "acodec": "aac", "protocol": "https", "filepath": parts["a"]},
    ]
    target = str(tmp_path / "merged.mp4")
    info = {"filepath": target, "requested_formats": formats, "__files_to_merge": list(parts.values())}

    with yt_dlp.YoutubeDL({"ffmpeg_location": str(merger(tmp_path / name)), "quiet": True}) as downloader:
        FFmpegMergerPP(downloader).run(info)

    facts = probe(tmp_path / "merged.mp4")
    assert facts.width_px and facts.sample_rate_hz
