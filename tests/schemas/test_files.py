"""A bit that changes in a file of ours is told by the reader of its kind, or changes nothing that is read."""

import json

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.errors import DataError
from schemas.files import (
    DIGEST,
    SEAL,
    encoded_table,
    read_json,
    read_kept,
    read_table,
    write_bytes,
    write_json,
)
from schemas.manifest import METADATA_KEY, PartHeader, encoded, read_header
from schemas.segment import SEGMENTS

ROWS = [
    {
        "key": f"video{n}_0_2000", "outcome": "ok", "reason": "", "detail": "", "digest": f"/m/{n}", "fingerprint": "",
        "video_id": f"video{n}", "start_ms": 0, "end_ms": 2000, "is_open": False, "labels": [f"/m/{n}"],
        "split": "train", "row": n, "csv": "list.csv",
    }
    for n in range(40)
]  # fmt: skip
TABLE = pa.Table.from_pylist(ROWS, SEGMENTS)
PART = encoded(TABLE, PartHeader("index", "fingerprint", {"clips/a.mkv": 5}))
SEALED_AT = PART.index(SEAL)


def flipped(content: bytes, at: int, bit: int = 0) -> bytes:
    """The same bytes but for one bit."""
    return content[:at] + bytes([content[at] ^ 1 << bit]) + content[at + 1 :]


@given(at=st.integers(0, len(PART) - 1), bit=st.integers(0, 7))
def test_a_flipped_bit_anywhere_in_a_table_is_told_but_in_the_name_of_its_seal(at, bit, tmp_path_factory):
    path = tmp_path_factory.getbasetemp() / "flipped.parquet"
    path.write_bytes(flipped(PART, at, bit))

    if at in range(SEALED_AT, SEALED_AT + len(SEAL)):
        assert read_table(path).equals(TABLE)
        return
    with pytest.raises(
        DataError, match=f"^{path} is damaged: .*; `mcgurk verify --mend` tells what can be restored"
    ):
        read_table(path)


@given(cut=st.integers(0, len(PART) - 1))
def test_a_table_that_was_cut_short_is_told(cut, tmp_path_factory):
    path = tmp_path_factory.getbasetemp() / "cut.parquet"
    path.write_bytes(PART[:cut])

    with pytest.raises(DataError, match=f"^{path} is damaged: "):
        read_table(path)


def test_a_reader_of_some_columns_meets_the_checksum_of_a_page(tmp_path):
    path = tmp_path / "000000.parquet"
    at = PART.rindex(b"list.csv", 0, SEALED_AT)
    path.write_bytes(flipped(PART, at))

    assert read_table(path, ("key",)) == TABLE.select(["key"])
    with pytest.raises(DataError, match="is damaged"):
        read_table(path, ("csv",))


def test_other_readers_read_a_sealed_table(tmp_path):
    path = tmp_path / "sealed.parquet"
    path.write_bytes(PART)

    assert pq.read_table(path).equals(TABLE)
    assert pd.read_parquet(path)["key"].tolist() == [row["key"] for row in ROWS]


def test_a_header_with_another_fact_is_none(tmp_path):
    path = tmp_path / "000000.parquet"
    path.write_bytes(PART)
    whole = read_header(path)
    path.write_bytes(PART.replace(b'"fingerprint": "fingerprint"', b'"fingerprint": "Fingerprint"'))

    assert whole is not None
    assert whole.files == {"clips/a.mkv": 5}
    assert read_header(path) is None


def test_a_part_from_before_checksums_is_read_as_it_is(tmp_path):
    path = tmp_path / "000000.parquet"
    stored = {"stage": "index", "fingerprint": "", "files": {}, "content": "c", "facts": {}}
    old = TABLE.replace_schema_metadata({METADATA_KEY: json.dumps(stored).encode()})
    write_bytes(path, encoded_table(old))

    assert read_header(path) == PartHeader("index", "", {}, "c")


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(value=st.dictionaries(st.text(st.characters(exclude_characters="#")), VALUES))
def test_json_comes_back_as_it_was_written(value, tmp_path_factory):
    path = tmp_path_factory.getbasetemp() / "value.json"

    write_json(path, value)

    assert read_json(path) == value


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda text: text.replace("12", "13"), "is damaged, or was edited"),
        (lambda text: text[: len(text) // 2], "is damaged: it is not JSON"),
        (lambda text: "", "is damaged: it is not JSON"),
        (lambda text: "\0" * len(text), "is damaged: it is not JSON"),
    ],
)
def test_json_that_was_changed_is_told(tmp_path, change, problem):
    path = tmp_path / "facts.json"
    write_json(path, {"in_shards": 12})
    path.write_text(change(path.read_text()))

    with pytest.raises(DataError, match=f"{path} {problem}.*; restore it from a copy"):
        read_json(path)


def test_json_without_a_digest_is_read_as_it_is(tmp_path):
    path = tmp_path / "old.json"
    path.write_text('{"in_shards": 12}')

    assert read_json(path) == {"in_shards": 12}
    assert DIGEST not in read_json(path)


def test_what_is_kept_to_save_work_is_nothing_where_it_is_damaged(tmp_path):
    path = tmp_path / "kept.parquet"
    assert read_kept(path) is None
    write_bytes(path, encoded_table(TABLE))
    assert TABLE.equals(read_kept(path))

    path.write_bytes(path.read_bytes()[:-20])

    assert read_kept(path) is None
