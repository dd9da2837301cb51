"""Lists are read in the forms in which they are published; a malformed line is told with file, line and reason."""

import csv

import pytest
from hypothesis import given
from hypothesis import strategies as st
from segment_lists import videos, write_list, write_strong

from tasks import lists as module
from tasks.lists import read_list, read_segments


def test_the_published_format_is_read(tmp_path, shared):
    found = read_list(shared / "audioset" / "eval_segments.csv")

    assert (found.table.num_rows, found.malformed) == (20_371, [])
    assert found.table["key"][0].as_py() == "--4gqARaEJE_0_10000"
    assert found.table["labels"][0].as_py() == ["/m/068hy", "/m/07q6cd_", "/m/0bt9lr", "/m/0jbk"]


def test_a_malformed_line_gives_file_line_and_reason(tmp_path):
    path = write_list(tmp_path, "list.csv", videos(3))
    path.write_text(path.read_text() + 'a/b,1.000,2.000,"/m/1"\nabc,5.000,4.000,"/m/1"\nabc,1,2,"x y"\nabc\n')

    found = read_list(path)

    assert found.table.num_rows == 3
    assert [line.split(": ", 1)[0] for line in found.malformed] == [f"list.csv:{n}" for n in (7, 8, 9, 10)]
    reasons = [line.split(": ", 1)[1] for line in found.malformed]
    assert reasons[0] == "unsafe video id 'a/b'"
    assert reasons[1] == "it ends at 4.000 s, not after its start at 5.000 s"
    assert reasons[2] == "malformed labels 'x y'"
    assert reasons[3].startswith("not of the form")


def test_a_byte_order_mark_is_no_part_of_a_list(tmp_path):
    path = write_list(tmp_path, "list.csv", videos(3), header=False)
    path.write_text("\ufeff" + path.read_text(), encoding="utf-8")

    found = read_list(path)

    assert (found.table.num_rows, found.malformed) == (3, [])


def test_a_line_may_have_no_labels(tmp_path):
    (tmp_path / "list.csv").write_text('a, 0.000, 1.000, ""\nb, 0.000, 1.000, "/m/1"\n')

    assert rows_of(tmp_path / "list.csv", "labels") == [([],), (["/m/1"],)]


def num_lines(text: str) -> int:
    return sum(bool(line.strip()) and not line.startswith("#") for line in text.splitlines())


ODD = st.sampled_from(
    ['a,1,2,"/m/1"', "a, 1.5 ,2", '"', "", "#x", 'b, 1.0, 0.5, "/m/1"', "\x00", 'c,nan,2,"/m/1"']
)
GOOD = st.builds(
    lambda v, s, d, spaced: f'{v},{" " * spaced}{s},{" " * spaced}{s + d},{" " * spaced}"/m/0{d},/t/dd{s}"',
    st.text("abcXYZ019-_", min_size=1, max_size=12),
    st.integers(0, 9999),
    st.integers(1, 99),
    st.booleans(),
)


@given(lines=st.lists(st.one_of(GOOD, ODD), max_size=12))
def test_reading_whole_and_line_by_line_agree(lines):
    text = "\n".join(lines).replace(", ", ",")

    whole = module._parse_whole(text, "list.csv")
    table, malformed = module._parse_lines(text, "list.csv", module._audioset_entry)

    if whole is not None:
        assert not malformed
        assert whole.to_pylist() == table.to_pylist()
    assert table.num_rows + len(malformed) == num_lines(text)


def test_a_header_that_promises_another_count_is_told(tmp_path, caplog):
    path = write_list(tmp_path, "list.csv", videos(3))
    path.write_text(path.read_text().replace("num_segs=3", "num_segs=5"))

    read_list(path)

    assert "its header promises 5 segments, it has 3" in caplog.text


def rows_of(path, *columns):
    return [tuple(row[name] for name in columns) for row in read_list(path).table.to_pylist()]


def test_vggsound_names_starts_classes_and_splits(tmp_path):
    path = tmp_path / "vggsound.csv"
    path.write_text('---g-f_I2yQ,1,people marching,test\n--L,120,"bee, wasp, etc. buzzing",train\n')

    assert rows_of(path, "key", "labels", "is_eval", "csv") == [
        ("---g-f_I2yQ_1000_11000", ["people marching"], True, "vggsound.csv"),
        ("--L_120000_130000", ["bee, wasp, etc. buzzing"], False, "vggsound.csv"),
    ]


def test_a_malformed_line_of_vggsound_is_told(tmp_path):
    path = tmp_path / "vggsound.csv"
    faults = [
        "b/c,1,dog,train",
        "b,one,dog,train",
        "b,1,dog,dev",
        'b,1,"dog,train',
        "b,1,\x07,train",
        "b,1,,train",
    ]
    path.write_text("\n".join(["a,0,cat,train", "# a comment", "", *faults]))

    found = read_list(path)

    assert found.table["video_id"].to_pylist() == ["a"]
    assert found.malformed == [
        "vggsound.csv:4: unsafe video id 'b/c'",
        "vggsound.csv:5: not seconds: 'one'",
        "vggsound.csv:6: split 'dev' is none of train, test",
        "vggsound.csv:7: not of the form `id,start,label,split`: 'b,1,\"dog,train'",
        "vggsound.csv:8: malformed label '\\x07'",
        "vggsound.csv:9: malformed label ''",
    ]


