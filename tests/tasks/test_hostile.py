"""Against a hostile host: every class right, the law of the funnel held, no request beyond the lane's rate."""

import json
from collections import Counter
from datetime import UTC, datetime

import pytest
import timecode
from clocks import FakeClock
from hostile import FAULTS, RETRY_AFTER_S, HostileHost, hostile, seeded
from small_roots import NOW, RECIPE, clip_rows, indexed

from schemas.outcome import funnel
from tasks import download
from tasks.acquisition.fetching import DownloadConfig, DownloadContext
from tasks.parts import plan_stage
from tasks.transport.lanes import DAY_S, HOUR_S, LaneConfig
from tasks.transport.policy import DownloadLimits

LIMITS = DownloadLimits(size_bytes=1 << 22, timeout_s=0.5, patience_s=0.3)
REQUESTS_PER_HOUR = 7200.0
# What a large run meets; what keeps a connection waiting is rarer, because it takes real time.
WEIGHTS = {
    "404": 20, "410": 5, "451": 5, "401": 5, "503": 10, "truncated": 5, "reset": 5, "html": 10, "huge": 5,
    "redirect_scheme": 5, "redirect_loop": 2, "no_range": 10, "named": 10, "429": 1, "403": 2,
}  # fmt: skip


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    return timecode.write(tmp_path_factory.mktemp("clip") / "clip.mp4", RECIPE)


def run(root, host, **config):
    """One run at the clock's time; returns how many videos it tried."""
    now = datetime.fromtimestamp(host.clock.now_s(), UTC)
    asked = DownloadConfig(
        f"{host.address}/{{video_id}}.mp4", limits=LIMITS, max_transient_share=1.0, **config
    )
    stage = download.stage(root, asked)
    due = download.with_due(stage, plan_stage(stage), now).due()
    return download.run(stage, due, asked, DownloadContext(now, root / "state", host.clock)) if due else 0


@pytest.mark.parametrize("lane", [{}, {"impersonate": "chrome"}], ids=["plain", "as_chrome"])
@pytest.mark.parametrize("fault", FAULTS)
def test_what_a_host_does_gets_its_class(tmp_path, clip, fault, lane):
    root = indexed(tmp_path, ["one"])
    (root / "state").mkdir()
    (root / "state" / "lanes.json").write_text(json.dumps([lane]))
    with hostile(HostileHost(clip, FakeClock(NOW.timestamp()), {"one": fault})) as host:
        run(root, host)

    row = clip_rows(root)["one"]
    assert (row["reason"] or row["outcome"]) == FAULTS[fault], row["detail"]
    assert not [path for path in tmp_path.rglob("*") if "evil" in path.name]


def test_retry_after_is_waited_for(tmp_path, clip):
    root = indexed(tmp_path, ["one"])
    with hostile(HostileHost(clip, FakeClock(NOW.timestamp()), {"one": "429_retry_after"})) as host:
        run(root, host)
        asked = len(host.log)
        host.faults.clear()
        host.clock.advance(RETRY_AFTER_S - 1000)
        run(root, host)
        assert len(host.log) == asked
        host.clock.advance(1000)
        run(root, host)

    assert clip_rows(root)["one"]["outcome"] == "ok"


def test_gone_on_monday_and_back_on_friday(tmp_path, clip):
    root = indexed(tmp_path, ["one"])
    clock = FakeClock(NOW.timestamp())  # a Monday
    friday_s = clock.now_s() + 4 * DAY_S
    outcomes = []
    with hostile(HostileHost(clip, clock, {"one": "404"}, {"one": friday_s})) as host:
        for _ in range(10):
            run(root, host)
            outcomes.append(clip_rows(root)["one"]["outcome"])
            clock.advance(DAY_S)

    assert outcomes == ["waiting"] * 8 + ["ok"] * 2  # asked on Monday, Tuesday and a week later
    assert len({round((at_s - NOW.timestamp()) / DAY_S) for at_s, _ in host.log}) == 3


@pytest.mark.parametrize("count", [60, pytest.param(2000, marks=pytest.mark.slow)])
def test_a_run_with_a_third_of_faults_loses_nothing_and_keeps_its_rate(tmp_path, clip, count, monkeypatch):
    ids = [f"video{n:04d}" for n in range(count)]
    root = indexed(tmp_path, ids, part_size=128)
    faults = seeded(ids, 0.35, WEIGHTS, seed=1)
    lane = LaneConfig("polite", requests_per_hour=REQUESTS_PER_HOUR)
    monkeypatch.setattr("tasks.sources.http.LANES", (lane,), raising=False)
    with hostile(HostileHost(clip, FakeClock(NOW.timestamp()), faults)) as host:
        for _ in range(count):
            run(root, host)
            if not [row for row in clip_rows(root).values() if row["reason"] == "queued"]:
                break
            host.clock.advance(HOUR_S)
        rows = clip_rows(root)

    counts = funnel({"outcome": row["outcome"], "reason": row["reason"]} for row in rows.values())
    lost = {name: n for fate in ("waiting", "unavailable") for name, n in counts[fate].items()}
    expected = Counter(FAULTS[fault] for fault in faults.values())
    assert counts["segments"] == count == counts["in_shards"] + sum(lost.values())
    assert lost == {name: n for name, n in expected.items() if name != "ok"}
    times = sorted(at_s for at_s, _ in host.log)
    gap_s = HOUR_S / REQUESTS_PER_HOUR
    assert all(
        times[n + 10] - times[n] >= (10 - lane.jitter_share) * gap_s - 1e-3 for n in range(len(times) - 10)
    )
