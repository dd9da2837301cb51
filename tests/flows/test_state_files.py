"""What mcgurk keeps of its own in a state folder tells its damage with its name and the remedy."""

import json
import logging
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from flows.builds.memory import recall
from flows.builds.signs import news
from flows.experiments.due import last_trained
from schemas.errors import DataError
from schemas.files import write_json
from schemas.layout import SIGNS
from tasks.transport.lanes import LaneState, read_state

NOW = datetime(2026, 11, 30, tzinfo=UTC)
TRAINED = {"digest": "0" * 64, "num_samples": 7, "begun_at": NOW.isoformat(), "outcome": "finished"}
# File, what it holds, who reads it, and what its remedy begins with.
FILES: list[tuple[str, dict, Callable[[Path], object], str]] = [
    (
        SIGNS,
        {"lane home": "2026-11-29"},
        lambda folder: news(folder, folder, NOW),
        "remove it: what fails now",
    ),
    ("trained.json", TRAINED, last_trained, "remove it: the next build decides anew"),
    ("build.json", {"preset": "tiny"}, recall, "remove it, and name preset, source, lists and --state"),
]


@pytest.mark.parametrize(("name", "value", "read", "remedy"), FILES, ids=[one[0] for one in FILES])
@pytest.mark.parametrize("damage", ["cut", "edited", "zeros"])
def test_a_damaged_record_is_told_with_its_remedy(tmp_path, name, value, read, remedy, damage):
    path = tmp_path / name
    write_json(path, value)
    read(tmp_path)
    text = path.read_text()
    last = json.dumps(next(iter(value.values())))
    damaged = {"cut": text[:-10], "edited": text.replace(last, '"another"'), "zeros": "\0" * len(text)}
    path.write_text(damaged[damage])

    with pytest.raises(DataError, match=rf"{path} is damaged.*; {remedy}"):
        read(tmp_path)


def test_a_lane_whose_state_is_damaged_begins_anew_and_says_so(tmp_path, caplog):
    path = tmp_path / "lanes" / "home.json"
    path.parent.mkdir()
    write_json(path, vars(LaneState(slowdown=4.0)))
    assert read_state(tmp_path, "home").slowdown == 4.0
    path.write_text(path.read_text().replace("4.0", "1.5"))

    with caplog.at_level(logging.WARNING):
        found = read_state(tmp_path, "home")

    assert found == LaneState()
    assert f"{path} is damaged, or was edited" in caplog.text
    assert "the lane starts without what it had learnt" in caplog.text
