"""Lanes are listed by a person: one that can't be taken is told with its file, place, lane, value and remedy."""

import json
from dataclasses import fields

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.errors import RequestError
from tasks.transport.lane_config import RULES, read_lanes
from tasks.transport.lanes import LaneConfig


def test_lanes_are_listed_in_the_state_folder(tmp_path):
    listed = [{"name": "a", "videos_per_hour": 200, "hours": [1, 6], "proxy": "env:PROXY_A"}, {"name": "b"}]
    (tmp_path / "lanes.json").write_text(json.dumps(listed))

    first, second = read_lanes(tmp_path, ())

    assert (first.videos_per_hour, first.hours, first.proxy) == (200, (1, 6), "env:PROXY_A")
    assert second == LaneConfig("b")
    assert read_lanes(tmp_path / "other", (LaneConfig("own"),)) == (LaneConfig("own"),)


@pytest.mark.parametrize(
    ("listed", "why"),
    [
        ({"name": "a"}, "list the lanes as"),
        (["a"], "list the lanes as"),
        ([], "at least one lane"),
        ([{"name": "a"}, {"name": "a"}], "a name of its own"),
        ([{"name": "../up"}], "letters, digits and dashes"),
        ([{"speed": 1}], "'speed': use some of"),
        ([{"proxy": "http://me:secret@proxy"}], "env:NAME or block:NAME, never itself"),
    ],
)
def test_a_list_of_lanes_that_is_none_is_told(tmp_path, listed, why):
    (tmp_path / "lanes.json").write_text(json.dumps(listed))

    with pytest.raises(ValueError, match=why) as told:
        read_lanes(tmp_path, ())

    assert "secret@" not in str(told.value)


@pytest.mark.parametrize(
    ("name", "value", "why"),
    [
        ("hours", [22], r"hours is \[22\]: use two different whole hours"),
        ("hours", [7, 7], "two different whole hours"),
        ("hours", [22, 30], r"as \[1, 7\] or over midnight \[22, 6\]"),
        ("hours", "1-7", 'hours is "1-7"'),
        ("hours", None, "hours is null"),
        ("concurrency", 0, "concurrency is 0: use a whole number from 1"),
        ("concurrency", True, "concurrency is true"),
        ("videos_per_hour", "240", 'videos_per_hour is "240": use a number from 0'),
        ("requests_per_hour", -1, "requests_per_hour is -1"),
        ("videos_per_day", 1.5, "videos_per_day is 1.5"),
        ("jitter_share", 2, "a number from 0 to 1"),
        ("patience_s", float("nan"), "patience_s is NaN"),
        ("cookies", ["s3cr3t"], "cookies: use the name of a secret"),
        ("user_agent", 7, "user_agent is 7: use a text"),
    ],
)
def test_a_value_that_cannot_be_is_told(tmp_path, name, value, why):
    (tmp_path / "lanes.json").write_text(json.dumps([{"name": "home", name: value}]))

    with pytest.raises(ValueError, match=rf"lanes.json:1:19: lane home: .*{why}") as told:
        read_lanes(tmp_path, ())

    assert "s3cr3t" not in str(told.value)


@pytest.mark.parametrize("hours", [[0, 24], [22, 6], [22, 0], [0, 1]])
def test_hours_may_go_over_midnight(tmp_path, hours):
    (tmp_path / "lanes.json").write_text(json.dumps([{"hours": hours}]))

    assert read_lanes(tmp_path, ()) == (LaneConfig(hours=tuple(hours)),)


@pytest.mark.parametrize("text", [b'[{"name": "a"},]', b"", b"\xff"])
def test_what_is_not_json_is_told_with_its_file(tmp_path, text):
    (tmp_path / "lanes.json").write_bytes(text)

    with pytest.raises(ValueError, match=r"lanes.json:(\d+:\d+:)? it is not (JSON|text)"):
        read_lanes(tmp_path, ())


def test_every_field_of_a_lane_has_its_rule():
    assert set(RULES) == {one.name for one in fields(LaneConfig)}


AGENT = 'a, {b}: ["c"]'  # as JSON has them inside and outside of texts


@given(
    count=st.integers(0, 3),
    indent=st.none() | st.integers(0, 4),
    separators=st.sampled_from([(",", ":"), (" , ", "\t: ")]),
)
def test_the_place_of_a_mistake_is_that_of_its_key(count, indent, separators, tmp_path_factory):
    good = [{"name": f"lane{n}", "user_agent": AGENT} for n in range(count)]
    listed = [*good, {"name": "home", "hours": [1, 7], "speeed": {"hours": [9]}}]
    text = json.dumps(listed, indent=indent, separators=separators)
    path = tmp_path_factory.getbasetemp() / "lanes.json"
    path.write_text(text)

    with pytest.raises(RequestError, match="'speeed': use some of") as told:
        read_lanes(path.parent, ())

    line, column = (int(number) for number in str(told.value).removeprefix(f"{path}:").split(":")[:2])
    assert text.split("\n")[line - 1][column - 1 :].startswith('"speeed"')


def test_a_comma_too_many_is_told_with_its_place(tmp_path):
    (tmp_path / "lanes.json").write_text('[\n  {"name": "a"},\n]\n')

    with pytest.raises(RequestError, match=r"lanes.json:3:1: it is not JSON"):
        read_lanes(tmp_path, ())
