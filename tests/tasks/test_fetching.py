"""The lanes at work: whose fault a failure is decides whether the next video is asked for."""

import json
import logging
import re
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
import timecode
from clocks import FakeClock
from real_servers import hosting, wait_for
from small_roots import NOW, RECIPE, clip_rows, indexed

from schemas.outcome import Transient
from tasks import download
from tasks.acquisition import fetching
from tasks.acquisition.fetching import DownloadConfig, DownloadContext
from tasks.parts import plan_stage
from tasks.transport.lanes import LaneClosed
from tasks.transport.policy import Access
from tasks.transport.ytdlp import Downloader

TEMPLATE = "/{video_id}.mp4"
IDS = [f"video{n}" for n in range(6)]
SLOW = {"name": "slow", "requests_per_hour": 3600, "videos_per_hour": 1200, "patience_s": 60}


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    return timecode.write(tmp_path_factory.mktemp("clip") / "clip.mp4", RECIPE)


class Run:
    """Downloads on days of one clock; `lanes` are those of the state folder."""

    def __init__(self, folder, ids, lanes=(), **config):
        self.root = indexed(folder / "root", ids)
        self.config = config
        self.clock = FakeClock(NOW.timestamp())
        if lanes:
            (self.root / "state").mkdir(exist_ok=True)
            (self.root / "state" / "lanes.json").write_text(json.dumps(lanes))

    def __call__(self, host, days=0.0, secret=None):
        now = NOW + timedelta(days=days)
        self.clock.sleep_until(now.timestamp())
        config = DownloadConfig(host.address + TEMPLATE, **self.config)
        stage = download.stage(self.root, config)
        due = download.with_due(stage, plan_stage(stage), now).due()
        extra = {"secret": secret} if secret else {}
        tried = download.run(
            stage, due, config, DownloadContext(now, self.root / "state", self.clock, **extra)
        )
        return tried, {video: (row["outcome"], row["reason"]) for video, row in clip_rows(self.root).items()}


def test_a_lane_that_is_limited_stops_and_no_segment_is_charged(tmp_path, clip):
    run = Run(tmp_path, IDS, [{"name": "only"}])
    with hosting(dict.fromkeys(IDS, clip)) as host:
        host.statuses |= dict.fromkeys(IDS, 429)

        tried, verdicts = run(host)

        assert tried == 1  # and nobody asked again
        assert sorted(verdicts.values()) == [("waiting", "queued")] * 5 + [("waiting", "rate_limited")]
        assert {row["attempts"] for row in clip_rows(run.root).values()} == {0}
        host.statuses.clear()
        assert run(host, 0.02)[0] == 0  # the lane is still closed
        assert run(host, 0.1) == (6, dict.fromkeys(IDS, ("ok", "")))


def test_the_other_lane_goes_on(tmp_path, clip):
    run = Run(tmp_path, IDS, [{"name": "one"}, {"name": "two"}])
    with hosting(dict.fromkeys(IDS, clip)) as host:
        run.root.joinpath("state", "lanes").mkdir()
        run.root.joinpath("state", "lanes", "one.json").write_text(
            json.dumps({"closed_until_s": run.clock.now_s() + 1e5, "why": "bot_check"})
        )

        _, verdicts = run(host)

    assert set(verdicts.values()) == {("ok", "")}
    assert {row["lane"] for row in clip_rows(run.root).values()} == {"two"}


def test_the_evidence_of_a_failure_is_kept(tmp_path):
    run = Run(tmp_path, ["gone"], [{"name": "only"}])
    with hosting({}) as host:
        run(host)

    row = clip_rows(run.root)["gone"]
    assert (row["status"], row["detail"], row["lane"]) == (404, "HTTP 404", "only")
    assert re.fullmatch(r"urllib3 2\.[\d.]+, yt-dlp 20[\d.]+", row["tool"])
    assert row["tried_at"] == NOW.isoformat()


