"""Downloading: one bad video is a row, a bad world is an error, and nothing is fetched twice."""

import shutil
import struct
from dataclasses import replace
from datetime import datetime, timedelta

import pytest
import timecode
from ffmpeg_runs import run_ffmpeg
from real_servers import hosting
from small_roots import NOW, RECIPE, clip_rows, day, fetch, indexed, key_of, media
from timecode import Recipe

from schemas import layout
from schemas.clip import CLIPS
from schemas.manifest import PartHeader, part_path, read_header, read_part, write_part
from tasks import download
from tasks.acquisition import ledger
from tasks.acquisition.retry_schedule import LADDER_DAYS
from tasks.download import DownloadConfig
from tasks.media.probe import probe
from tasks.parts import plan_stage, read_inputs
from tasks.transport.failure_classes import GONE

TEMPLATE = "/{video_id}.mp4"


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    """One clip, which every test serves by any name."""
    return timecode.write(tmp_path_factory.mktemp("clip") / "clip.mp4", RECIPE)


def box(name: bytes, content: bytes = b"") -> bytes:
    return struct.pack(">I4s", 8 + len(content), name) + content


def verdicts(root):
    return {video: (row["outcome"], row["reason"]) for video, row in clip_rows(root).items()}


def test_a_clip_says_what_its_file_is(tmp_path, clip):
    root = indexed(tmp_path / "root", ["clip"])

    fetch(root, f"folder:{clip.parent}")

    row = clip_rows(root)["clip"]
    assert (row["outcome"], row["reason"], row["attempts"], row["next_attempt_at"]) == ("ok", "", 0, None)
    assert row["path"] == f"clips/media/000000/{key_of('clip')}.mkv"
    assert (row["width_px"], row["height_px"], row["sample_rate_hz"]) == (384, 256, 16_000)
    assert (root / row["path"]).stat().st_size == row["size_bytes"]
    assert row["length_s"] == 2.0 and row["covered_s"] == pytest.approx(2.0, abs=0.05)


def test_what_is_gone_waits_until_it_is_confirmed_on_other_days(tmp_path):
    root = indexed(tmp_path, ["gone"])
    seen = []
    days = 0.0

    with hosting({}) as host:
        for _ in range(GONE.sightings):
            assert fetch(root, host.address + TEMPLATE, days) == 1
            row = clip_rows(root)["gone"]
            seen.append((row["outcome"], row["reason"], row["attempts"]))
            days = (datetime.fromisoformat(row["next_attempt_at"]) - NOW) / timedelta(days=1)

    assert seen == [("waiting", "removed", 1), ("waiting", "removed", 2), ("unavailable", "removed", 3)]
    assert row["detail"] == "HTTP 404"


def test_each_failed_attempt_is_followed_by_a_longer_pause(tmp_path):
    root = indexed(tmp_path / "root", ["gone"])
    folder = media(tmp_path / "media", {})
    pauses = []
    days = 0.0

    for _ in range(len(LADDER_DAYS) + 1):
        fetch(root, f"folder:{folder}", days)
        again = datetime.fromisoformat(clip_rows(root)["gone"]["next_attempt_at"])
        pauses.append((again - NOW).days - days)
        days += pauses[-1]

    assert pauses == [*LADDER_DAYS, LADDER_DAYS[-1]]


def test_nothing_is_asked_again_before_it_is_due(tmp_path):
    root = indexed(tmp_path, ["gone"])
    config = DownloadConfig()
    stage = download.stage(root, config)

    with hosting({}) as host:
        fetch(root, host.address + TEMPLATE)
        asked = host.asked["gone"]

        assert fetch(root, host.address + TEMPLATE, 0.99) == 0
        assert host.asked["gone"] == asked
    (due,) = download.with_due(stage, plan_stage(stage), day(root, 1.0).now).parts
    assert (due.state, due.reason) == ("failed", "1 segment(s) due again")


def test_a_video_that_comes_back_is_taken(tmp_path, clip):
    root = indexed(tmp_path, ["lost"])

    with hosting({}) as host:
        fetch(root, host.address + TEMPLATE)
        host.files["lost"] = clip
        fetch(root, host.address + TEMPLATE, 1.0)

    row = clip_rows(root)["lost"]
    assert (row["outcome"], row["attempts"], row["next_attempt_at"]) == ("ok", 0, None)


def test_a_page_is_not_media(tmp_path):
    page = tmp_path / "page.html"
    page.write_text("<!doctype html><html><body><video src='/clip.mp4'></video></body></html>")
    root = indexed(tmp_path / "root", ["page"])

    with hosting({"page": page}) as host:
        fetch(root, f"{host.address}/{{video_id}}")

    assert verdicts(root) == {"page": ("waiting", "not_media")}
    assert host.asked.keys() == {"page"}  # what it links to is left alone


