"""What a choice leaves out of a root can be had later, and no slot moves for it."""

import csv
import json
from collections import Counter

import pytest
from segment_lists import write_list

from schemas.manifest import read_manifest
from tasks.index import IndexConfig, deal, index, new_lists
from tasks.lists.labels import FILE, ONTOLOGY
from tasks.lists.selection import Choice

NODES = [
    {"id": "/m/music", "name": "Music", "child_ids": ["/m/string", "/m/drum"]},
    {"id": "/m/string", "name": "String", "child_ids": ["/m/guitar", "/m/violin"]},
    *(
        {"id": f"/m/{name.lower()}", "name": name, "child_ids": []}
        for name in ("Drum", "Guitar", "Violin", "Dog")
    ),
]
NAMES = [node["name"] for node in NODES]


def config_of(**choice):
    return IndexConfig(part_size=4, eval_part_size=4, val_share=0.0, choice=Choice(**choice))


def slots(root):
    return {row["key"]: (part, row["row"]) for part, row in read_manifest(root / "segments")}


def labels(root):
    """How many segments have a slot, by split and label."""
    return Counter(
        (row["split"], label) for _, row in read_manifest(root / "segments") for label in row["labels"]
    )


@pytest.fixture
def lists(tmp_path):
    """Lists of training and of evaluation with eight and four segments of each leaf, table and ontology beside them."""
    (tmp_path / ONTOLOGY).write_text(json.dumps(NODES))
    rows = [f'{n},/m/{name.lower()},"{name}"' for n, name in enumerate(NAMES)]
    (tmp_path / FILE).write_text("\n".join(["index,mid,display_name", *rows]))
    found = []
    for name, count in (("train.csv", 8), ("eval_segments.csv", 4)):
        leaves = [leaf for leaf in ("drum", "guitar", "violin", "dog") for _ in range(count)]
        segments = [(f"{name[:2]}{leaf}{n}", 0.0, 10.0, f"/m/{leaf}") for n, leaf in enumerate(leaves)]
        found.append(write_list(tmp_path, name, segments))
    return found


def test_a_category_is_all_that_stands_below_it(tmp_path, lists):
    index(tmp_path, lists, config_of(labels=("String", "/m/dog")))

    assert labels(tmp_path) == {(split, f"/m/{leaf}"): count for split, count in (("train", 8), ("eval", 4))
                                for leaf in ("guitar", "violin", "dog")}  # fmt: skip


@pytest.mark.parametrize(
    ("choice", "wider"),
    [
        ({"labels": ("Guitar",)}, {"labels": ("Music",)}),
        ({"labels": ("Music",)}, {}),
        ({"per_class": 2}, {"per_class": 5}),
        ({"labels": ("String",), "per_class": 3}, {"labels": ("Music", "Dog"), "per_class": 3}),
        ({"sample": 3}, {"sample": 11}),
        ({"labels": ("Music",), "sample": 6}, {"labels": ("Music",)}),
    ],
)
def test_a_wider_choice_opens_new_parts_and_moves_no_slot(tmp_path, lists, choice, wider):
    index(tmp_path / "root", lists, config_of(**choice))
    before = slots(tmp_path / "root")

    index(tmp_path / "root", lists, config_of(**wider))
    index(tmp_path / "at once", lists, config_of(**wider))

    after = slots(tmp_path / "root")
    assert before and before.items() < after.items()
    assert after.keys() == slots(tmp_path / "at once").keys()
    assert min(after[key][0] for key in after.keys() - before) > max(part for part, _ in before.values())


def test_a_narrower_choice_removes_nothing_and_says_so(tmp_path, lists, caplog):
    caplog.set_level("INFO")
    index(tmp_path, lists, config_of(labels=("Music",)))
    before = slots(tmp_path)

    counts = index(tmp_path, lists, config_of(labels=("Drum",)))

    assert slots(tmp_path) == before and counts["segments"] == 0
    assert "index: 12 of 48 segments are selected" in caplog.text
    assert "24 segments that are no longer selected keep their slots" in caplog.text


def test_the_same_choice_again_reads_nothing(tmp_path, lists):
    config = config_of(labels=("Music",), per_class=2)
    index(tmp_path, lists, config)

    assert new_lists(tmp_path, lists, config) == []


