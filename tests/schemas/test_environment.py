"""Environment variables that are changed for a while."""

import os

from schemas.environment import changed, restored


def test_variables_are_changed_in_the_block_and_restored_after_it(monkeypatch):
    monkeypatch.setenv("MCGURK_ONE", "before")
    monkeypatch.setenv("MCGURK_TWO", "stays")
    monkeypatch.delenv("MCGURK_NEW", raising=False)

    with changed({"MCGURK_ONE": None, "MCGURK_NEW": "inside"}):
        assert "MCGURK_ONE" not in os.environ and os.environ["MCGURK_NEW"] == "inside"
        os.environ["MCGURK_TWO"] = "changed by another"

    assert os.environ["MCGURK_ONE"] == "before" and "MCGURK_NEW" not in os.environ
    assert os.environ["MCGURK_TWO"] == "changed by another"


def test_named_variables_alone_are_restored_or_all_of_them(monkeypatch):
    monkeypatch.setenv("MCGURK_ONE", "before")
    monkeypatch.setenv("MCGURK_TWO", "before")

    with restored(["MCGURK_ONE"]):
        os.environ["MCGURK_ONE"] = os.environ["MCGURK_TWO"] = "after"
    assert (os.environ["MCGURK_ONE"], os.environ["MCGURK_TWO"]) == ("before", "after")
    with restored():
        os.environ["MCGURK_NEW"] = os.environ["MCGURK_TWO"] = "later"
    assert os.environ["MCGURK_TWO"] == "after" and "MCGURK_NEW" not in os.environ
