"""Whatever a host answers gets its class, and costs its own video only."""

from collections import Counter

import pytest
import timecode
from raw_answers import OK, answers, sending
from small_roots import RECIPE, clip_rows, fetch, indexed

from schemas.errors import OperationalError
from schemas.outcome import TRACE, ItemError, Transient
from tasks import sources
from tasks.transport.hatches import Hatches
from tasks.transport.policy import Access

UNKNOWN_SHARE = 0.05


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    return timecode.write(tmp_path_factory.mktemp("clip") / "clip.mp4", RECIPE)


def classes(told, folder, through="", names=None):
    """What is fetched of each answer by name: the file, or the class of the failure."""
    found = {}
    with (
        sending({name: one.content for name, one in told.items()}) as address,
        sources.open_source(
            f"{address}/{{video_id}}.mp4", folder, Access(hatches=Hatches(through=through))
        ) as fetching,
    ):
        for name in names or told:
            try:
                found[name] = fetching(name, folder / name).read_bytes()
            except (ItemError, Transient) as error:
                found[name] = error.reason
    return found


def test_each_of_two_hundred_answers_gets_its_class(clip, tmp_path):
    told = answers(clip.read_bytes())

    found = classes(told, tmp_path)

    wrong = {
        name: (one.reason, found[name])
        for name, one in told.items()
        if found[name] != (clip.read_bytes() if one.reason == OK else one.reason)
    }
    assert wrong == {}
    assert len(told) >= 200
    assert Counter(found.values())["unknown"] <= UNKNOWN_SHARE * len(told)


def test_redirects_and_media_get_the_same_class_through_yt_dlp(clip, tmp_path):
    told = answers(clip.read_bytes())
    names = [
        "plain",
        "typed",
        "html",
        "to_ftp",
        "status_404_0",
        "status_429_1",
        *(n for n in told if "302" in n),
    ]

    found = classes(told, tmp_path, "yt-dlp", names)

    assert {name: one if isinstance(one, str) else OK for name, one in found.items()} == {
        name: told[name].reason for name in names
    }
    assert found["to_302_chain"] == found["plain"] == clip.read_bytes()


def test_answers_that_break_a_parser_wait_with_their_trace_and_the_others_are_fetched(clip, tmp_path):
    told = answers(clip.read_bytes())
    names = ["plain", "mpd_of_zero", "mpd_of_memory", "to_302_path", "hls"]
    root = indexed(tmp_path / "root", names)
    with sending({name: told[name].content for name in told}) as address:
        fetch(root, f"{address}/{{video_id}}.mp4")

    rows = clip_rows(root)
    assert {name: row["outcome"] for name, row in rows.items()} == {
        "plain": "ok", "to_302_path": "ok", "hls": "ok", "mpd_of_zero": "waiting", "mpd_of_memory": "waiting",
    }  # fmt: skip
    assert {rows[name]["reason"] for name in names if name.startswith("mpd")} == {"unknown"}
    assert rows["mpd_of_zero"]["detail"].startswith(TRACE)
    assert "ZeroDivisionError" in rows["mpd_of_zero"]["detail"]
    assert "MemoryError" in rows["mpd_of_memory"]["detail"]


def test_many_unexpected_answers_stop_the_stage_after_all_was_written(clip, tmp_path):
    broken = answers(clip.read_bytes())["mpd_of_zero"].content
    names = [f"bad{n}" for n in range(5)]
    root = indexed(tmp_path / "root", ["plain", *names])
    sent = {"plain": answers(clip.read_bytes())["plain"].content, **dict.fromkeys(names, broken)}
    with (
        sending(sent) as address,
        pytest.raises(OperationalError, match="5 of 6 videos of part 0 were answered"),
    ):
        fetch(root, f"{address}/{{video_id}}.mp4")

    rows = clip_rows(root)
    assert {row["reason"] for name, row in rows.items() if name in names} == {"unknown"}
    assert rows["plain"]["outcome"] == "ok"
