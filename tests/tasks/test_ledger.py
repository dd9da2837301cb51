"""The ledger keeps what was said last of every segment, whatever a kill tore."""

import json

from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.acquisition import ledger

TEXTS = st.text(max_size=12)
ROWS = st.lists(
    st.fixed_dictionaries({"key": st.sampled_from("abc"), "detail": TEXTS, "attempts": st.integers()})
)


def test_the_last_word_on_a_segment_counts(tmp_path):
    ledger.append(tmp_path, 0, [{"key": "a", "attempts": 1}, {"key": "b", "attempts": 1}])
    ledger.append(tmp_path, 0, [{"key": "a", "attempts": 2}])

    assert ledger.latest(tmp_path, 0) == {"a": {"key": "a", "attempts": 2}, "b": {"key": "b", "attempts": 1}}


def test_each_part_has_a_ledger_of_its_own(tmp_path):
    ledger.append(tmp_path, 3, [{"key": "a"}])

    assert ledger.latest(tmp_path, 3) == {"a": {"key": "a"}}
    assert ledger.latest(tmp_path, 0) == {}
    assert [path.name for path in (tmp_path / "attempts").iterdir()] == ["000003.jsonl"]


def test_what_is_written_is_only_ever_added_to(tmp_path):
    ledger.append(tmp_path, 0, [{"key": "a", "attempts": 1}])
    before = (tmp_path / "attempts" / "000000.jsonl").read_bytes()

    ledger.append(tmp_path, 0, [{"key": "a", "attempts": 2}])

    after = (tmp_path / "attempts" / "000000.jsonl").read_bytes()
    assert after.startswith(before)
    assert [json.loads(line)["attempts"] for line in after.splitlines()] == [1, 2]


@given(ROWS, st.data())
@settings(max_examples=50, deadline=None)
def test_a_kill_loses_the_line_that_it_tore_and_no_other(tmp_path_factory, rows, data):
    state = tmp_path_factory.mktemp("state")
    ledger.append(state, 0, [*rows, {"key": "torn", "attempts": 0}])
    path = state / "attempts" / "000000.jsonl"
    last = path.read_bytes().rstrip(b"\n").rfind(b"\n") + 1
    path.write_bytes(path.read_bytes()[: data.draw(st.integers(last, path.stat().st_size - 3))])

    ledger.append(state, 0, [{"key": "after", "attempts": 1}])

    kept = {row["key"]: row for row in rows}
    assert ledger.latest(state, 0) == {**kept, "after": {"key": "after", "attempts": 1}}


@given(st.data())
@settings(max_examples=50, deadline=None)
def test_a_line_that_has_changed_counts_as_not_there(tmp_path_factory, data):
    state = tmp_path_factory.mktemp("state")
    ledger.append(state, 0, [{"key": "a", "attempts": 1}, {"key": "b", "attempts": 2}])
    path = state / "attempts" / "000000.jsonl"
    content = bytearray(path.read_bytes())
    end = content.index(b"\n")
    content[data.draw(st.integers(0, end - 1))] ^= 1 << data.draw(st.integers(0, 6))
    path.write_bytes(content)

    found = ledger.latest(state, 0)

    assert found["b"] == {"key": "b", "attempts": 2}
    assert found.get("a") in (None, {"key": "a", "attempts": 1})
    assert set(found) <= {"a", "b"}


def test_lines_from_before_digests_count(tmp_path):
    (tmp_path / "attempts").mkdir()
    (tmp_path / "attempts" / "000000.jsonl").write_text('{"key": "a", "attempts": 1}\n')

    assert ledger.latest(tmp_path, 0) == {"a": {"key": "a", "attempts": 1}}


def test_bytes_that_a_crash_left_are_passed_over(tmp_path):
    ledger.append(tmp_path, 0, [{"key": "a"}])
    path = tmp_path / "attempts" / "000000.jsonl"
    path.write_bytes(path.read_bytes() + bytes(16) + b"\xff\xfe7\n")

    ledger.append(tmp_path, 0, [{"key": "b"}])

    assert set(ledger.latest(tmp_path, 0)) == {"a", "b"}


def clip_row(key, n):
    return {"key": key, "attempts": n, "outcome": "waiting", "reason": "removed"}


def test_compaction_keeps_every_attempt_in_order(tmp_path):
    for n in range(5):
        ledger.append(tmp_path, 0, [clip_row("a", n), clip_row("b", n)])
        ledger.compact(tmp_path, 0, least_bytes=1 if n % 2 else 1 << 20)

    told = [(row["key"], row["attempts"]) for row in ledger.attempts(tmp_path, 0)]
    assert told == [(key, n) for n in range(5) for key in "ab"]
    assert ledger.latest(tmp_path, 0)["a"]["attempts"] == 4


def test_a_kill_in_a_compaction_counts_nothing_twice(tmp_path):
    ledger.append(tmp_path, 0, [clip_row("a", 1)])
    path = tmp_path / "attempts" / "000000.jsonl"
    lines = path.read_bytes()
    ledger.compact(tmp_path, 0, least_bytes=1)
    path.write_bytes(lines)  # killed before it was removed

    ledger.append(tmp_path, 0, [clip_row("a", 2)])

    assert [row["attempts"] for row in ledger.attempts(tmp_path, 0)] == [1, 2]


def test_a_take_down_reaches_compacted_attempts_and_what_a_kill_left(tmp_path):
    ledger.append(tmp_path, 0, [clip_row("a", 1), clip_row("b", 1)])
    path = tmp_path / "attempts" / "000000.jsonl"
    lines = path.read_bytes()
    ledger.compact(tmp_path, 0, least_bytes=1)
    path.write_bytes(lines)

    ledger.remove(tmp_path, 0, ["a"])

    assert set(ledger.latest(tmp_path, 0)) == {"b"}
    assert not path.exists()