def test_a_file_without_streams_is_empty_and_confirmed_later(tmp_path):
    mvhd = struct.pack(">5I", 0, 0, 0, 1000, 1000) + bytes(80)
    bare = tmp_path / "bare.mp4"
    bare.write_bytes(box(b"ftyp", b"isom\0\0\2\0isom") + box(b"moov", box(b"mvhd", mvhd)) + box(b"mdat"))
    root = indexed(tmp_path / "root", ["bare"])

    with hosting({"bare": bare}) as host:
        fetch(root, host.address + TEMPLATE)

    assert verdicts(root) == {"bare": ("waiting", "empty")}


def test_noise_named_as_media_is_quarantined_and_never_due(tmp_path):
    (tmp_path / "noise.mp4").write_bytes(bytes(range(256)) * 64)
    root = indexed(tmp_path / "root", ["noise"])

    fetch(root, f"folder:{tmp_path}")

    assert verdicts(root) == {"noise": ("quarantined", "decodable")}
    assert clip_rows(root)["noise"]["next_attempt_at"] is None


def test_trouble_of_the_world_is_due_again_at_once(tmp_path, clip):
    reasons = {"503": "network", "500": "network"}
    root = indexed(tmp_path, reasons)

    with hosting(dict.fromkeys(reasons, clip)) as host:
        host.statuses |= {status: int(status) for status in reasons}
        fetch(root, host.address + TEMPLATE)
        rows = clip_rows(root)
        host.statuses.clear()
        fetch(root, host.address + TEMPLATE)

    assert {status: row["reason"] for status, row in rows.items()} == reasons
    assert {(row["outcome"], row["attempts"]) for row in rows.values()} == {("waiting", 0)}
    assert {row["next_attempt_at"] for row in rows.values()} == {NOW.isoformat()}
    assert set(verdicts(root).values()) == {("ok", "")}


def test_a_broken_world_stops_the_stage_after_its_rows_are_written(tmp_path, clip):
    ids = [f"video{n}" for n in range(9)]
    root = indexed(tmp_path, ids)

    with hosting(dict.fromkeys(ids, clip)) as host:
        host.statuses |= dict.fromkeys(ids[:5], 503)
        with pytest.raises(RuntimeError, match="5 of 9 videos failed through no fault of their own"):
            fetch(root, host.address + TEMPLATE)

    assert [verdicts(root)[video][0] for video in ids] == ["waiting"] * 5 + ["ok"] * 4


def test_many_lost_videos_are_no_broken_world(tmp_path):
    root = indexed(tmp_path / "root", [f"video{n}" for n in range(9)])

    fetch(root, f"folder:{media(tmp_path / 'empty', {})}")

    assert set(verdicts(root).values()) == {("waiting", "removed")}


def test_what_a_killed_run_fetched_is_adopted(tmp_path, clip):
    root = indexed(tmp_path, ["first", "later"])

    with hosting({"first": clip, "later": clip}) as host:
        fetch(root, host.address + TEMPLATE)
        (root / "clips" / "000000.parquet").unlink()  # killed before it wrote its part
        asked = sum(host.asked.values())
        again = fetch(root, host.address + TEMPLATE)

    assert again == 0
    assert sum(host.asked.values()) == asked
    assert set(verdicts(root).values()) == {("ok", "")}


def test_a_kill_loses_one_video_only(tmp_path, clip):
    root = indexed(tmp_path, ["first", "later"])

    with hosting({"first": clip, "later": clip}) as host:
        fetch(root, host.address + TEMPLATE, lanes=1)
        path = root / "state" / "attempts" / "000000.jsonl"
        path.write_bytes(path.read_bytes()[:-20])  # torn in the last line
        (root / "clips" / "000000.parquet").unlink()
        again = fetch(root, host.address + TEMPLATE)

    assert again == 1
    assert {row["outcome"] for row in ledger.latest(root / "state", 0).values()} == {"ok"}
    assert set(verdicts(root).values()) == {("ok", "")}


def test_a_clip_that_vanished_is_fetched_again_alone(tmp_path, clip):
    root = indexed(tmp_path, ["first", "later"])
    with hosting({"first": clip, "later": clip}) as host:
        fetch(root, host.address + TEMPLATE)
        before = clip_rows(root)
        (root / before["later"]["path"]).unlink()
        host.asked.clear()

        again = fetch(root, host.address + TEMPLATE)

    assert again == 1
    assert host.asked.keys() == {"later"}
    assert clip_rows(root) == before


