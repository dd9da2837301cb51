"""The metrics of a training survive its process."""

import pytest

from schemas.errors import DataError
from training.tracking.runs import History


def test_what_was_told_twice_counts_once_and_what_was_cut_not_at_all(tmp_path):
    path = tmp_path / "run" / "history.jsonl"
    first = History(path)
    for step in (1, 2, 3):
        first.add({"step": step, "loss": 1.0})
    with path.open("a") as file:
        file.write('{"step": 4, "lo')

    again = History(path)
    again.add({"step": 3, "loss": 0.5})

    assert again.steps == [{"step": n, "loss": loss} for n, loss in ((1, 1.0), (2, 1.0), (3, 0.5))]
    assert History(path).steps == again.steps


def test_a_training_that_went_back_keeps_nothing_of_what_was_lost(tmp_path):
    path = tmp_path / "history.jsonl"
    killed = History(path)
    for step in (1, 2, 3, 4):
        killed.add({"step": step, "loss": 1.0})

    again = History(path)
    again.add({"step": 2, "loss": 0.5})  # and its seconds are spent

    assert [metrics["step"] for metrics in again.steps] == [1, 2]
    assert History(path).steps == again.steps


def test_a_line_that_is_no_json_is_named(tmp_path):
    path = tmp_path / "history.jsonl"
    path.write_text('{"step": 1}\n{"step": 2\n{"step": 3}\n')

    with pytest.raises(DataError, match=r"line 2 of .*history.jsonl is not JSON"):
        History(path)
