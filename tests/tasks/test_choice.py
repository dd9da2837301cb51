"""A choice takes the segments of chosen labels, and so many of each; a larger one takes all of a smaller one."""

from collections import Counter

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.lists.formats import READ
from tasks.lists.selection import Choice, chosen


def table_of(rows):
    """Segments from (key, labels, is_eval)."""
    columns = {"video_id": "v", "start_ms": 0, "end_ms": 1, "csv": "list.csv"}
    found = pa.Table.from_pylist([{**columns, "key": key, "labels": labels} for key, labels, _ in rows], READ)
    return found.append_column("is_eval", pa.array([is_eval for *_, is_eval in rows], pa.bool_()))


def keys_of(rows, choice, mids=()):
    return chosen(table_of(rows), choice, frozenset(mids))["key"].to_pylist()


def counted(rows, choice, mids=()):
    """How many segments of training a choice takes of each label."""
    kept = set(keys_of(rows, choice, mids))
    return Counter(label for key, labels, is_eval in rows if key in kept and not is_eval for label in labels)


MANY = [
    (f"{name}{n}", [name], n % 4 == 0)
    for name, count in (("a", 400), ("b", 40), ("c", 4))
    for n in range(count)
]
LABELS = st.lists(st.sampled_from("abcde"), max_size=3, unique=True)
ROWS = st.lists(st.tuples(st.text("xyz", max_size=3), LABELS, st.booleans()), min_size=1, max_size=40)


def test_without_a_choice_all_are_taken():
    assert keys_of(MANY, Choice()) == [key for key, *_ in MANY]


def test_segments_have_one_of_the_labels():
    rows = [("1", ["a", "b"], False), ("2", ["c"], False), ("3", [], False), ("4", ["b"], True)]

    assert keys_of(rows, Choice(labels=("B",)), {"b"}) == ["1", "4"]


def test_so_many_of_a_class_are_of_training_and_of_evaluation_each():
    kept = Counter(
        (key[0], is_eval) for key, _, is_eval in MANY if key in set(keys_of(MANY, Choice(per_class=7)))
    )

    assert kept == {
        ("a", False): 7,
        ("a", True): 7,
        ("b", False): 7,
        ("b", True): 7,
        ("c", False): 3,
        ("c", True): 1,
    }


def test_a_sample_is_as_even_as_the_classes_are_large():
    assert counted(MANY, Choice(sample=63)) == {"a": 30, "b": 30, "c": 3}
    assert counted(MANY, Choice(sample=6)) == {"a": 2, "b": 2, "c": 2}
    assert len(keys_of(MANY, Choice(sample=10**6))) == len(MANY)


def test_a_sample_of_chosen_labels_is_even_over_these():
    assert counted(MANY, Choice(labels=("x",), sample=20), {"a", "b"}) == {"a": 10, "b": 10}


def test_segments_without_labels_are_a_class():
    rows = [(f"{n}", [], False) for n in range(9)]

    assert len(keys_of(rows, Choice(per_class=4))) == len(keys_of(rows, Choice(sample=4))) == 4


def test_the_first_row_of_a_key_counts():
    rows = [("1", ["a"], False), ("1", ["b"], False), ("2", ["b"], False)]

    assert keys_of(rows, Choice(labels=("b",)), {"b"}) == ["2"]


@pytest.mark.parametrize("field", ["per_class", "sample"])
@given(rows=ROWS, smaller=st.integers(1, 12), more=st.integers(0, 12))
def test_a_larger_number_takes_all_that_a_smaller_one_takes(field, rows, smaller, more):
    few, many = (set(keys_of(rows, Choice(**{field: number}))) for number in (smaller, smaller + more))

    assert few <= many


@given(
    rows=ROWS, labels=st.sets(st.sampled_from("abcde"), min_size=1), more=st.sets(st.sampled_from("abcde"))
)
def test_a_wider_filter_takes_all_that_a_narrower_one_takes(rows, labels, more):
    choice = Choice(labels=("some",), per_class=2)
    narrow, wide = (set(keys_of(rows, choice, mids)) for mids in (labels, labels | more))

    assert narrow <= wide


@given(rows=ROWS, choice=st.sampled_from([Choice(per_class=2), Choice(sample=5)]), seed=st.randoms())
def test_the_order_of_the_lists_does_not_matter(rows, choice, seed):
    rows = list({key: (key, *others) for key, *others in rows}.values())
    shuffled = rows.copy()
    seed.shuffle(shuffled)

    assert set(keys_of(rows, choice)) == set(keys_of(shuffled, choice))


@given(rows=ROWS, number=st.integers(1, 5))
def test_a_class_gets_its_number_or_all_that_it_has(rows, number):
    rows = list({key: (key, *others) for key, *others in rows}.values())
    there = Counter(label for _, labels, is_eval in rows if not is_eval for label in labels)

    kept = counted(rows, Choice(per_class=number))

    assert all(min(number, count) <= kept[label] <= count for label, count in there.items())
