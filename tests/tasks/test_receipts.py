"""A receipt says all of a version but its media; one that was tampered with is refused, and hidden videos stay so."""

import json
from dataclasses import replace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from roots import Root, write_clips

from schemas.errors import DataError, MissingError, RequestError
from schemas.files import DIGEST, digest_of
from schemas.receipt import (
    METADATA_KEY,
    RECEIPT,
    TAKEN_DOWN,
    mark_of,
    marked_among,
    read_receipt,
    read_settings,
    salt_of,
    write_receipt,
)
from schemas.shard import latest_digest, read_version, receipt_path
from tasks.from_receipt import index_receipt
from tasks.inventory import read_inventory
from tasks.tombstones import read_tombstones
from tasks.versions import receipts
from tasks.versions.differences import differences

IDS = ["first", "second", "third", "fourth", "fifth"]


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    folder = tmp_path_factory.mktemp("built")
    root = Root(folder / "root", f"folder:{folder / 'clips'}", write_clips(folder / "clips", IDS))
    root.build()
    return root


@pytest.fixture(scope="module")
def receipt(built):
    return read_receipt(receipt_path(built.path, latest_digest(built.path)))


def test_it_names_every_slot_with_its_digests(built, receipt):
    rows = receipt.table.to_pylist()

    assert receipt.version == read_version(built.path)
    assert (receipt.settings.profile, receipt.settings.rules) == (built.profile, built.rules)
    assert sorted((row["part"], row["row"]) for row in rows) == [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1)]
    assert {row["video_id"] for row in rows} == set(IDS)
    assert {row["outcome"] for row in rows} == {"ok"}
    assert all([one["name"] for one in row["features"]] == ["audio", "frames", "log_mel"] for row in rows)
    assert len({row["sample"] for row in rows}) == 5 and all(len(row["packets"]) == 16 for row in rows)
    assert all("extract " in row["made_by"] for row in rows)
    assert read_settings(receipt_path(built.path, latest_digest(built.path))) == receipt.settings


def test_the_same_version_gives_the_same_bytes(built, receipt, tmp_path):
    again = receipts.make_receipt(built.path, receipt.version, receipt.settings)
    write_receipt(tmp_path / "again.parquet", again)

    standing = receipt_path(built.path, receipt.version.digest)
    assert (tmp_path / "again.parquet").read_bytes() == standing.read_bytes()


def test_a_root_that_is_indexed_by_it_has_the_same_slots(built, receipt, tmp_path):
    path = receipt_path(built.path, receipt.version.digest)
    root = tmp_path / "elsewhere"

    assert index_receipt(root, path) == 2
    assert index_receipt(root, receipts.kept_path(root)) == 0

    ours = [pq.read_table(root / "segments" / f"{part:06d}.parquet").to_pylist() for part in (0, 1)]
    theirs = [pq.read_table(built.path / "segments" / f"{part:06d}.parquet").to_pylist() for part in (0, 1)]
    assert ours == theirs
    assert {part: one.keys for part, one in read_inventory(root).items()} == {
        part: one.keys for part, one in read_inventory(built.path).items()
    }


def test_a_lost_part_comes_back_from_it(built, receipt, tmp_path):
    root = tmp_path / "elsewhere"
    index_receipt(root, receipt_path(built.path, receipt.version.digest))
    part = root / "segments" / "000001.parquet"
    before = part.read_bytes()
    part.unlink()

    assert index_receipt(root, receipts.kept_path(root)) == 1
    assert part.read_bytes() == before


def test_it_goes_only_into_a_root_of_its_own(built, receipt):
    path = receipt_path(built.path, receipt.version.digest)

    with pytest.raises(
        RequestError, match="has other segments than the receipt: build the receipt into a root of"
    ):
        index_receipt(built.path, path)


def hidden(receipt, *video_ids):
    """The receipt without these videos."""
    return replace(
        receipt, table=receipts._without(receipt.table, video_ids, salt_of(receipt.version.digest))
    )


def test_a_video_that_was_taken_down_is_a_mark_and_nothing_else(receipt, tmp_path):
    path = tmp_path / "hidden.parquet"
    write_receipt(path, hidden(receipt, "second"))

    assert b"second" not in path.read_bytes()
    left = read_receipt(path)
    (row,) = [row for row in left.table.to_pylist() if row["video_id"] is None]
    named = {name for name, value in row.items() if value not in (None, False, [], "")}
    assert named <= {"part", "row", "split", "outcome", "mark"} and row["outcome"] == "forgotten"
    assert marked_among(left.marks, IDS) == {"second"}
    assert left.table.num_rows == len(IDS)


def test_who_builds_by_it_never_gets_that_video_again(receipt, tmp_path):
    path = tmp_path / "hidden.parquet"
    write_receipt(path, hidden(receipt, "second"))
    clips = write_clips(tmp_path / "clips", IDS)
    root = Root(tmp_path / "root", f"folder:{tmp_path / 'clips'}", clips)
    index_receipt(root.path, path)
    (named,) = read_tombstones(root.path)
    assert named == TAKEN_DOWN + next(iter(hidden(receipt, "second").marks)).hex()

    root.build()  # also reads a list that names it

    after = read_receipt(receipt_path(root.path, latest_digest(root.path)))
    rows = [row for row in after.table.to_pylist() if row["outcome"] == "forgotten"]
    assert marked_among(after.marks, IDS) == {"second"} and len(rows) == 2
    assert after.version.num_samples == len(IDS) - 1
    found = differences(read_receipt(path), after)
    assert (found.num_same, found.num_hidden, found.segments) == (4, 1, [])


