"""Labels are named the same in every run of a root."""

import pytest

from tasks.labels import FILE, find_labels, keep_labels, read_labels

TABLE = 'index,mid,display_name\n0,/m/09x0r,"Speech"\n137,/m/04rlf,"Music, live"\n'
NAMES = {"/m/09x0r": (0, "Speech"), "/m/04rlf": (137, "Music, live")}


@pytest.fixture
def lists(tmp_path):
    """Where a list of segments has the table beside it."""
    folder = tmp_path / "lists"
    folder.mkdir()
    (folder / FILE).write_text(TABLE)
    return [tmp_path / "elsewhere" / "a.csv", folder / "b.csv"]


def test_the_table_beside_a_list_is_found(tmp_path, lists):
    assert find_labels(tmp_path / "kept", lists) == NAMES


def test_without_a_table_there_are_no_names(tmp_path):
    assert find_labels(tmp_path, [tmp_path / "a.csv"]) == {}
    keep_labels(tmp_path / "kept", [tmp_path / "a.csv"])
    assert not (tmp_path / "kept" / FILE).exists()


def test_the_first_table_is_kept_whatever_later_runs_bring(tmp_path, lists):
    kept = tmp_path / "kept"
    keep_labels(kept, lists)
    lists[1].with_name(FILE).write_text(TABLE.replace("Speech", "Parole"))

    keep_labels(kept, lists)

    assert find_labels(kept, []) == find_labels(kept, lists) == NAMES


def test_a_byte_order_mark_is_no_part_of_a_column(tmp_path):
    (tmp_path / FILE).write_text("\ufeff" + TABLE, encoding="utf-8")

    assert read_labels(tmp_path / FILE) == NAMES


@pytest.mark.parametrize(
    "text", ["", "mid,display_name\n/m/1,x\n", "index,mid,display_name\nnone,/m/1,x\n", TABLE + "1,/m/2\n"]
)
def test_what_is_no_table_is_named_and_not_kept(tmp_path, text):
    lists = [tmp_path / "a.csv"]
    (tmp_path / FILE).write_text(text)

    with pytest.raises(ValueError, match=FILE):
        keep_labels(tmp_path / "kept", lists)

    assert not (tmp_path / "kept" / FILE).exists()
