"""Downloading loses nothing: failures wait with their evidence, and a kill costs one video."""

from datetime import timedelta
from pathlib import Path

import pytest
import timecode
from real_servers import hosting
from roots import MONDAY, Root, write_clips
from timecode import Recipe

from schemas.manifest import read_manifest
from tasks import ledger
from tasks.download import CONFIRMATIONS

IDS = ["-dash000001", "_under00001", "plain000001", "plain000002"]


def clips(root: Root) -> dict[str, dict]:
    return {
        row["video_id"] or row["key"].rsplit("_", 2)[0]: row for _, row in read_manifest(root.path / "clips")
    }


def downloaded(root: Root) -> dict[str, dict]:
    from tasks import index

    index.index(root.path, root.lists, root.config)
    root.run("validate-segments")
    root.run("download")
    return clips(root)


@pytest.fixture
def folder(tmp_path) -> Path:
    write_clips(tmp_path / "videos", IDS)
    return tmp_path / "videos"


def root_over(folder: Path, source: str | None = None) -> Root:
    return Root(folder.parent / "root", source or f"folder:{folder}", [folder / "list.csv"])


def test_ids_that_begin_with_a_dash_are_files_like_others(folder):
    rows = downloaded(root_over(folder))

    assert {video: row["outcome"] for video, row in rows.items()} == dict.fromkeys(IDS, "ok")
    assert all((folder.parent / "root" / row["path"]).is_file() for row in rows.values())


def test_the_users_own_folder_is_never_written_to(folder):
    before = {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}

    downloaded(root_over(folder))

    assert {path.name: path.stat().st_mtime_ns for path in folder.iterdir()} == before


def test_what_is_gone_is_confirmed_on_other_days_before_it_counts(folder):
    (folder / "plain000001.mp4").unlink()
    root, told = root_over(folder), []

    for day in (0, 0, 1, 1, 8):
        root.now = MONDAY + timedelta(days=day)
        row = downloaded(root)["plain000001"]
        told.append((row["outcome"], row["attempts"]))

    assert CONFIRMATIONS == 3
    assert told == [("waiting", 1), ("waiting", 1), ("waiting", 2), ("waiting", 2), ("unavailable", 3)]
    assert row["reason"] == "removed"
    assert row["next_attempt_at"] == (root.now + timedelta(days=30)).isoformat()


def test_a_video_that_comes_back_fills_its_slot(folder):
    content = (folder / "plain000001.mp4").read_bytes()
    (folder / "plain000001.mp4").unlink()
    root = root_over(folder)
    downloaded(root)
    (folder / "plain000001.mp4").write_bytes(content)

    too_early = downloaded(root)["plain000001"]["outcome"]
    root.now += timedelta(days=1)

    assert too_early == "waiting"
    assert downloaded(root)["plain000001"]["outcome"] == "ok"


def test_a_vanished_clip_is_fetched_again(folder):
    root = root_over(folder)
    path = root.path / downloaded(root)["plain000002"]["path"]
    content = path.read_bytes()
    path.unlink()

    downloaded(root)

    assert path.read_bytes() == content


def test_the_rows_of_a_killed_run_are_adopted_and_nothing_is_fetched_twice(folder):
    root = root_over(folder)
    rows = downloaded(root)
    for part in (root.path / "clips").glob("*.parquet"):
        part.unlink()  # killed after the ledger, before the part
    for video in IDS:
        (folder / f"{video}.mp4").unlink()

    assert downloaded(root) == rows


def test_a_segment_past_the_end_is_too_short_at_once(folder):
    (folder / "list.csv").write_text('plain000001, 50.000, 60.000, "/m/09x0r"\n')

    row = downloaded(root_over(folder))["plain000001"]

    assert (row["outcome"], row["reason"], row["next_attempt_at"]) == ("unavailable", "too_short", None)
    assert row["detail"] == "the video ends at 2.20 s, the segment is 50 to 60 s"