CLASS = st.text("abc ,.-()'é", min_size=1, max_size=20).filter(str.strip)
VGGSOUND = st.builds(
    lambda v, s, label, split: f'{v},{s},"{label}",{split}' if "," in label else f"{v},{s},{label},{split}",
    st.text("abcXYZ019-_", min_size=1, max_size=12),
    st.integers(0, 9999),
    CLASS,
    st.sampled_from(["train", "test"]),
)


@given(lines=st.lists(VGGSOUND, min_size=1, max_size=12), odd=st.lists(st.text(max_size=40), max_size=3))
def test_vggsound_is_read_as_a_reader_of_csv_reads_it(lines, odd, tmp_path_factory):
    path = tmp_path_factory.mktemp("lists") / "v.csv"
    path.write_text("\n".join(lines + odd), newline="")

    found = read_list(path)

    rows = [(row["video_id"], row["start_ms"], *row["labels"]) for row in found.table.to_pylist()]
    expected = [(v, 1000 * int(start), label) for v, start, label, _ in csv.reader(lines)]
    assert rows[: len(lines)] == expected
    assert len(rows) + len(found.malformed) == num_lines("\n".join(lines + odd))


def test_a_strong_segment_has_the_labels_of_all_its_events(tmp_path):
    events = [
        ("s9d-2nhuJCQ", 30_000, (2.627, 7.237), "/m/053hz1"),
        ("other_id_1", 0, (0.0, 10.0), "/m/04rlf"),
        ("s9d-2nhuJCQ", 30_000, (0.0, 1.0), "/m/04rlf"),
        ("s9d-2nhuJCQ", 30_000, (8.0, 9.0), "/m/053hz1"),
    ]
    path = write_strong(tmp_path, "audioset_eval_strong.tsv", events)

    assert rows_of(path, "key", "labels", "is_eval") == [
        ("s9d-2nhuJCQ_30000_40000", ["/m/04rlf", "/m/053hz1"], True),
        ("other_id_1_0_10000", ["/m/04rlf"], True),
    ]
    assert rows_of(path.rename(tmp_path / "audioset_train_strong.tsv"), "is_eval") == [(False,), (False,)]


def test_a_malformed_line_of_a_strong_list_is_told(tmp_path):
    path = write_strong(tmp_path, "strong.tsv", [("a", 0, (0.0, 1.0), "/m/1")])
    faults = [
        "b/c_0\t0\t1\t/m/1",
        "b\t0\t1\t/m/1",
        "b_0\t2\t1\t/m/1",
        "b_0\t0\t1\tDog",
        "b_0\t0\t1\t/m/1\tPRESENT",
    ]
    path.write_text(path.read_text() + "\n".join(faults))

    found = read_list(path)

    assert found.table["video_id"].to_pylist() == ["a"]
    assert [line.split(": ", 1)[0] for line in found.malformed] == [f"strong.tsv:{n}" for n in range(3, 8)]
    reasons = [line.split(": ", 1)[1] for line in found.malformed]
    form = "not of the form id_startms, start, end, label with tabs between: "
    assert reasons[0] == "unsafe video id 'b/c'"
    assert reasons[1] == form + r"'b\t0\t1\t/m/1'"
    assert reasons[2] == "its event ends at 1 s, before its start at 2 s"
    assert reasons[3] == "malformed label 'Dog'"
    assert reasons[4] == form + r"'b_0\t0\t1\t/m/1\tPRESENT'"


EVENTS = st.tuples(
    st.text("abXY01-_", min_size=1, max_size=6),
    st.integers(0, 10**6),
    st.tuples(st.floats(0, 5), st.floats(5, 10)),
    st.sampled_from(["/m/1", "/t/dd2", "/g/3_"]),
)


@given(events=st.lists(EVENTS, min_size=1, max_size=20), seed=st.randoms())
def test_the_order_of_events_does_not_matter(events, seed, tmp_path_factory):
    folder = tmp_path_factory.mktemp("lists")
    first = read_list(write_strong(folder, "a.tsv", events))
    seed.shuffle(events)
    again = read_list(write_strong(folder, "a.tsv", events))

    assert not first.malformed
    assert first.table.sort_by("key") == again.table.sort_by("key")
    labels = {
        f"{v}_{at}_{at + 10_000}": {label for *one, label in events if one[:2] == [v, at]}
        for v, at, *_ in events
    }
    assert {row["key"]: set(row["labels"]) for row in first.table.to_pylist()} == labels


@given(text=st.text(max_size=200))
def test_no_text_is_more_than_malformed(text, tmp_path_factory):
    path = tmp_path_factory.mktemp("lists") / "any.csv"
    path.write_text(text, newline="")

    found = read_list(path)

    assert all(line.startswith("any.csv:") for line in found.malformed)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "it has no lines"),
        (b"# num_ytids=0, num_segs=0\n", "it has no lines"),
        (b"video_id;start;end\nabc;0;10\n", "the first of 2 lines: list.csv:1: not of the form"),
        (b"ytid,start,label,split\n", "the first of 1 lines: list.csv:1: not of the form"),
        (b"\0\0\0 ftypisom" + bytes(range(256)) * 1000, "lines: list.csv:1: not of the form"),
    ],
)
def test_a_file_without_one_valid_line_is_no_list(tmp_path, content, reason):
    (tmp_path / "list.csv").write_bytes(content)

    with pytest.raises(
        ValueError, match=r"list.csv is no list of segments: not one line is a segment"
    ) as told:
        read_segments(tmp_path / "list.csv")
    assert reason in str(told.value)
