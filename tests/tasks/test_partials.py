"""What a killed run fetched of a file is gone on with, if the host vouches that the file is the same."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest
import timecode
from hostile import HostileHost, hostile
from raw_answers import sending
from real_servers import REPOSITORY
from small_roots import RECIPE, clip_rows, fetch, indexed, key_of

from schemas.outcome import ItemError, Transient
from tasks.sources import open_source
from tasks.transport.partials import BOOT, KEPT_S, VALIDATORS, Validators, scratch_of, sweep_scratch
from tasks.transport.policy import Access
from tasks.transport.ytdlp import Downloader

DOWNLOAD = """
import sys
from pathlib import Path
from small_roots import fetch
fetch(Path(sys.argv[1]), sys.argv[2])
"""
ANOTHER = timecode.Recipe(seconds=3, frame_rate=10, sample_rate=16_000)


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    return timecode.write(tmp_path_factory.mktemp("clip") / "clip.mp4", RECIPE)


@pytest.fixture
def killed(tmp_path, clip):
    """A root whose download was killed in the middle of a file, its host, and how much of the file it has."""
    root = indexed(tmp_path / "root", ["one"])
    with hostile(HostileHost(clip, faults={"one": "stall"})) as host:
        part = root / "state" / "scratch" / "one" / "media.mp4.part"
        yield root, host, lambda: killed_once(part, [str(root), f"{host.address}/{{video_id}}.mp4"])


def killed_once(part, arguments):
    """Ends a download with SIGKILL once some of the file is on disk; returns how much that is."""
    paths = os.pathsep.join([str(REPOSITORY), str(REPOSITORY / "tests" / "support")])
    command = [sys.executable, "-c", DOWNLOAD, *arguments]
    with subprocess.Popen(
        command, env={**os.environ, "PYTHONPATH": paths}, start_new_session=True
    ) as process:
        while not (part.is_file() and part.stat().st_size):
            assert process.poll() is None
            time.sleep(0.02)
        os.killpg(process.pid, signal.SIGKILL)
    return part.stat().st_size


def ended(root, host):
    """The next run, on a host that is well again; returns the ranges that it asked for, and the clip's digest."""
    host.faults.clear()
    host.ranges.clear()
    fetch(root, f"{host.address}/{{video_id}}.mp4")
    row = clip_rows(root)["one"]
    assert row["outcome"] == "ok", row["detail"]
    return host.ranges, row["sha256"]


def sha256_of_clip(folder, file):
    """Of the clip that is cut from `file` when it is fetched in one go."""
    root = indexed(folder / "whole", ["one"])
    with hostile(HostileHost(file)) as host:
        return ended(root, host)[1]


def test_the_rest_is_asked_for_and_the_clip_is_the_same(killed, clip, tmp_path):
    root, host, kill = killed
    size = kill()

    ranges, sha256 = ended(root, host)

    assert ranges == [("one", f"bytes={size}-")]
    assert sha256 == sha256_of_clip(tmp_path, clip)
    assert not list((root / "state" / "scratch").iterdir())


def test_another_file_under_the_same_address_is_fetched_whole(killed, tmp_path):
    root, host, kill = killed
    size = kill()
    host.file = timecode.write(tmp_path / "another.mp4", ANOTHER)

    ranges, sha256 = ended(root, host)

    assert ranges == [("one", f"bytes={size}-")]  # if it is still the old one: the answer is all of the new
    assert sha256 == sha256_of_clip(tmp_path, host.file)


def test_what_a_page_leads_to_is_gone_on_with(tmp_path, clip):
    downloader = Downloader({"allowed_extractors": ["generic", "html5"]}, Access(), direct_only=False)
    with hostile(HostileHost(clip, faults={"page": "html", "other": "truncated"})) as host:
        with pytest.raises(Transient):
            downloader.fetch(f"{host.address}/page", tmp_path)
        (part,) = tmp_path.glob("*.part")
        size = part.stat().st_size
        del host.faults["other"]
        host.ranges.clear()

        file = downloader.fetch(f"{host.address}/page", tmp_path)

    assert host.ranges == [("other", f"bytes={size}-")]
    assert file.read_bytes() == clip.read_bytes()


def test_a_part_that_nothing_vouches_for_is_fetched_whole(killed, clip, tmp_path):
    root, host, kill = killed
    host.has_etags = False
    kill()

    ranges, sha256 = ended(root, host)

    assert ranges == []
    assert sha256 == sha256_of_clip(tmp_path, clip)


def test_a_part_from_before_the_machines_start_is_fetched_whole(killed, clip, tmp_path):
    """After a power loss a file may have its size without its bytes, though its host vouches for the same one."""
    root, host, kill = killed
    size = kill()
    folder = root / "state" / "scratch" / "one"
    (folder / "media.mp4.part").write_bytes(bytes(size))
    validators = json.loads((folder / VALIDATORS).read_text())
    (folder / VALIDATORS).write_text(json.dumps({**validators, BOOT: "of an earlier start"}))

    ranges, sha256 = ended(root, host)

    assert ranges == []
    assert sha256 == sha256_of_clip(tmp_path, clip)


