"""Whatever dialect a list is written in, reading gives back exactly its segments; the rest is counted and shown."""

import csv
import io
import json
import re
import subprocess
import sys
from dataclasses import dataclass, replace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from real_servers import REPOSITORY

from schemas.errors import DataError
from tasks.lists.audioset import read_whole
from tasks.lists.dialects import CLIP, MACHINE_IDS, NAMES, SPLITS
from tasks.lists.formats import CLIP_MS, EVAL_NAME, read_list

IDS = st.text("abcXYZ019-_", min_size=1, max_size=12)
MIDS = st.lists(st.from_regex(r"/[a-z]/[0-9a-z_]{1,8}", fullmatch=True), min_size=1, max_size=3, unique=True)
NAME = (
    st.text(st.characters(min_codepoint=32, max_codepoint=0x2FFF, exclude_characters="|\ufffd"), max_size=20)
    .map(str.strip)
    .filter(lambda name: name and name.isprintable() and not name.startswith(("['", '["')))
    .filter(lambda name: MACHINE_IDS.fullmatch(name) is None)
)
LATIN = st.text("abc ,;&\"'#()é/", min_size=1, max_size=20).map(str.strip).filter(bool)
BAD = st.sampled_from(["a/b,1,2,/m/1", "abc,1.5", "no row at all", '"abc,1,2', "a,x,y,z", "\x07,,,"])


@dataclass(frozen=True)
class Row:
    """What a row says; times in ms."""

    video_id: str
    start_ms: int
    end_ms: int
    labels: tuple[str, ...]
    split: str = ""


def rows_with(label, splits=("",)):
    labels = MIDS | st.lists(label, max_size=3, unique=True)
    made = st.builds(
        lambda video_id, start, length, labels, split: Row(video_id, start, start + length, tuple(labels), split),
        IDS, st.integers(0, 10**7), st.integers(1, 60_000), labels, st.sampled_from(splits),
    )  # fmt: skip
    return st.lists(made, min_size=1, max_size=12)


def joined(labels):
    return (",", "|")[not all(map(MACHINE_IDS.fullmatch, labels))].join(labels)


