"""Lists are read in the forms in which they are published; a malformed line is told with file, line and reason."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from segment_lists import videos, write_list, write_strong

from tasks.lists.formats import read_list, read_segments


def test_the_published_format_is_read(tmp_path, shared):
    found = read_list(shared / "audioset" / "eval_segments.csv")

    assert (found.table.num_rows, found.unread) == (20_371, [])
    assert found.table["key"][0].as_py() == "--4gqARaEJE_0_10000"
    assert found.table["labels"][0].as_py() == ["/m/068hy", "/m/07q6cd_", "/m/0bt9lr", "/m/0jbk"]


def test_a_malformed_line_gives_file_line_and_reason(tmp_path):
    path = write_list(tmp_path, "list.csv", videos(3))
    path.write_text(
        path.read_text() + 'a/b,1.000,2.000,"/m/1"\nabc,5.000,4.000,"/m/1"\nabc,1,2,"\x07"\nabc\n'
    )

    found = read_list(path)

    assert found.table.num_rows == 3
    assert [line.split(": ", 1)[0] for line in found.unread] == [f"list.csv:{n}" for n in (7, 8, 9, 10)]
    reasons = [line.split(": ", 1)[1] for line in found.unread]
    assert reasons[0] == "unsafe video id 'a/b'"
    assert reasons[1] == "it ends at 4.000 s, not after its start at 5.000 s"
    assert reasons[2] == "malformed label '\\x07'"
    assert reasons[3].startswith("not of the form")


def test_a_byte_order_mark_is_no_part_of_a_list(tmp_path):
    path = write_list(tmp_path, "list.csv", videos(3), header=False)
    path.write_text("\ufeff" + path.read_text(), encoding="utf-8")

    found = read_list(path)

    assert (found.table.num_rows, found.unread) == (3, [])


def test_a_line_may_have_no_labels(tmp_path):
    (tmp_path / "list.csv").write_text('a, 0.000, 1.000, ""\nb, 0.000, 1.000, "/m/1"\n')

    assert rows_of(tmp_path / "list.csv", "labels") == [([],), (["/m/1"],)]


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

    assert rows_of(path, "key", "labels", "split", "is_open", "csv") == [
        ("---g-f_I2yQ_1000_11000", ["people marching"], "eval", True, "vggsound.csv"),
        ("--L_120000_130000", ["bee, wasp, etc. buzzing"], "train", True, "vggsound.csv"),
    ]


def test_a_malformed_line_of_vggsound_is_told(tmp_path):
    path = tmp_path / "vggsound.csv"
    faults = [
        "b/c,1,dog,train",
        "b,one,dog,train",
        "b,1,dog,often",
        'b,1,"dog,train',
        "b,1,\x07,train",
    ]
    path.write_text("\n".join(["a,0,cat,train", "# a comment", "", *faults]))

    found = read_list(path)

    assert found.table["video_id"].to_pylist() == ["a"]
    assert found.unread == [
        "vggsound.csv:4: unsafe video id 'b/c'",
        "vggsound.csv:5: not a number of seconds: 'one'",
        "vggsound.csv:6: split 'often' is not one of train, training, val, valid, validate, validation, dev, test, "
        "testing, eval, evaluation",
        "vggsound.csv:7: its quotes are not closed: 'b,1,\"dog,train'",
        "vggsound.csv:8: malformed label '\\x07'",
    ]


def test_a_strong_segment_has_the_labels_of_all_its_events(tmp_path):
    events = [
        ("s9d-2nhuJCQ", 30_000, (2.627, 7.237), "/m/053hz1"),
        ("other_id_1", 0, (0.0, 10.0), "/m/04rlf"),
        ("s9d-2nhuJCQ", 30_000, (0.0, 1.0), "/m/04rlf"),
        ("s9d-2nhuJCQ", 30_000, (8.0, 9.0), "/m/053hz1"),
    ]
    path = write_strong(tmp_path, "audioset_eval_strong.tsv", events)

    assert rows_of(path, "key", "labels", "split") == [
        ("s9d-2nhuJCQ_30000_40000", ["/m/04rlf", "/m/053hz1"], "eval"),
        ("other_id_1_0_10000", ["/m/04rlf"], "eval"),
    ]
    assert rows_of(path.rename(tmp_path / "audioset_train_strong.tsv"), "split") == [("",), ("",)]


def test_a_malformed_line_of_a_strong_list_is_told(tmp_path):
    path = write_strong(tmp_path, "strong.tsv", [("a", 0, (0.0, 1.0), "/m/1")])
    faults = [
        "b/c_0\t0\t1\t/m/1",
        "b\t0\t1\t/m/1",
        "b_0\t2\t1\t/m/1",
        "b_0\t0\t1\t\x07",
        "b_0\t0\t1\t/m/1\tPRESENT",
    ]
    path.write_text(path.read_text() + "\n".join(faults))

    found = read_list(path)

    assert found.table["video_id"].to_pylist() == ["a"]
    assert [line.split(": ", 1)[0] for line in found.unread] == [f"strong.tsv:{n}" for n in range(3, 8)]
    reasons = [line.split(": ", 1)[1] for line in found.unread]
    assert reasons == [
        "unsafe video id 'b/c'",
        "not a segment id like YTID_30000: 'b'",
        "its event ends at 1 s, before its start at 2 s",
        "malformed label '\\x07'",
        r"not of the form `segment_id<tab>start<tab>end<tab>labels`: 'b_0\t0\t1\t/m/1\tPRESENT'",
    ]


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

    assert not first.num_unread
    assert first.table.sort_by("key") == again.table.sort_by("key")
    labels = {
        f"{v}_{at}_{at + 10_000}": {label for *one, label in events if one[:2] == [v, at]}
        for v, at, *_ in events
    }
    assert {row["key"]: set(row["labels"]) for row in first.table.to_pylist()} == labels


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "it has no rows"),
        (b"# num_ytids=0, num_segs=0\n", "it has no rows"),
        (b"YTID,start_seconds,end_seconds,positive_labels\n", "it has no rows"),
        (b"video;clip;name\nabc;zero;ten\n", "the first of 2 rows: list.csv:1: not of the form"),
        (b'{"video_id": "a"}\n', "list.csv:1: its keys name no segment: video_id"),
    ],
)
def test_a_file_without_one_valid_line_is_no_list(tmp_path, content, reason):
    (tmp_path / "list.csv").write_bytes(content)

    with pytest.raises(
        ValueError, match=r"list.csv is not a list of segments: no row could be read as a segment"
    ) as told:
        read_segments(tmp_path / "list.csv")
    assert reason in str(told.value)


@pytest.mark.parametrize("content", [b"\0\0\0 ftypisom" + bytes(range(256)) * 1000, b"PAR1" + bytes(100)])
def test_what_is_no_text_is_no_list(tmp_path, content):
    (tmp_path / "list.csv").write_bytes(content)

    with pytest.raises(
        ValueError, match=r"list.csv is not a list of segments: (it is not text|a damaged Parquet)"
    ):
        read_segments(tmp_path / "list.csv")
