"""Lists are read in the forms in which they are published; a malformed line is told with file, line and reason."""

from hypothesis import given
from hypothesis import strategies as st
from segment_lists import videos, write_list

from tasks import lists as module
from tasks.lists import read_list


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

    whole = module._parse_whole(text)
    table, malformed = module._parse_lines(text, "list.csv")

    if whole is not None:
        assert not malformed
        assert whole.to_pylist() == table.to_pylist()
    assert table.num_rows + len(malformed) == sum(
        bool(line.strip()) and not line.startswith("#") for line in text.splitlines()
    )


def test_a_header_that_promises_another_count_is_told(tmp_path, caplog):
    path = write_list(tmp_path, "list.csv", videos(3))
    path.write_text(path.read_text().replace("num_segs=3", "num_segs=5"))

    read_list(path)

    assert "its header promises 5 segments, it has 3" in caplog.text