def test_a_kill_after_the_answer_about_another_file_mixes_nothing(tmp_path):
    part = tmp_path / "media.mp4.part"
    part.write_text("of the old file")
    Validators(tmp_path).keep("https://host/video", {"ETag": '"old"'})
    assert not part.exists()  # nothing vouched for it
    part.write_text("of the old file")
    Validators(tmp_path).keep("https://host/video", {"ETag": '"old"'})
    assert part.exists()

    Validators(tmp_path).keep("https://host/video", {"ETag": '"new"'})

    assert not part.exists()


def test_the_rest_of_another_file_than_was_asked_for_is_not_taken(tmp_path):
    validators = Validators(tmp_path)
    part = tmp_path / "media.mp4.part"
    validators.keep("https://host/video", {"ETag": '"old"'})
    part.write_text("of the old file")

    validators.keep("https://host/video", {}, is_rest=True)  # a host that obeys, and says no more
    assert part.exists()
    with pytest.raises(Transient, match="part of a different file than requested"):
        validators.keep("https://host/video", {"ETag": '"new"'}, is_rest=True)
    assert not part.exists()


def test_a_range_of_a_list_is_asked_for_as_it_is(tmp_path):
    asked = {"Range": "bytes=800-1799"}

    Validators(tmp_path).put_into(asked, "https://host/all.mp4")

    assert asked == {"Range": "bytes=800-1799"}


def test_a_part_of_an_unknown_address_is_not_continued(tmp_path):
    validators = Validators(tmp_path)
    validators.keep("https://host/video?itag=18&sig=1", {"ETag": '"a"'})
    (tmp_path / "media.mp4.part").touch()
    same = {"Range": "bytes=9-"}
    other = {"Range": "bytes=9-"}

    Validators(tmp_path).put_into(same, "https://other/video?itag=18&sig=2")
    Validators(tmp_path).put_into(other, "https://host/video?itag=22&sig=3")

    assert same == {"Range": "bytes=9-", "If-Range": '"a"'}
    assert other == {}


@pytest.mark.parametrize("headers", [{}, {"ETag": 'W/"a"'}])
def test_within_one_run_a_host_that_names_nothing_is_believed(tmp_path, headers):
    validators = Validators(tmp_path)
    asked = {"Range": "bytes=9-"}
    validators.keep("https://host/video", headers)

    validators.put_into(asked, "https://host/video")

    assert asked == {"Range": "bytes=9-"}


def test_only_parts_that_can_be_continued_are_kept(tmp_path):
    kept = ["media.mp4.part", "validators.json"]
    fragments = ["list.mp4.part", "list.mp4.ytdl", "list.mp4.part-Frag7.part"]
    with scratch_of(tmp_path, "one") as folder:
        for name in (*kept, f"cut-{key_of('one')}.mp4", *fragments):
            (folder / name).write_text("{}")
    with scratch_of(tmp_path, "two") as other:
        (other / "media.mp4").write_text("whole, and cut")

    assert sorted(path.name for path in folder.iterdir()) == kept
    assert not other.exists()

    sweep_scratch(tmp_path)
    assert folder.exists()
    for path in folder.iterdir():
        os.utime(path, (0, time.time() - KEPT_S - 1))
    sweep_scratch(tmp_path)
    assert not folder.exists()


@pytest.mark.parametrize("status", [200, 206])
def test_a_page_in_place_of_the_rest_is_no_media(tmp_path, clip, status):
    """As a host sends it whose link has run out, whatever status it gives."""
    film = clip.read_bytes()
    page = b"<!doctype html><html><body>Please sign in</body></html>"
    half = len(film) // 2
    named = b'ETag: "1"\r\nConnection: close\r\n'
    begun = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n%s\r\n" % (len(film), named)
    span = (
        b"Content-Range: bytes %d-%d/%d\r\n" % (half, half + len(page) - 1, len(film))
        if status == 206
        else b""
    )
    head = b"HTTP/1.1 %d OK\r\nContent-Type: text/html\r\nContent-Length: %d\r\n" % (status, len(page))
    sent = {"one": begun + film[:half]}
    with sending(sent) as address, open_source(f"{address}/{{video_id}}.mp4", tmp_path) as fetch_one:
        with pytest.raises(Transient):
            fetch_one("one", tmp_path / "scratch")
        assert (tmp_path / "scratch" / "media.mp4.part").stat().st_size == half
        sent["one"] = head + span + named + b"\r\n" + page

        with pytest.raises(ItemError, match="not_media"):
            fetch_one("one", tmp_path / "scratch")
