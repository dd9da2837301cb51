"""Labels are named the same in every run of a root."""

import json

import pytest

from schemas.errors import DataError
from tasks.lists.labels import (
    FILE,
    ONTOLOGY,
    damaged_labels,
    find_labels,
    find_ontology,
    keep_labels,
    machine_ids,
    read_labels,
)

TABLE = 'index,mid,display_name\n0,/m/09x0r,"Speech"\n137,/m/04rlf,"Music, live"\n'
LABELS = {"/m/guitar": (0, "Guitar"), "/m/dog": (1, "Dog")}
NODES = [
    {"id": "/m/music", "name": "Music", "child_ids": ["/m/string", "/m/drum"]},
    {"id": "/m/string", "name": "String", "child_ids": ["/m/guitar"]},
    {"id": "/m/drum", "name": "Drum", "child_ids": []},
    {"id": "/m/guitar", "name": "Guitar", "child_ids": []},
]
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


def test_a_category_is_all_that_stands_below_it(tmp_path):
    without = machine_ids(["Guitar"], LABELS, {})
    (tmp_path / ONTOLOGY).write_text(json.dumps(NODES))
    ontology = find_ontology(tmp_path, [])

    assert without == {"/m/guitar"}
    assert machine_ids(["Music"], LABELS, ontology) == {"/m/music", "/m/string", "/m/drum", "/m/guitar"}
    assert machine_ids(["/m/string", "Dog"], LABELS, ontology) == {"/m/string", "/m/guitar", "/m/dog"}
    with pytest.raises(ValueError, match="unknown label or category 'Cat'"):
        machine_ids(["Cat"], LABELS, ontology)


def test_a_class_of_a_list_may_have_the_name_of_a_label():
    assert machine_ids(["Dog", "dog barking"], LABELS, {}, {"Dog", "dog barking"}) == {
        "/m/dog",
        "Dog",
        "dog barking",
    }


def test_a_circle_in_an_ontology_ends():
    circle = {
        "a": {"id": "a", "name": "A", "child_ids": ["b"]},
        "b": {"id": "b", "name": "B", "child_ids": ["a"]},
    }

    assert machine_ids(["A"], {}, circle) == {"a", "b"}


@pytest.mark.parametrize(
    "text", ["", "{}", "[1]", '[{"id": "a"}]', '[{"id": 1, "name": "A", "child_ids": "b"}]']
)
def test_what_is_no_ontology_is_named_and_not_kept(tmp_path, text):
    (tmp_path / ONTOLOGY).write_text(text)

    with pytest.raises(ValueError, match=ONTOLOGY):
        keep_labels(tmp_path / "kept", [tmp_path / "a.csv"])

    assert not (tmp_path / "kept" / ONTOLOGY).exists()


def test_a_kept_table_that_was_changed_is_told_with_what_helps(tmp_path, lists):
    kept = tmp_path / "kept"
    keep_labels(kept, lists)
    table = kept / FILE
    before = table.read_text()
    table.write_text(before.replace("Speech", "Speach"))

    with pytest.raises(
        DataError, match=r"class_labels_indices.csv is damaged, or was edited; remove it, and a build"
    ):
        find_labels(kept, lists)
    assert damaged_labels(kept) == {FILE: "has changed since it was kept"}

    table.unlink()
    assert damaged_labels(kept) == {FILE: "is gone"}
    keep_labels(kept, lists)
    assert (table.read_text(), damaged_labels(kept)) == (before, {})


def test_a_table_of_before_there_were_digests_is_read_as_it_is(tmp_path, lists):
    kept = tmp_path / "kept"
    keep_labels(kept, lists)
    (kept / "labels.json").unlink()
    (kept / FILE).write_text("index,mid,display_name\n0,/m/1,Mine\n")

    assert find_labels(kept, lists) == {"/m/1": (0, "Mine")} and damaged_labels(kept) == {}
