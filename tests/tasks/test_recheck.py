"""A recheck asks for what we hold, marks what is gone, and concludes nothing from what proves nothing."""

import json
from contextlib import suppress
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Thread

import pytest
import timecode
from clocks import FakeClock
from real_servers import hosting
from small_roots import NOW, RECIPE, clip_rows, indexed

from tasks import download
from tasks.acquisition.recheck import ask, drop_marks, longest_unasked, read_marks
from tasks.download import DownloadConfig, DownloadContext
from tasks.parts import plan_stage
from tasks.sources import open_source
from tasks.transport.lanes import Lane, LaneConfig
from tasks.transport.policy import Access

IDS = [f"video{n}" for n in range(6)]


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    return timecode.write(tmp_path_factory.mktemp("clip") / "clip.mp4", RECIPE)


class Held:
    """A root whose clips all came from one host, and rechecks of it."""

    def __init__(self, folder, host):
        self.root = indexed(folder / "root", IDS)
        self.state = self.root / "state"
        self.clock = FakeClock(NOW.timestamp())
        self.context = DownloadContext(NOW, self.state, self.clock)
        self.config = DownloadConfig(host.address + "/{video_id}.mp4")
        self.stage = download.stage(self.root, self.config)
        due = download.with_due(self.stage, plan_stage(self.stage), NOW).due()
        download.run(self.stage, due, self.config, self.context)
        host.asked.clear()

    def due(self, most=500, **options):
        return longest_unasked(self.root, self.state, self.config.source, most=most, **options)

    def recheck(self, most=500, **options):
        self.clock.sleep_until(self.clock.now_s() + 60.0)
        return ask(self.stage, self.due(most, **options), self.config, self.context)


@pytest.fixture
def held(tmp_path, clip):
    with hosting(dict.fromkeys(IDS, clip)) as host:
        yield Held(tmp_path, host), host


def test_what_is_gone_is_marked_and_stays(held):
    root, host = held
    rows = clip_rows(root.root)
    host.statuses |= {"video1": 410, "video2": 401, "video3": 503, "video4": 451}

    done = root.recheck()

    assert {mark.video_id: mark.reason for mark in done.gone} == {
        "video1": "removed", "video2": "private", "video4": "copyright",
    }  # fmt: skip
    assert (done.num_there, done.unclear, done.num_unasked) == (2, {"network": 1}, 0)
    marks = read_marks(root.state)
    assert {one.video_id: one.sightings for one in marks.values()} == {
        "video0": 0, "video1": 1, "video2": 1, "video4": 1, "video5": 0,
    }  # fmt: skip
    assert clip_rows(root.root) == rows and not list((root.state / "scratch").iterdir())


class Dripping(BaseHTTPRequestHandler):
    """A host whose files begin like media and never end."""

    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Length", str(1 << 30))
        self.end_headers()
        with suppress(ConnectionError):
            self.wfile.write(self.head)
            self.server.gone.wait(30)

    def log_message(self, *arguments):
        pass


def test_no_media_are_taken(tmp_path, clip):
    """Who waited for the whole file would wait until the host is called slow."""
    Dripping.head = clip.read_bytes()[:8192]
    server = ThreadingHTTPServer(("127.0.0.1", 0), Dripping)
    server.daemon_threads = True
    server.gone = Event()
    Thread(target=server.serve_forever, daemon=True).start()
    source = f"http://127.0.0.1:{server.server_port}/{{video_id}}.mp4"
    try:
        with open_source(source, tmp_path, Access(takes_media=False)) as fetch:
            assert fetch("video0", tmp_path / "empty") == tmp_path / "empty"
    finally:
        server.gone.set()
        server.shutdown()
        server.server_close()

    assert not (tmp_path / "empty").exists()


def test_a_second_recheck_confirms_and_one_that_finds_it_clears(held):
    root, host = held
    host.statuses |= {"video1": 410, "video2": 410}
    root.recheck()
    del host.statuses["video2"]

    done = root.recheck()

    assert [(mark.video_id, mark.is_confirmed) for mark in done.gone] == [("video1", True)]
    assert read_marks(root.state)["video2"].sightings == 0


def test_a_line_that_was_changed_counts_as_not_there(held):
    root, host = held
    host.statuses["video1"] = 404
    root.recheck()
    path = root.state / "rechecks.jsonl"
    text = path.read_text()
    path.write_text(text.replace('"removed"', '"private"') + '{"video_id": "vid\n')

    assert set(read_marks(root.state)) == set(IDS) - {"video1"}
    unsealed = (
        '{"video_id": "old", "asked_at": "2026-01-01T00:00:00+00:00", "sightings": 1}\n{"detail": "x"}\n'
    )
    path.write_text(text + unsealed)  # of before lines had digests
    assert read_marks(root.state)["old"].sightings == 1 and len(read_marks(root.state)) == len(IDS) + 1


def test_the_longest_unasked_come_first(held):
    root, _ = held
    root.recheck(most=2)
    first = set(read_marks(root.state))

    assert len(first) == 2
    assert set(root.due(most=4)) == set(IDS) - first
    assert set(list(root.due())[4:]) == first


def test_what_was_marked_can_come_first(held):
    root, host = held
    host.statuses["video3"] = 404
    root.recheck()

    assert next(iter(root.due(marked_first=True))) == "video3"


def test_a_host_that_has_lost_everything_proves_nothing(held):
    root, host = held
    host.files.clear()

    done = root.recheck()

    assert done.gone == [] and done.unclear == {"removed": len(IDS)}
    assert read_marks(root.state) == {}


def test_a_lane_whose_breaker_is_open_is_left_out(held):
    root, host = held
    lanes = [{"name": "open"}, {"name": "sound"}]
    (root.state / "lanes.json").write_text(json.dumps(lanes))
    Lane(LaneConfig("open"), root.state, root.clock).failed("bot_check", "")
    done = root.recheck()
    assert (done.num_there, done.num_unasked) == (len(IDS), 0)

    Lane(LaneConfig("sound"), root.state, root.clock).failed("bot_check", "")
    host.asked.clear()
    done = root.recheck()

    assert (done.num_there, done.num_unasked) == (0, len(IDS)) and not host.asked


def test_clips_from_elsewhere_are_not_asked_for_here(held):
    root, _ = held
    root.config = replace(root.config, source="http://127.0.0.1:9/{video_id}.mp4")

    assert root.due() == {}


def test_marks_survive_a_torn_line_and_forget_who_is_taken_down(held):
    root, _ = held
    root.recheck()
    with (root.state / "rechecks.jsonl").open("a") as file:
        file.write('{"video_id": "vid')
    root.recheck(most=1)
    assert set(read_marks(root.state)) == set(IDS)

    drop_marks(root.state, ["video1"])

    assert "video1" not in (root.state / "rechecks.jsonl").read_text()
    assert len((root.state / "rechecks.jsonl").read_text().splitlines()) == len(IDS) - 1
