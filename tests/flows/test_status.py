"""Status tells of the lanes of the state folder that it is given, and of the root's own without one."""

import json

import pytest
from small_roots import fetch, indexed

from flows.commands.cli import main
from tasks.transport.lanes import Lane, LaneConfig


@pytest.fixture
def told(tmp_path, capsys):
    """What status tells, as JSON; one lane is stopped in the root's state folder, another one elsewhere."""
    root = indexed(tmp_path / "root", ["one"])
    (tmp_path / "empty").mkdir()
    fetch(root, f"folder:{tmp_path / 'empty'}")
    for name, state in (("own", root / "state"), ("other", tmp_path / "elsewhere")):
        Lane(LaneConfig(name), state).failed("bot_check", "yt-dlp 1")

    def run(*options):
        assert main(["status", "--root", str(root), *options]) == 0
        return capsys.readouterr().out

    return run


def test_lanes_are_those_of_the_state_folder(told, tmp_path):
    own = json.loads(told("--json"))["lanes"]
    other = json.loads(told("--json", "--state", str(tmp_path / "elsewhere")))["lanes"]

    assert {name: lane["why"] for name, lane in own.items()} == {"own": "bot_check"}
    assert {name: lane["why"] for name, lane in other.items()} == {"other": "bot_check"}


def test_what_is_due_is_built_with_the_same_state_folder(told, tmp_path):
    text = told("--state", str(tmp_path / "elsewhere"))

    assert f"--state {tmp_path / 'elsewhere'}\n" in text
    assert "lane other: closed until" in text


def test_a_lane_is_called_slow_only_where_it_is(told, tmp_path):
    Lane(LaneConfig("fast"), tmp_path / "elsewhere").succeeded()

    (fast,) = [
        line for line in told("--state", str(tmp_path / "elsewhere")).splitlines() if "lane fast" in line
    ]

    assert fast == "lane fast: open; 0 video(s) today"