def test_so_many_of_a_class_are_of_all_lists_that_are_named(tmp_path, lists):
    config = config_of(per_class=5)
    index(tmp_path / "root", lists[:1], config)
    before = slots(tmp_path / "root")
    more = write_list(tmp_path, "more.csv", [(f"more{n}", 0.0, 10.0, "/m/guitar") for n in range(50)])

    index(tmp_path / "root", [lists[0], more], config)
    index(tmp_path / "at once", [lists[0], more], config)

    after = slots(tmp_path / "root")
    assert before.items() < after.items()
    assert labels(tmp_path / "at once")["train", "/m/guitar"] == 5
    assert after.keys() == before.keys() | slots(tmp_path / "at once").keys()


def test_a_video_of_evaluation_is_counted_there_whatever_list_names_it(tmp_path, lists):
    train = write_list(tmp_path, "train2.csv", [("evdog12", 50.0 + n, 60.0 + n, "/m/cat") for n in range(9)])

    index(tmp_path, [*lists, train], config_of(per_class=2))

    assert labels(tmp_path)["eval", "/m/cat"] == 2


def test_classes_of_another_list_need_no_ontology(tmp_path):
    path = tmp_path / "vggsound.csv"
    path.write_text('a,0,dog barking,test\nb,0,dog barking,train\nc,0,"bee, wasp, etc. buzzing",train\n')

    index(tmp_path, [path], config_of(labels=("bee, wasp, etc. buzzing",)))

    assert slots(tmp_path).keys() == {"c_0_10000"}


def test_without_an_ontology_the_error_says_where_to_get_it(tmp_path, lists):
    (tmp_path / ONTOLOGY).unlink()

    for asked in ("Music", "/m/guitar", "Nonsense"):
        with pytest.raises(
            ValueError, match=f"--labels '{asked}': .*get it from github.com/audioset/ontology"
        ):
            index(tmp_path / "root", lists, config_of(labels=(asked,)))
    assert not (tmp_path / "root").exists()


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ("guitar", "did you mean 'Guitar'"),
        ("Violins", "did you mean 'Violin'"),
        ("/m/9", "unknown label or category '/m/9'"),
    ],
)
def test_a_label_that_nobody_knows_is_told_with_those_that_are_near(tmp_path, lists, asked, told):
    with pytest.raises(ValueError, match=told):
        index(tmp_path, lists, config_of(labels=("Music", asked)))


def test_a_choice_that_takes_nothing_of_an_empty_root_is_refused(tmp_path, lists):
    nobody = write_list(tmp_path, "dogs.csv", [("a", 0.0, 1.0, "/m/dog")])

    with pytest.raises(ValueError, match="none of 1 segments has Music or Drum"):
        index(tmp_path, [nobody], config_of(labels=("Music", "Drum")))

    index(tmp_path, lists, config_of(labels=("Music",)))
    assert index(tmp_path, [nobody], config_of(labels=("Music",)))["segments"] == 0


def test_the_ontology_is_kept_for_lists_that_come_from_elsewhere(tmp_path, lists):
    index(tmp_path / "root", lists, config_of(labels=("Music",)))
    (tmp_path / "elsewhere").mkdir()
    later = write_list(tmp_path / "elsewhere", "later.csv", [("new", 0.0, 10.0, "/m/violin")])

    assert index(tmp_path / "root", [later], config_of(labels=("String",)))["segments"] == 1


def test_musical_instruments_of_audioset(tmp_path, shared):
    lists = [shared / "audioset" / name for name in ("balanced_train_segments.csv", "eval_segments.csv")]
    config = IndexConfig(choice=Choice(labels=("Musical instrument",), per_class=20))
    with (shared / "audioset" / FILE).open() as table:
        names = {row["mid"]: row["display_name"] for row in csv.DictReader(table)}

    parts = deal(tmp_path, new_lists(tmp_path, lists, config), config)

    rows = [row for part in parts for row in part.table.to_pylist()]
    counts = Counter((row["split"], names[label]) for row in rows for label in set(row["labels"]))
    assert counts["eval", "Violin, fiddle"] >= 20 and counts["eval", "Theremin"] >= 20
    assert not any(
        set(row["labels"]) <= {"/m/0bt9lr", "/m/09x0r"} for row in rows
    )  # nothing but dogs and speech
    assert 1000 < len(rows) < 4000