def test_ids_may_begin_with_a_dash_or_an_underscore(tmp_path, clip):
    ids = ["-dash", "--help", "_under"]
    root = indexed(tmp_path / "root", ids)

    with hosting(dict.fromkeys(ids, clip)) as host:
        fetch(root, host.address + TEMPLATE)

    assert verdicts(root) == dict.fromkeys(ids, ("ok", ""))
    assert {probe(root / row["path"]).width_px for row in clip_rows(root).values()} == {384}


def test_a_users_folder_is_never_written_to(tmp_path):
    folder = media(tmp_path / "mine", {"good": RECIPE, "mute": Recipe(seconds=2, has_audio=False)})
    (folder / "noise.mp4").write_bytes(bytes(range(256)) * 64)
    before = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in folder.iterdir()}
    root = indexed(tmp_path / "root", ["good", "mute", "noise", "gone"])

    fetch(root, f"folder:{folder}")

    assert {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in folder.iterdir()} == before
    assert [verdicts(root)[video][0] for video in ("good", "mute", "noise", "gone")] == [
        "ok",
        "ok",
        "quarantined",
        "waiting",
    ]


def test_nothing_but_clips_is_left_behind(tmp_path, clip):
    cut_short = tmp_path / "short.mp4"
    cut_short.write_bytes(clip.read_bytes()[: clip.stat().st_size // 2])
    root = indexed(tmp_path / "root", ["clip", "short", "gone"])

    with hosting({"clip": clip, "short": cut_short}) as host:
        fetch(root, host.address + TEMPLATE)

    files = {str(path.relative_to(root)) for path in (root / "clips").rglob("*") if path.is_file()}
    assert files == {"clips/000000.parquet", clip_rows(root)["clip"]["path"]}
    assert not list((root / "state" / "scratch").iterdir())


def test_a_cut_that_fails_leaves_no_file_behind(tmp_path, clip):
    hollow = tmp_path / "hollow.mp4"
    run_ffmpeg(
        "-i", clip, "-c", "copy", "-movflags", "+faststart", hollow
    )  # its header stands before what it describes
    hollow.write_bytes(hollow.read_bytes().partition(b"mdat")[0] + b"mdat")
    root = indexed(tmp_path / "root", ["hollow"])

    fetch(root, f"folder:{tmp_path}")

    row = clip_rows(root)["hollow"]
    assert (row["reason"], row["detail"]) == ("decodable", "the file holds nothing of the segment")
    assert [path.name for path in (root / "clips").rglob("*") if path.is_file()] == ["000000.parquet"]


def test_a_video_is_fetched_once_for_its_segments_in_all_parts(tmp_path, clip):
    root = tmp_path / "root"
    for seconds in (1.0, 2.0):
        indexed(root, ["clip"], part_size=1, seconds=seconds)

    with hosting({"clip": clip}) as host:
        videos = fetch(root, host.address + TEMPLATE)

    assert videos == 1
    assert {part: len(read_header(part_path(root / "clips", part)).files) for part in (0, 1)} == {0: 1, 1: 1}


def test_an_attempt_under_a_clock_set_ahead_is_made_again_at_once(tmp_path, clip):
    root = indexed(tmp_path, ["there", "gone", "later"])
    decades = 28 * 365
    with hosting({"there": clip}) as host:
        source = host.address + TEMPLATE
        fetch(root, source)  # `gone` and `later` wait until tomorrow
        assert fetch(root, source) == 0
        fetch(root, source, days=decades)
        host.files |= {"gone": clip, "later": clip}

        assert fetch(root, source, days=1) == 2

    assert set(verdicts(root).values()) == {("ok", "")}


@pytest.mark.parametrize(("version", "asked"), [(download.VERSION, 0), (download.VERSION - 1, 1)])
def test_a_file_at_which_an_earlier_version_failed_is_asked_for_again(tmp_path, clip, version, asked):
    root = indexed(tmp_path, ["clip"])
    with hosting({"clip": clip}) as host:
        source = host.address + TEMPLATE
        fetch(root, source)
        path = part_path(root / "clips", 0)
        stage = download.stage(root, DownloadConfig(source))
        (segment,) = read_inputs(stage, 0).rows
        (row,) = read_part(path)
        failed = {"outcome": "quarantined", "reason": "bug", "path": None, "digest": ""}
        failed["fingerprint"] = replace(stage, version=version).row_fingerprint(segment)
        write_part(path, [{**row, **failed}], CLIPS, PartHeader("download", "of then", {}))
        shutil.rmtree(root / "state" / layout.ATTEMPTS)
        host.asked.clear()

        fetch(root, source)

    assert len(host.asked) == asked
    assert clip_rows(root)["clip"]["outcome"] == ("ok" if asked else "quarantined")