@st.composite
def seconds(draw, at_ms, comma=False):
    forms = [f"{at_ms / 1000:.3f}", f"{at_ms / 1000:.9f}", repr(at_ms / 1000), f"{at_ms}e-3"]
    if at_ms % 1000 == 0:
        forms += [str(at_ms // 1000), f"{at_ms // 1000}."]
    text = draw(st.sampled_from(forms))
    return text.replace(".", ",") if comma else text


@st.composite
def csv_tables(draw):
    """(rows, bytes of a list): any separator, quotes, header, order of columns, encoding, ends of lines."""
    encoding = draw(st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"]))
    rows = draw(
        rows_with(
            NAME if encoding in ("utf-8", "utf-8-sig", "utf-16") else LATIN, ("", "train", "val", "eval")
        )
    )
    delimiter = draw(st.sampled_from(",;\t&|"))
    has_header = draw(st.booleans())
    comma = delimiter != "," and draw(st.booleans())
    cells = {
        "video_id": [row.video_id for row in rows],
        "start": [draw(seconds(row.start_ms, comma)) for row in rows],
        "end": [draw(seconds(row.end_ms, comma)) for row in rows],
        "labels": [joined(row.labels) for row in rows],
    }  # fmt: skip
    if has_header:
        words = {
            split: [word for word, means in SPLITS.items() if means == split] for split in SPLITS.values()
        }
        cells["split"] = [draw(st.sampled_from(words[row.split])) for row in rows]
        cells["other"] = [draw(st.sampled_from(["", "x, y", '"', "7"])) for _ in rows]
        order = draw(st.permutations(list(cells)))
        header = [
            draw(st.sampled_from(["", "Unnamed: 0"] if name == "other" else NAMES[name])) for name in order
        ]
        cells = {name: cells[name] for name in order}
    text = io.StringIO()
    quoting = draw(st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL, csv.QUOTE_NONNUMERIC]))
    end = draw(st.sampled_from(["\n", "\r\n", "\r"]))
    out = csv.writer(text, delimiter=delimiter, quoting=quoting, lineterminator=end)
    if draw(st.booleans()):
        text.write(f"# somebody's list{end}{end}")
    if has_header:
        out.writerow(header)
    out.writerows(zip(*cells.values(), strict=True))
    if not has_header:
        rows = [Row(row.video_id, row.start_ms, row.end_ms, row.labels) for row in rows]
    return rows, text.getvalue().encode(encoding)


def found_in(path):
    columns = ("video_id", "start_ms", "end_ms", "labels", "split")
    found = read_list(path)
    return [Row(*(tuple(row[name]) if name == "labels" else row[name] for name in columns))
            for row in found.table.to_pylist()], found  # fmt: skip


@given(table=csv_tables())
def test_any_dialect_of_csv_gives_back_its_segments(table, tmp_path_factory):
    rows, content = table
    path = tmp_path_factory.mktemp("lists") / "list.csv"
    path.write_bytes(content)

    found, read = found_in(path)

    assert (found, read.num_unread, read.unread) == (rows, 0, [])


@given(rows=rows_with(NAME, ("", "train", "val", "eval")), data=st.data())
def test_json_lines_and_parquet_give_back_their_segments(rows, data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("lists")
    names = {
        name: data.draw(st.sampled_from(NAMES[name]))
        for name in ("video_id", "start", "end", "labels", "split")
    }
    objects = [
        {
            names["video_id"]: row.video_id,
            names["start"]: row.start_ms / 1000,
            names["end"]: row.end_ms / 1000,
            names["labels"]: list(row.labels),
            names["split"]: row.split or None,
            "more": {"of": ["anything", 1, None]},
        }
        for row in rows
    ]
    (folder / "list.jsonl").write_text("".join(json.dumps(one) + "\n" for one in objects))
    types = {names["labels"]: pa.list_(pa.string()), names["split"]: pa.string(), "more": pa.string()}
    table = pa.Table.from_pylist([{**one, "more": "x"} for one in objects])
    fields = [pa.field(one.name, types.get(one.name, one.type)) for one in table.schema]
    pq.write_table(table.cast(pa.schema(fields)), folder / "list.parquet", row_group_size=3)

    for name in ("list.jsonl", "list.parquet"):
        found, read = found_in(folder / name)
        assert (found, read.num_unread) == (rows, 0)


@given(rows=rows_with(LATIN, ("train", "eval")))
def test_vggsounds_lists_give_back_their_segments(rows, tmp_path_factory):
    folder = tmp_path_factory.mktemp("lists")
    wanted = [
        Row(
            row.video_id,
            row.start_ms // 1000 * 1000,
            row.start_ms // 1000 * 1000 + CLIP_MS,
            row.labels[:1],
            row.split,
        )
        for row in rows
    ]
    splits = {"train": "train", "eval": "test"}
    published = [
        [row.video_id, row.start_ms // 1000, joined(row.labels), splits[row.split]] for row in wanted
    ]
    clips = [[f"{row.video_id}_{row.start_ms // 1000:06d}.mp4", joined(row.labels)] for row in wanted]
    for name, cells in (("vggsound.csv", published), ("test.csv", clips)):
        with (folder / name).open("w", newline="") as file:
            csv.writer(file, lineterminator="\n").writerows(cells)
        found, read = found_in(folder / name)
        expected = wanted if name == "vggsound.csv" else [replace(row, split="eval") for row in wanted]
        assert (found, read.num_unread) == (expected, 0)
        assert read.table["is_open"].to_pylist() == [True] * len(rows)


AVES = LATIN.filter(lambda name: "&" not in name and '"' not in name and name[0] != "#")


@given(rows=rows_with(AVES), header=st.booleans())
def test_aves_annotations_give_back_their_segments(rows, header, tmp_path_factory):
    path = tmp_path_factory.mktemp("lists") / "Annotations.txt"
    rows = [Row(row.video_id, row.start_ms, row.end_ms, row.labels) for row in rows if row.labels]
    lines = ["Category&VideoID&Quality&StartTime&EndTime"] * header
    lines += [
        f"{joined(row.labels)}&{row.video_id}&good&{row.start_ms / 1000}&{row.end_ms / 1000}" for row in rows
    ]
    path.write_text("\n".join(lines))

    found, read = found_in(path)

    assert (found, read.num_unread) == (rows, 0)


@given(rows=rows_with(LATIN), bad=st.lists(BAD, min_size=1, max_size=8), random=st.randoms())
def test_every_row_is_a_segment_or_counted(rows, bad, random, tmp_path_factory):
    path = tmp_path_factory.mktemp("lists") / "list.csv"
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(
        (row.video_id, row.start_ms / 1000, row.end_ms / 1000, joined(row.labels)) for row in rows
    )
    lines = [*text.getvalue().splitlines(), *bad]
    first = lines[:1]
    others = lines[1:]
    random.shuffle(others)
    path.write_text("\n".join(first + others))

    found, read = found_in(path)

    assert sorted(map(str, found)) == sorted(map(str, rows))
    assert read.num_unread == len(read.unread) == len(bad)
    assert read.problems.startswith(
        f"list.csv: {len(bad)} of {len(lines)} rows were not read; the first: list.csv:"
    )


@given(content=st.binary(max_size=300) | st.text(max_size=200).map(str.encode))
def test_no_bytes_are_more_than_unread(content, tmp_path_factory):
    path = tmp_path_factory.mktemp("lists") / "any.csv"
    path.write_bytes(content)

    try:
        found = read_list(path)
    except ValueError as error:
        assert re.search(
            "any.csv is not a list of segments: (it is not text|a JSON array)|Parquet", str(error)
        )
    else:
        assert all(line.startswith("any.csv:") for line in found.unread)


WHOLE = st.builds(
    lambda v, s, d, spaced: f'{v},{" " * spaced}{s},{" " * spaced}{s + d},{" " * spaced}"/m/0{d},/t/dd{s}"',
    IDS, st.integers(0, 9999), st.integers(1, 99), st.booleans(),
)  # fmt: skip


@given(
    lines=st.lists(
        st.one_of(WHOLE, WHOLE, BAD, st.sampled_from(["a,1,2,/m/1", 'a,1,2,""', "#x", ""])), max_size=8
    )
)
def test_a_list_that_is_read_as_a_whole_is_read_alike(lines, tmp_path_factory):
    """The second reader, which is there for its speed, never says anything else than the first."""
    path = tmp_path_factory.mktemp("lists") / "list.csv"
    path.write_text("\n".join(lines) + "\n")
    whole = read_whole(path)
    read = read_list(path).table

    path.write_text("\n".join([*lines, "not a row"]) + "\n")  # now it is left to the reader of all dialects

    assert read_whole(path) is None
    if whole is not None:
        assert read == read_list(path).table


def test_a_name_with_a_hash_is_no_comment_under_a_header(tmp_path):
    (tmp_path / "list.csv").write_text("# a remark\nsegment_id,start,end,label\n#x_0,0,1,Dog\nab_0,0,1,Dog\n")

    found = read_list(tmp_path / "list.csv")

    assert found.table.num_rows == 1 and found.unread == ["list.csv:3: unsafe video id '#x'"]


def test_bytes_of_another_encoding_are_told(tmp_path):
    (tmp_path / "list.csv").write_bytes("a,0,1,hund\nb,0,1,kätzchen\n".encode("latin-1"))

    assert read_list(tmp_path / "list.csv").unread[0].startswith("list.csv:2: it is not UTF-8")


@pytest.mark.parametrize("between", [",", ", ", ";", "; ", " ", "|"])
def test_several_machine_ids_are_several_labels_whatever_separates_them(tmp_path, between):
    path = tmp_path / "list.csv"
    path.write_text(f'video_id,start,end,label\nabc,0,10,"/m/068hy{between}/m/07q6cd_"\n')

    assert read_list(path).table["labels"].to_pylist() == [["/m/068hy", "/m/07q6cd_"]]


def test_what_excel_writes_first_is_no_row(tmp_path):
    path = tmp_path / "list.csv"
    path.write_text("sep=;\r\nlabel;video_id;split;start\r\nDog;abc;validate;30,5\r\n", newline="")

    found = read_list(path)

    assert found.table.select(["key", "labels", "split"]).to_pylist() == [
        {"key": "abc_30500_40500", "labels": ["Dog"], "split": "val"}
    ]
    assert found.num_unread == 0


@pytest.mark.parametrize(
    ("header", "row"),
    [
        ("video_id,start,end", "abc,1.25,4"),
        ("video_id,start_ms,end_ms", "abc,1250,4000"),
        ("video_id,start_ms,end", "abc,1250,4"),
        ("Start (ms);End (ms);YTID", "1250;4000;abc"),
        ("video_id,start,duration", "abc,1.25,2.75"),
        ("video_id,start_ms,duration", "abc,1250,2.75"),
        ("video_id,start,end,duration", "abc,1.25,4,600"),  # that of the whole video
    ],
)
def test_times_are_read_in_the_unit_that_their_columns_name(tmp_path, header, row):
    path = tmp_path / "list.csv"
    path.write_text(f"{header}\n{row}\n")

    assert read_list(path).table.select(["key", "is_open"]).to_pylist() == [
        {"key": "abc_1250_4000", "is_open": False}
    ]


def test_objects_have_times_in_milliseconds_too(tmp_path):
    path = tmp_path / "list.jsonl"
    path.write_text('{"video_id": "abc", "start_ms": 1250, "end_ms": 4000}\n')

    assert read_list(path).table["key"].to_pylist() == ["abc_1250_4000"]


@pytest.mark.parametrize(
    "times", ["start_frame,end_frame", "begins,ends", "from,to", "start_us,end_us", "timestamp,label"]
)
def test_times_of_an_unknown_unit_are_refused_and_not_taken_for_seconds(tmp_path, times):
    path = tmp_path / "list.csv"
    path.write_text(f"video_id,{times},label\nabc,30,90,Dog\n")

    with pytest.raises(
        DataError, match="list.csv is not a list of segments: its header has times in a form that"
    ):
        read_list(path)


def test_an_array_of_json_is_named(tmp_path):
    path = tmp_path / "list.json"
    path.write_text('[\n  {"video_id": "abc", "start": 0}]')

    with pytest.raises(DataError, match="a JSON array; write one object per line"):
        read_list(path)


def test_names_of_columns_and_splits_are_unambiguous():
    names = [name for known in NAMES.values() for name in known]
    assert len(names) == len(set(names)) and EVAL_NAME.match("eval_segments.csv")
    assert CLIP.fullmatch("scratch/x/-a_b_000030.mp4")[1] == "-a_b"


GIGABYTE = """
import os, resource, sys
from pathlib import Path
from tasks.lists.formats import read_list
path = Path(sys.argv[1])
with path.open("wb") as file:
    file.write(b"a,0,1,Dog\\n" * 1000)
    file.seek(1 << 30, os.SEEK_CUR)  # one line of a gigabyte, sparse on the disk
    file.write(b"\\nb,0,1,Dog\\n")
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
found = read_list(path)
print(found.table.num_rows, found.num_unread, "longer than" in found.unread[0])
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""


def test_a_line_of_a_gigabyte_costs_no_memory(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", GIGABYTE, str(tmp_path / "list.csv")],
        capture_output=True, text=True, cwd=REPOSITORY, timeout=120,
    )  # fmt: skip

    said, megabytes = done.stdout.splitlines()
    assert said == "1001 1 True", done.stderr
    assert int(megabytes) < 64


@pytest.mark.parametrize("depth", [10, 100_000])
def test_json_of_any_depth_is_one_unread_line(tmp_path, depth):
    deep = "[" * depth + "]" * depth
    (tmp_path / "list.jsonl").write_text(f'{{"ytid": "a", "start": 1}}\n{{"ytid": "a", "start": {deep}}}\n')

    found = read_list(tmp_path / "list.jsonl")

    assert (found.table.num_rows, found.num_unread) == (1, 1)
