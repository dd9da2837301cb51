"""What is written is there whole, what was removed is gone, and a folder that is made on the way is named on the disk.

What survives a power loss is tried in `tests/flows/test_power_loss.py`, call by call.
"""

import stat

import pytest

from schemas.files import append_lines, write_secret, write_secret_once
from schemas.storage import make_folder, remove, remove_folder, sync_folder


def test_lines_are_added_and_one_that_was_torn_spoils_itself_only(tmp_path):
    path = tmp_path / "new" / "lines"
    append_lines(path, ["one", "two"])
    with path.open("a") as file:
        file.write("thr")  # a kill

    append_lines(path, ["four"])

    assert path.read_text().splitlines() == ["one", "two", "thr", "four"]


@pytest.mark.parametrize(("before", "after"), [(None, "new"), ("", "new"), ("old", "old")])
def test_a_secret_is_made_once(tmp_path, before, after):
    """An empty one is what a power loss has left of it."""
    path = tmp_path / "login"
    if before is not None:
        path.write_text(before)

    write_secret_once(path, "new")

    assert path.read_text() == after
    assert [one.name for one in tmp_path.iterdir()] == ["login"]


def test_a_secret_is_for_this_account_only(tmp_path):
    write_secret(tmp_path / "secret", "text")

    assert stat.S_IMODE((tmp_path / "secret").stat().st_mode) == 0o600


def test_what_is_not_there_is_removed_too(tmp_path):
    make_folder(tmp_path / "a" / "b")
    make_folder(tmp_path / "a" / "b")
    (tmp_path / "a" / "b" / "file").write_text("text")

    remove(tmp_path / "a" / "b" / "file", tmp_path / "none" / "file")
    remove_folder(tmp_path / "a" / "b")
    remove_folder(tmp_path / "none" / "folder")

    assert list((tmp_path / "a").iterdir()) == []


def test_a_folder_that_may_not_be_read_is_left_alone(tmp_path, monkeypatch):
    def refused(*_):
        raise PermissionError  # root, who runs these tests, is refused nothing

    monkeypatch.setattr("os.open", refused)

    sync_folder(tmp_path)