def test_gone_counts_only_while_the_canary_is_there(tmp_path, clip):
    run = Run(tmp_path, ["gone"], [{"name": "only"}], canary="bird")
    with hosting({}) as host:
        run(host)
        unvouched = clip_rows(run.root)["gone"]
        host.files["bird"] = clip
        run(host, 1.0)
        vouched = clip_rows(run.root)["gone"]

    assert (unvouched["outcome"], unvouched["attempts"]) == ("waiting", 0)
    assert (vouched["outcome"], vouched["attempts"]) == ("waiting", 1)


def test_a_video_that_came_through_this_hour_vouches_as_well_as_the_canary(tmp_path, clip):
    run = Run(tmp_path, ["here", "gone"], [{"name": "only"}], canary="bird")
    with hosting({"here": clip, "bird": clip}) as host:
        run(host)

    assert clip_rows(run.root)["gone"]["attempts"] == 1
    assert host.asked["bird"] <= 2  # asked at most once, before anything else had come through


@pytest.mark.parametrize("at", [1, 2])  # while the video is looked up, and while its file is asked for
@pytest.mark.parametrize("error", [LaneClosed("only", "its hours", 0.0), Transient("network", "mixed")])
def test_what_stops_a_request_of_ours_is_not_taken_for_an_unknown_failure(tmp_path, clip, error, at):
    requests = iter(range(1, 9))

    def gate():
        if next(requests) == at:
            raise error

    downloader = Downloader({"allowed_extractors": ["generic"]}, Access(gate), direct_only=True)
    with hosting({"one": clip}) as host, pytest.raises(type(error)) as raised:
        downloader.fetch(f"{host.address}/one.mp4", tmp_path)

    assert raised.value.args == error.args


def test_a_turn_ends_and_what_is_left_is_due_in_the_next(tmp_path, clip):
    run = Run(tmp_path, IDS, [SLOW], turn_s=8.0)
    with hosting(dict.fromkeys(IDS, clip)) as host:
        first, verdicts = run(host)
        again, _ = run(host, 0.01)
        run(host, 0.02)
        _, last = run(host, 0.03)

    assert 0 < first < len(IDS) and again > 0
    assert {verdict for verdict in verdicts.values()} == {("ok", ""), ("waiting", "queued")}
    assert set(last.values()) == {("ok", "")}


def test_secrets_stand_nowhere(tmp_path, clip, caplog):
    caplog.set_level("DEBUG")
    run = Run(tmp_path, ["one", "gone"], [{"name": "only", "cookies": "env:COOKIES", "proxy": "env:PROXY"}])
    told = {"env:COOKIES": "# Netscape HTTP Cookie File\n.host\tTRUE\t/\tFALSE\t0\tsid\ts3cr3t-c00kie\n"}
    with hosting({"one": clip}) as host:
        told["env:PROXY"] = "http://me:s3cr3t-pr0xy@127.0.0.1:9"  # nobody listens there

        run(host, secret=told.__getitem__)

    assert {row["reason"] for row in clip_rows(run.root).values()} == {"network"}
    for file in run.root.rglob("*"):
        assert not file.is_file() or b"s3cr3t" not in file.read_bytes(), file
    assert "s3cr3t" not in caplog.text


def test_a_host_that_keeps_it_waiting_is_named(tmp_path, clip, caplog, monkeypatch):
    monkeypatch.setattr(fetching, "REPORT_S", 0.05)  # a minute for users: no test waits for that
    caplog.set_level(logging.INFO)
    run = Run(tmp_path, ["video0"])
    with hosting({"video0": clip}) as host, ThreadPoolExecutor(1) as pool:
        host.gate.clear()
        tried = pool.submit(run, host)
        wait_for(lambda: "in progress: video0 for" in caplog.text, "a line that names it")
        host.gate.set()

        assert tried.result() == (1, {"video0": ("ok", "")})
