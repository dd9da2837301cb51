"""A part is there whole or not at all, and says of itself what it was made from."""

from dataclasses import dataclass, replace
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.errors import DataError
from schemas.feature import Profile
from schemas.files import canonical_json, digest_of, sha256_of_file, write_text
from schemas.manifest import (
    ROW_FIELDS,
    PartHeader,
    digest_of_table,
    part_numbers,
    part_path,
    read_header,
    read_manifest,
    read_part,
    write_part,
)
from schemas.shard import read_version
from schemas.storage import replacing

SCHEMA = pa.schema([*ROW_FIELDS, ("n", pa.int64())])
HEADER = PartHeader("cook", "f" * 64, {"clips/a.mp4": 12})
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
ROWS = st.lists(st.fixed_dictionaries({"key": TEXTS, "outcome": TEXTS, "digest": TEXTS}), max_size=4)


def content(rows):
    return digest_of_table(pa.Table.from_pylist(rows, pa.schema(ROW_FIELDS)))


def test_an_exception_leaves_the_old_file_and_no_temporary_one(tmp_path):
    path = tmp_path / "report.txt"
    write_text(path, "old")

    with pytest.raises(ZeroDivisionError), replacing(path) as temporary:
        temporary.write_text("half of the ne")
        raise ZeroDivisionError

    assert [one.name for one in tmp_path.iterdir()] == ["report.txt"]
    assert path.read_text() == "old"


def test_nothing_is_there_under_its_name_before_it_is_whole(tmp_path):
    path = tmp_path / "deep" / "report.txt"

    with replacing(path) as temporary:
        temporary.write_text("new")
        assert not path.exists()
        assert temporary.parent == path.parent

    assert [(one.name, one.read_text()) for one in path.parent.iterdir()] == [("report.txt", "new")]


def test_a_block_that_writes_nothing_is_an_error(tmp_path):
    write_text(tmp_path / "a", "old")

    with pytest.raises(FileNotFoundError), replacing(tmp_path / "a"):
        pass

    assert (tmp_path / "a").read_text() == "old"


def test_rows_and_header_come_back(tmp_path):
    rows = [{**dict.fromkeys(SCHEMA.names), "key": key, "n": n} for key, n in (("b", 1), ("a", None))]
    path = part_path(tmp_path, 7)

    write_part(path, rows, SCHEMA, HEADER)

    assert path.name == "000007.parquet"
    assert read_part(path) == rows
    assert read_part(path, ["key"]) == [{"key": "b"}, {"key": "a"}]
    assert read_header(path) == replace(HEADER, content=content(rows))


def test_the_same_rows_give_the_same_bytes(tmp_path):
    for name in ("a", "b"):
        write_part(part_path(tmp_path / name, 0), [{"key": "x", "n": 1}], SCHEMA, HEADER)

    assert len({sha256_of_file(part_path(tmp_path / name, 0)) for name in ("a", "b")}) == 1


@pytest.mark.parametrize("kept", [0, 3, 100, -1, -8])
def test_a_damaged_part_has_no_header(tmp_path, kept):
    path = part_path(tmp_path, 0)
    write_part(path, [{"key": "x", "n": 1}], SCHEMA, HEADER)

    path.write_bytes(path.read_bytes()[:kept])

    assert read_header(path) is None


def test_a_foreign_parquet_file_or_none_has_no_header(tmp_path):
    import pyarrow.parquet as pq

    pq.write_table(pa.table({"key": ["x"]}), tmp_path / "foreign.parquet")

    assert read_header(tmp_path / "foreign.parquet") is None
    assert read_header(tmp_path / "nothing.parquet") is None
    assert read_header(tmp_path) is None


def test_a_manifest_is_read_in_the_order_of_its_parts(tmp_path):
    for part in (11, 2, 0):
        write_part(part_path(tmp_path, part), [{"key": f"k{part}", "n": part}], SCHEMA, HEADER)
    for name in ("lists.json", ".000003.parquet.1.tmp", "train-000004-abcdef01.parquet"):
        (tmp_path / name).write_text("no part")

    assert part_numbers(tmp_path) == [0, 2, 11]
    assert [(part, row["key"]) for part, row in read_manifest(tmp_path)] == [
        (0, "k0"),
        (2, "k2"),
        (11, "k11"),
    ]
    assert part_numbers(tmp_path / "nowhere") == []


@dataclass(frozen=True)
class Settings:
    a: int = 1
    b: str = "x"


@dataclass(frozen=True)
class Grown(Settings):
    c: None = None


def test_a_digest_knows_every_field():
    assert digest_of(Settings()) == digest_of(Settings(1, "x"))
    assert len({digest_of(Settings()), digest_of(Settings(2)), digest_of(Grown())}) == 3
    assert digest_of(Profile(jpeg_quality=84)) != digest_of(Profile())


@given(st.dictionaries(TEXTS, st.one_of(st.integers(), TEXTS, st.none(), st.booleans()), max_size=6))
def test_a_digest_does_not_depend_on_the_order_of_names(values):
    backwards = dict(reversed(values.items()))

    assert canonical_json(values) == canonical_json(backwards)
    assert digest_of(values) == digest_of(backwards)


@given(ROWS)
def test_messages_attempts_and_dates_never_enter_an_input_digest(rows):
    noisy = [{**row, "detail": "x", "attempts": 3, "next_attempt_at": "2026"} for row in rows]

    assert content(noisy) == content(rows)


@given(ROWS, st.sampled_from(["key", "outcome", "digest"]))
def test_an_input_digest_knows_key_outcome_and_content(rows, name):
    changed = [{**row, name: row[name] + "x"} if n == 0 else row for n, row in enumerate(rows)]

    assert (content(changed) == content(rows)) == (not rows)


def test_what_has_no_canonical_form_is_refused():
    assert canonical_json({"path": Path("/a"), "one": Settings()}) == '{"one":{"a":1,"b":"x"},"path":"/a"}'
    with pytest.raises(TypeError, match="has no canonical form"):
        canonical_json({"when": object()})


def test_a_damaged_part_is_named_with_what_helps(tmp_path):
    path = tmp_path / "000000.parquet"
    path.write_bytes(b"PAR1" + bytes(100) + b"PAR1")

    with pytest.raises(
        DataError, match=r"000000.parquet is damaged: .*; `mcgurk verify --mend` tells what can be restored"
    ):
        read_part(path)
    with pytest.raises(FileNotFoundError):
        read_part(tmp_path / "000001.parquet")


def test_a_damaged_version_is_named_with_what_helps(tmp_path):
    path = tmp_path / "versions" / f"{'0' * 64}.json"
    path.parent.mkdir()
    for text in ("{", '{"digest": "0"}', '{"profile": {"colour": 1}}'):
        path.write_text(text)

        with pytest.raises(DataError, match=r"0000.json is damaged: .*; `mcgurk verify --mend`"):
            read_version(tmp_path, "0" * 64)