def test_two_segments_of_one_video_are_cut_from_one_fetch(tmp_path):
    folder = tmp_path / "videos"
    write_clips(folder, ["plain000001"], Recipe(seconds=6, frame_rate=10))
    lines = [f'plain000001, {start}.000, {start + 2}.000, "/m/09x0r"\n' for start in (0, 2, 4)]
    (folder / "list.csv").write_text("".join(lines))

    with hosting({"plain000001": folder / "plain000001.mp4"}) as host:
        root = root_over(folder, f"{host.address}/{{video_id}}")
        downloaded(root)

    rows = [row for _, row in read_manifest(root.path / "clips")]
    assert [row["outcome"] for row in rows] == ["ok"] * 3
    assert host.asked["plain000001"] == 2  # the head of the answer, then the whole of it


@pytest.mark.parametrize(
    ("content", "outcome", "reason"),
    [
        (b"<!doctype html><html><body>Sorry</body></html>", "waiting", "not_media"),
        (b"", "waiting", "unknown"),
        (bytes(range(256)) * 400, "quarantined", "decodable"),
    ],
)
def test_what_is_no_media_never_counts_as_a_clip(tmp_path, content, outcome, reason):
    folder = tmp_path / "videos"
    write_clips(folder, ["plain000001"])
    (folder / "answer").write_bytes(content)

    with hosting({"plain000001": folder / "answer"}) as host:
        row = downloaded(root_over(folder, f"{host.address}/{{video_id}}"))["plain000001"]

    assert (row["outcome"], row["reason"]) == (outcome, reason), row["detail"]


def test_an_mp4_without_streams_is_not_believed(tmp_path):
    folder = tmp_path / "videos"
    write_clips(folder, ["plain000001"])
    # What yt-dlp leaves and calls a success when there was nothing to cut: boxes, no streams.
    header = (
        b"\x00\x00\x00\x14ftypisom\x00\x00\x02\x00isom" + b"\x00\x00\x00\x08free" + b"\x00\x00\x00\x08mdat"
    )
    mvhd = b"\x00\x00\x00\x6cmvhd" + bytes(12) + b"\x00\x00\x03\xe8" + bytes(84)
    (folder / "plain000001.mp4").write_bytes(header + b"\x00\x00\x00\x74moov" + mvhd)

    row = downloaded(root_over(folder))["plain000001"]

    assert row["outcome"] != "ok"
    assert row["reason"] in ("empty", "decodable")


def test_a_broken_world_stops_the_stage_after_the_rows_are_written(tmp_path):
    ids = [f"plain{n:06d}" for n in range(9)]
    folder = tmp_path / "videos"
    folder.mkdir()
    (folder / "list.csv").write_text("".join(f'{video}, 0.000, 2.000, "/m/1"\n' for video in ids))
    root = root_over(folder, "http://127.0.0.1:9/{video_id}")  # nobody listens on the discard port

    with pytest.raises(RuntimeError, match="for no fault of their own"):
        downloaded(root)

    rows = clips(root)
    assert {(row["outcome"], row["reason"], row["attempts"]) for row in rows.values()} == {
        ("waiting", "network", 0)
    }
    assert {row["next_attempt_at"] for row in rows.values()} == {MONDAY.isoformat()}  # due at once


def test_a_torn_line_spoils_only_itself(tmp_path):
    ledger.append(tmp_path, 0, [{"key": "a", "n": 1}])
    path = tmp_path / "attempts" / "000000.jsonl"
    path.write_bytes(path.read_bytes() + b'{"key": "b", "n"')  # a kill in the middle of a write
    ledger.append(tmp_path, 0, [{"key": "c", "n": 3}, {"key": "a", "n": 4}])

    assert ledger.latest(tmp_path, 0) == {"a": {"key": "a", "n": 4}, "c": {"key": "c", "n": 3}}


def test_a_clip_states_what_its_header_says(tmp_path):
    folder = tmp_path / "videos"
    write_clips(folder, ["plain000001"], Recipe(seconds=2, frame_rate=10, has_audio=False))

    row = downloaded(root_over(folder))["plain000001"]

    assert (row["has_video"], row["has_audio"], row["video_codec"]) == (True, False, "h264")
    assert (row["width_px"], row["height_px"], row["frame_rate_hz"]) == (
        timecode.WIDTH,
        timecode.HEIGHT,
        10.0,
    )
