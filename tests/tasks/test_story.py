"""The story of a root: what stands, what is missing by name or by number, and what comes next."""

import json
import re

import pytest
import timecode
from roots import MONDAY, Root, write_clips
from timecode import Recipe

from flows.commands.cli import main
from tasks.columns import read_columns
from tasks.failures import PHRASES, said_of
from tasks.funnel import count_fates
from tasks.status import measure_status
from tasks.story import Loss, losses, story
from tasks.transport.failure_classes import CLASSES

IDS = ["tennis", "mute1", "mute2", "mute3", "damaged", "whole1", "whole2", "nowhere"]


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Root:
    """Eight clips in three parts: four without sound, one is no film, one is not there."""
    folder = tmp_path_factory.mktemp("story")
    lists = write_clips(folder / "videos", IDS)
    for name in ("tennis", "mute1", "mute2", "mute3"):
        timecode.write(folder / "videos" / f"{name}.mp4", Recipe(seconds=2, frame_rate=10, has_audio=False))
    (folder / "videos" / "damaged.mp4").write_bytes(b"no film " * 999)
    (folder / "videos" / "nowhere.mp4").unlink()
    root = Root(folder / "root", f"folder:{folder}/videos", lists)
    root.build()
    return root


def lost(root: Root) -> list[Loss]:
    return losses(root.path, root.state, count_fates(root.path), read_columns)


def test_losses_are_named_where_they_are_few_and_counted_where_they_are_many(root):
    assert [str(one) for one in lost(root)] == [
        "4 have no sound",
        "damaged is damaged",
        "nowhere is gone from the source (to be confirmed)",
    ]


def test_a_person_reads_the_story_first_and_a_program_finds_it_in_its_json(root, capsys):
    assert main(["status", "--root", str(root.path)]) == 0
    first, then, *_ = capsys.readouterr().out.splitlines()
    assert main(["status", "--root", str(root.path), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)

    assert first == (
        "2 of 8 usable; 4 have no sound, damaged is damaged, nowhere is gone from the source (to be confirmed)."
    )
    assert re.fullmatch(r"1 waits for the next build.*: mcgurk build --root .*", then)
    assert told["story"] == [first, then] and told["segments"] == 8


def test_files_are_called_by_the_names_that_their_owner_gave_them(root):
    windows = root.state / "windows"
    windows.mkdir(parents=True, exist_ok=True)
    (windows / "videos.csv").write_text("video_id,file\ndamaged,holiday/Jürgen 1.mov\n")
    try:
        assert "holiday/Jürgen 1.mov is damaged" in [str(one) for one in lost(root)]
    finally:
        (windows / "videos.csv").unlink()


def test_what_was_never_tried_is_no_loss(root, tmp_path):
    from small_roots import indexed

    status = measure_status(indexed(tmp_path / "new", ["one", "two"]), None, MONDAY, "mcgurk build")

    assert status["story"] == ["0 of 2 usable.", "2 wait for the next build: mcgurk build"]


def test_many_kinds_are_summed_up_and_several_segments_of_one_file_are_one_name():
    status = {"in_shards": 90, "segments": 100, "forgotten": 1, "waiting": {}, "due": {"now": 0}, "lanes": {}}
    status |= {"next_attempt_at": "2026-12-01T08:30:00+00:00", "backlog_ends_at": None, "left_out": []}
    lost = [
        Loss("quarantined", "has_audio", 4, ("a.mp4", "b.mp4")),
        Loss("waiting", "network", 2),
        Loss("unavailable", "private", 1, ("c",)),
        Loss("unavailable", "drm", 1),
        Loss("quarantined", "width", 1),
    ]

    standing, following = story(status, lost, "mcgurk build")

    assert standing == (
        "90 of 100 usable; a.mp4 and b.mp4 have no sound (4 segments), 2 are out of reach, c is private, "
        "2 more are missing for 2 other reasons, 1 was taken down."
    )
    assert following == "Next: what is missing is tried again from 2026-12-01 08:30 UTC on: mcgurk build"


def test_a_closed_lane_is_part_of_the_story():
    status = {"in_shards": 1, "segments": 1, "forgotten": 0, "waiting": {}, "due": {"now": 0}}
    status |= {"next_attempt_at": None, "backlog_ends_at": None, "left_out": []}
    status["lanes"] = {"own": {"closed_until": "2026-12-01T08:30:00+00:00", "why": "bot_check"}}

    assert story(status, [], "") == [
        "1 of 1 usable.",
        "Nothing is due.",
        "Lane own is closed until 2026-12-01 08:30 UTC: bot_check.",
    ]


def test_every_reason_reads_as_a_sentence_of_one_and_of_several():
    for reason in {*CLASSES, *PHRASES, "width"}:
        one = said_of(reason, "quarantined", is_one=True)
        several = said_of(reason, "quarantined", is_one=False)
        assert one.split()[0] in ("is", "has", "waits", "ends", "failed")
        assert several.split()[0] in ("are", "have", "wait", "end", "failed")
