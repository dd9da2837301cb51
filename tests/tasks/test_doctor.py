"""The doctor names what is lacking, with its remedy, and tells no secret."""

import time

import pytest
from clocks import FakeClock
from real_servers import hosting

from flows.commands.doctor import doctor_text
from tasks.acquisition import doctor
from tasks.acquisition.doctor import examine
from tasks.transport.lanes import DAY_S, Lane, LaneConfig

COOKIES = "# Netscape HTTP Cookie File\n.h\tTRUE\t/\tTRUE\t{}\tsid\ts3cr3t\n"


def of_lane(tmp_path, told, **lane):
    secrets = {f"env:{name}": value for name, value in told.items()}

    def secret(name):
        if name not in secrets:
            raise ValueError(f"a lane names {name}, but the environment has none")
        return secrets[name]

    found = examine([LaneConfig("a", **lane)], tmp_path, secret)
    assert "s3cr3t" not in doctor_text(found)
    return found[-1]


def test_a_machine_that_runs_the_tests_has_what_it_needs(tmp_path):
    found = {one.what: one for one in examine([], tmp_path / "not" / "there", lambda name: name)}

    assert set(found) == {
        "JavaScript runtime",
        "yt-dlp and its solver",
        "ffmpeg",
        "clock",
        "disk",
        "state folder",
    }
    for what in ("yt-dlp and its solver", "ffmpeg", "clock"):
        assert found[what].remedy == ""
    assert "ffmpeg version" in found["ffmpeg"].found


def test_each_lack_has_its_remedy(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr(doctor.sys, "executable", str(tmp_path / "python"))
    monkeypatch.setattr(doctor, "LEAST_FREE_BYTES", 1 << 60)
    monkeypatch.setattr(doctor, "EARLIEST_S", 1 << 40)

    found = {one.what: one.remedy for one in examine([], tmp_path, lambda name: name)}

    assert "pip install deno" in found["JavaScript runtime"]
    assert "--state" in found["disk"]
    assert "timedatectl" in found["clock"]


def test_a_secret_that_is_not_there_is_named(tmp_path):
    found = of_lane(tmp_path, {}, proxy="env:PROXY")

    assert "the environment has none" in found.found and "env:PROXY" in found.remedy


@pytest.mark.parametrize(
    ("text", "found", "is_well"),
    [
        (COOKIES.format(0), "1 cookie(s), 0 expired", True),
        (COOKIES.format(4_000_000_000), "1 cookie(s), 0 expired", True),
        (COOKIES.format(1_000_000_000), "1 cookie(s), none of them still valid", False),
        ("/home/me/s3cr3t.txt", "not the text of a cookies file", False),
    ],
)
def test_cookies_are_read_and_their_age_is_told(tmp_path, text, found, is_well):
    told = of_lane(tmp_path, {"C": text}, cookies="env:C")

    assert told.found == found
    assert (told.remedy == "") == is_well


def test_a_proxy_is_reached_or_not(tmp_path):
    with hosting({}) as host:
        address = host.address.replace("://", "://me:s3cr3t@")
        there = of_lane(tmp_path, {"P": address}, proxy="env:P")
    gone = of_lane(tmp_path, {"P": address}, proxy="env:P")

    assert there.found.endswith("answers") and not there.remedy
    assert "does not answer" in gone.found and gone.remedy


@pytest.mark.parametrize("password", ["s3cr3t/x", "s3cr3t#x", "s3cr3t?x", "s3cr3t[x", "1234/x"])
def test_a_proxy_whose_password_is_not_encoded_is_told_without_it(tmp_path, password):
    told = of_lane(tmp_path, {"P": f"http://me:{password}@host:3128"}, proxy="env:P")

    assert told.found == "not a URL" and "percent-encoded" in told.remedy


@pytest.mark.parametrize("text", ["no program", "#!/bin/sh\nexit 1\n"])
def test_an_ffmpeg_that_does_not_run_is_told(tmp_path, text, monkeypatch):
    path = tmp_path / "ffmpeg"
    path.write_text(text)
    path.chmod(0o755)
    monkeypatch.setattr(doctor, "ffmpeg_path", lambda: str(path))

    found = {one.what: one for one in examine([], tmp_path, str)}["ffmpeg"]

    assert found.found == f"{path} does not run" and "imageio-ffmpeg" in found.remedy


def test_a_lane_whose_memory_is_of_a_wrong_clock_is_named(tmp_path):
    for name, ahead_s in (("right", 0.0), ("wrong", 28 * 365 * DAY_S)):
        Lane(LaneConfig(name), tmp_path, FakeClock(time.time() + ahead_s)).failed("bot_check", "yt-dlp 1")

    found = [one for one in examine([], tmp_path, lambda name: name) if one.what.startswith("lane ")]

    (wrong,) = found
    assert wrong.what == "lane wrong: clock"
    assert "a run wrote that while the clock was ahead" in wrong.found
    assert "timedatectl" in wrong.remedy and "counts as now" in wrong.remedy