@given(
    ids=st.sets(st.from_regex(r"[A-Za-z0-9_-]{1,64}", fullmatch=True), max_size=20),
    salt=st.binary(min_size=8, max_size=8),
)
def test_marks_stand_for_their_videos_and_for_no_other(ids, salt):
    some = set(sorted(ids)[::2])
    marks = {mark_of(one, salt) for one in some}

    assert marked_among(marks, ids) == some
    assert marked_among(marks, [f"{TAKEN_DOWN}{mark.hex()}" for mark in marks]) == {
        f"{TAKEN_DOWN}{mark.hex()}" for mark in marks
    }
    assert all(len(mark) == RECEIPT.field("mark").type.byte_width for mark in marks)


def with_column(receipt, name, values):
    at = receipt.table.schema.get_field_index(name)
    column = pa.array(values, RECEIPT.field(name).type)
    return replace(receipt, table=receipt.table.set_column(at, RECEIPT.field(name), column))


@pytest.mark.parametrize(
    ("name", "change", "problem"),
    [
        ("video_id", lambda ids: ["../../etc/x", *ids[1:]], "'../../etc/x' is no video id"),
        ("video_id", lambda ids: [None, *ids[1:]], "a slot has neither an id nor a mark"),
        ("video_id", lambda ids: [ids[1], *ids[1:]], "two slots hold the same segment"),
        ("start_ms", lambda times: [-1, *times[1:]], "a segment does not end after its start"),
        ("end_ms", lambda times: [0, *times[1:]], "a segment does not end after its start"),
        ("end_ms", lambda times: [None, *times[1:]], "a segment does not end after its start"),
        ("split", lambda splits: ["test", *splits[1:]], "a split is none of train, val, eval"),
        ("outcome", lambda outcomes: ["fine", *outcomes[1:]], "an outcome is none"),
        ("row", lambda rows: [5, *rows[1:]], "its slots are not in order"),
        ("part", lambda parts: [-1, *parts[1:]], "its slots are not in order"),
    ],
)  # fmt: skip
def test_slots_that_no_index_gives_are_refused(receipt, tmp_path, name, change, problem):
    path = tmp_path / "odd.parquet"
    write_receipt(path, with_column(receipt, name, change(receipt.table[name].to_pylist())))

    with pytest.raises(RequestError, match=problem) as told:
        read_receipt(path)
    assert str(path) in str(told.value) and "get it again" in str(told.value)


def test_what_is_no_receipt_is_told_so(built, tmp_path):
    text = tmp_path / "list.csv"
    text.write_text("video_id,start\n")
    with pytest.raises(RequestError, match=r"list.csv is no receipt: name a file such as"):
        read_receipt(text)
    with pytest.raises(RequestError, match=r"000000.parquet is no receipt: name a file such as"):
        read_receipt(built.path / "segments" / "000000.parquet")
    with pytest.raises(MissingError, match="there is no such receipt"):
        read_receipt(tmp_path / "nothing.parquet")


def rewritten(receipt, folder, change):
    """A receipt whose metadata were changed by somebody who knows how they are sealed."""
    path = folder / "changed.parquet"
    write_receipt(path, receipt)
    table = pq.read_table(path)
    stored = json.loads(table.schema.metadata[METADATA_KEY])
    stored.pop(DIGEST)
    change(stored)
    sealed = json.dumps({DIGEST: digest_of(stored), **stored}).encode()
    pq.write_table(table.replace_schema_metadata({METADATA_KEY: sealed}), path)
    return path


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda stored: stored.update(format=2), "has format 2, and this mcgurk reads format 1"),
        (lambda stored: stored.pop("format"), "has format None, and this mcgurk reads format 1"),
        (lambda stored: stored["rules"].update(min_smell=1), "settings that this mcgurk does not know"),
        (lambda stored: stored["version"]["profile"].pop("name") and stored["version"]["profile"].update(depth=3),
         "settings that this mcgurk does not know"),
    ],
)  # fmt: skip
def test_a_receipt_of_another_mcgurk_says_which_to_take(receipt, tmp_path, change, problem):
    with pytest.raises(RequestError, match=problem) as told:
        read_receipt(rewritten(receipt, tmp_path, change))
    assert "take the mcgurk that made it" in str(told.value)


def test_metadata_that_were_edited_are_damage(receipt, tmp_path):
    path = tmp_path / "edited.parquet"
    write_receipt(path, receipt)
    table = pq.read_table(path)
    edited = table.schema.metadata[METADATA_KEY].replace(b'"min_rows":20', b'"min_rows":21')
    pq.write_table(table.replace_schema_metadata({METADATA_KEY: edited}), path)

    with pytest.raises(DataError, match="its metadata are not those that were written"):
        read_settings(path)
