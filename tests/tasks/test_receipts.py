"""A receipt says all of a version but its media; one that was tampered with is refused, and hidden videos stay so."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
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
from schemas.shard import latest_digest, make_version, read_version, receipt_path
from tasks.from_receipt import index_receipt
from tasks.inventory import read_inventory
from tasks.tombstones import read_tombstones, write_tombstones
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


def test_naming_it_again_brings_no_name_back_that_was_taken_down(built, receipt, tmp_path):
    path = receipt_path(built.path, receipt.version.digest)
    root = tmp_path / "elsewhere"
    index_receipt(root, path)
    write_tombstones(root, ["third"], {}, is_done=True)
    receipts.forget(root, ["third"])

    index_receipt(root, path)

    kept = read_receipt(receipts.kept_path(root))
    assert "third" not in kept.table["video_id"].to_pylist()
    assert marked_among(kept.marks, IDS) == {"third"}


@pytest.mark.parametrize("damage", [Path.unlink, lambda path: path.write_bytes(b"PAR1" * 10)])
def test_a_lost_copy_comes_back_by_naming_it_again(built, receipt, tmp_path, damage):
    path = receipt_path(built.path, receipt.version.digest)
    root = tmp_path / "elsewhere"
    index_receipt(root, path)
    kept = receipts.kept_path(root)
    damage(kept)
    other = tmp_path / "other.parquet"
    write_receipt(
        other, with_column(receipt, "video_id", ["another", *receipt.table["video_id"].to_pylist()[1:]])
    )

    with pytest.raises(RequestError, match="has other segments than the receipt"):
        index_receipt(root, other)
    assert index_receipt(root, path) == 0

    assert kept.read_bytes() == path.read_bytes()


def test_the_copy_stands_only_where_the_names_of_its_labels_do(built, receipt, tmp_path):
    """A build that was killed between the two would go on by the copy, and name no label."""
    path = tmp_path / "named.parquet"
    write_receipt(
        path, replace(receipt, settings=replace(receipt.settings, labels={"/m/09x0r": (0, "Speech")}))
    )
    root = tmp_path / "elsewhere"
    (root / "segments" / "labels.json").mkdir(parents=True)  # the names can't be written

    with pytest.raises(OSError):
        index_receipt(root, path)

    assert not receipts.kept_path(root).is_file()


def test_a_damaged_receipt_stops_no_take_down(built, receipt, tmp_path):
    """It may name the video, and of an older version nothing makes it again."""
    root = shutil.copytree(built.path, tmp_path / "root")
    path = receipt_path(root, receipt.version.digest)
    content = bytearray(path.read_bytes())
    content[300] ^= 1
    path.write_bytes(content)
    successor = make_version(receipt.version.profile, receipt.version.fields, receipt.version.shards[1:])
    twin = shutil.copytree(root, tmp_path / "twin")

    receipts.succeed(twin, receipt.version.digest, successor, ["third"])
    assert receipts.forget(root, ["third"]) == [path]

    for one in (root, twin):
        assert not list((one / "versions").glob("*.receipt.parquet"))


def test_what_names_the_latest_may_be_damaged_beside_a_lost_receipt(built, receipt, tmp_path):
    """Verify names the one, and after its mending the other."""
    root = shutil.copytree(built.path, tmp_path / "root")
    digest = receipt.version.digest
    receipt_path(root, digest).unlink()
    assert "missing" in receipts.problem_of(root, digest)

    (root / "versions" / "latest.json").write_text("{")

    assert receipts.problem_of(root, digest) == ""


def test_it_goes_only_into_a_root_of_its_own(built, receipt):
    path = receipt_path(built.path, receipt.version.digest)

    with pytest.raises(
        RequestError, match="has other segments than the receipt: build the receipt into a separate"
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
        ("video_id", lambda ids: ["../../etc/x", *ids[1:]], "'../../etc/x' is not a video id"),
        ("video_id", lambda ids: [f"{TAKEN_DOWN}{'0' * 48}", *ids[1:]], "is not a video id"),
        ("video_id", lambda ids: [None, *ids[1:]], "a slot has neither an id nor a mark"),
        ("video_id", lambda ids: [ids[1], *ids[1:]], "two slots hold the same segment"),
        ("start_ms", lambda times: [-1, *times[1:]], "a segment does not end after its start"),
        ("end_ms", lambda times: [0, *times[1:]], "a segment does not end after its start"),
        ("end_ms", lambda times: [None, *times[1:]], "a segment does not end after its start"),
        ("split", lambda splits: ["test", *splits[1:]], "a split is not one of train, val, eval"),
        ("outcome", lambda outcomes: ["fine", *outcomes[1:]], "an outcome is unknown"),
        ("row", lambda rows: [5, *rows[1:]], "its slots are not in order"),
        ("part", lambda parts: [-1, *parts[1:]], "its slots are not in order"),
        ("part", lambda parts: [one and 1_000_000 for one in parts], "its slots are not in order"),
        ("end_ms", lambda times: [2**62, *times[1:]], "its times are not those of a video"),
        ("mark", lambda marks: [b"m" * 24, *marks[1:]], "a slot has neither an id nor a mark, or both"),
        ("split", lambda splits: ["eval", *splits[1:]], "one part is in several splits"),
        ("labels", lambda labels: [None, *labels[1:]], "a segment has no list of labels"),
        ("labels", lambda labels: [[None], *labels[1:]], "a label has no name"),
        ("reason", lambda reasons: [None, *reasons[1:]], "an outcome has no reason"),
        ("features", lambda made: [[None], *made[1:]], "a feature has no name"),
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
    with pytest.raises(RequestError, match=r"list.csv is not a receipt: name a file such as"):
        read_receipt(text)
    with pytest.raises(RequestError, match=r"000000.parquet is not a receipt: name a file such as"):
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
        (lambda stored: stored["version"]["profile"].update(length_ms=10**15), "length_ms is 1000000000000000"),
        (lambda stored: stored["version"]["profile"].update(length_ms="long"), "length_ms is 'long'"),
        (lambda stored: stored["version"]["profile"].update(frame_rate_hz=float("nan")), "frame_rate_hz is nan"),
        (lambda stored: stored["version"]["profile"].update(picture="../x"), "picture is '../x'"),
        (lambda stored: stored["version"]["profile"].update(name="a\n---\n`"), "a profile is named"),
        (lambda stored: stored["rules"].update(min_pass_share=float("nan")), "min_pass_share is nan"),
        (lambda stored: stored["version"].update(digest="../../x"), "its digest is not that of its shards"),
        (lambda stored: stored["version"]["shards"].pop(), "its digest is not that of its shards"),
        (lambda stored: stored["version"]["shards"][0].update(sha256=["x"]), r"sha256 is \['x'\]"),
        (lambda stored: stored.update(preset=5), "a name is not text"),
        (lambda stored: stored.update(labels=None), "settings that this mcgurk does not know"),
        (lambda stored: stored.update(labels={"/m/09x0r": [-1, "Speech"]}), "the label '/m/09x0r' is -1, 'Speech'"),
        (lambda stored: stored.update(labels={"/m/09x0r": [0, "\ud800"]}), "settings that this mcgurk does not"),
        (lambda stored: stored["version"]["profile"].pop("name") and stored["version"]["profile"].update(depth=3),
         "settings that this mcgurk does not know"),
    ],
)  # fmt: skip
def test_a_receipt_of_another_mcgurk_says_which_to_take(receipt, tmp_path, change, problem):
    with pytest.raises(RequestError, match=problem) as told:
        read_receipt(rewritten(receipt, tmp_path, change))
    assert "use the mcgurk that made it" in str(told.value)


@pytest.mark.parametrize("metadata", [b"null", b"[1]", b"[" * 100_000, b"\xff"])
def test_metadata_that_are_no_record_are_damage(receipt, tmp_path, metadata):
    path = tmp_path / "odd.parquet"
    write_receipt(path, receipt)
    pq.write_table(pq.read_table(path).replace_schema_metadata({METADATA_KEY: metadata}), path)

    with pytest.raises(DataError, match="its metadata can't be read"):
        read_receipt(path)


def test_a_small_file_that_fills_the_memory_is_refused_unread(receipt, tmp_path):
    path = tmp_path / "bomb.parquet"
    count = 10_000_001
    many = pa.ListArray.from_arrays(pa.array([0, count], pa.int32()), pa.repeat("a", count))
    table = receipt.table.slice(0, 1).set_column(7, RECEIPT.field("labels"), many)
    write_receipt(path, replace(receipt, table=table))
    assert path.stat().st_size < 100_000

    with pytest.raises(RequestError, match="no receipt is that large"):
        read_receipt(path)


@pytest.mark.parametrize(
    ("name", "value"),
    [("made_by", lambda text: text), ("labels", lambda text: [text]), ("video_id", lambda text: text),
     ("features", lambda text: [{"name": text, "digest": b"d" * 16}])],
)  # fmt: skip
def test_a_text_that_each_row_repeats_is_counted_as_often(receipt, tmp_path, name, value):
    """Parquet holds a long text once, and a table of ten thousand rows ten thousand times."""
    path = tmp_path / "bomb.parquet"
    metadata = written(receipt, path).schema.metadata
    kind = RECEIPT.field(name).type
    rows = pa.table({"part": pa.array([0], pa.int32()), name: pa.array([value("x" * 10_000)], kind)})
    many = rows.take(pa.array(np.zeros(1000, int)))
    with pq.ParquetWriter(path, many.schema.with_metadata(metadata), compression="zstd") as file:
        for _ in range(250):
            file.write_table(many)
    assert path.stat().st_size < 1_000_000

    with pytest.raises(RequestError, match="no receipt is that large"):
        read_receipt(path)


def written(receipt, path):
    write_receipt(path, receipt)
    return pq.read_table(path)


def test_a_video_in_two_splits_is_refused(receipt, tmp_path):
    """Each part is of one split, and yet a clip of a training video would be judged."""
    path = tmp_path / "odd.parquet"
    is_later = [part == 1 for part in receipt.table["part"].to_pylist()]
    splits = ["eval" if later else "train" for later in is_later]
    odd = with_column(receipt, "split", splits)
    ids = odd.table["video_id"].to_pylist()
    odd = with_column(
        odd, "video_id", [ids[0] if n == is_later.index(True) else one for n, one in enumerate(ids)]
    )
    odd = with_column(odd, "start_ms", [int(later) for later in is_later])
    write_receipt(path, odd)

    with pytest.raises(RequestError, match="one video_id is in several splits"):
        read_receipt(path)


@pytest.mark.parametrize("video_id", ["forgotten-a", "forgotten-zz", f"forgotten-{'0' * 46}"])
def test_a_video_whose_id_begins_as_a_hidden_one_can_be_taken_down(receipt, tmp_path, video_id):
    ids = receipt.table["video_id"].to_pylist()
    path = receipts.kept_path(tmp_path)
    write_receipt(path, with_column(receipt, "video_id", [video_id, *ids[1:]]))

    assert receipts.forget(tmp_path, [video_id]) == [path]

    left = read_receipt(path)
    assert (
        marked_among(left.marks, [video_id]) == {video_id}
        and not left.table["video_id"].is_valid()[0].as_py()
    )


def test_metadata_that_were_edited_are_damage(receipt, tmp_path):
    path = tmp_path / "edited.parquet"
    write_receipt(path, receipt)
    table = pq.read_table(path)
    edited = table.schema.metadata[METADATA_KEY].replace(b'"min_rows":20', b'"min_rows":21')
    pq.write_table(table.replace_schema_metadata({METADATA_KEY: edited}), path)

    with pytest.raises(DataError, match="its metadata are not those that were written"):
        read_settings(path)
