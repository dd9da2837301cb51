"""A name that was taken down is found wherever a file says it, as that kind of file is read."""

import sqlite3
import tarfile
from contextlib import closing
from io import BytesIO

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from schemas.storage import open_root, place
from tasks.feature_files import MEMBERS, drop_members, open_members
from tasks.versions.traces import Named, clean_database, clean_log, find_traces
from training.report.redact import without_videos

KEY = "dQw4w9WgXcQ_1000_3000"
NAMED = Named(["dQw4w9WgXcQ", "plain"], [KEY])


@pytest.mark.parametrize("video_id", ["20260131_120000", "12345678901"])
def test_a_long_number_names_a_video_wherever_it_stands(video_id):
    """Cameras name films by the time."""
    page = f"{video_id}.mp4 has no sound"

    assert Named([video_id], [])(page)
    assert without_videos(page, [video_id]) == "[taken down].mp4 has no sound"


@pytest.mark.parametrize(
    "text", ["dQw4w9WgXcQ", KEY, f"at {KEY}.jpg", "see dQw4w9WgXcQ_1000.", "plain_0_2000"]
)
def test_a_video_is_named_by_its_id_alone_or_with_times(text):
    assert NAMED(text)
    assert NAMED.without(f"[{text}]").count("[taken down]") == 1
    assert not NAMED(NAMED.without(text))


@pytest.mark.parametrize("text", ["xdQw4w9WgXcQ", "dQw4w9WgXcQx", "dQw4w9WgXcQ-1", "", None, "plain text"])
def test_what_only_holds_its_letters_does_not_name_it(text):
    assert not NAMED(text)


@pytest.mark.parametrize("video_id", ["001", "5", "2000", "-", "a"])
def test_an_id_that_is_a_short_number_names_a_video_only_with_times_behind_it(video_id):
    """A folder of films that are numbered: frame 001 of another film, and each 5 on a page, are not the film."""
    named = Named([video_id], [f"{video_id}_0_2000"])
    page = f"{video_id} of 10, {video_id}.jpg, x_0_3000.{video_id}.jpg"

    assert not named(page) and without_videos(page, [video_id]) == page
    for text in (f"`{video_id}_0_2000`", f"{video_id}_0_2000.001.jpg"):
        assert named(text) and "[taken down]" in named.without(text)
        assert "[taken down]" in without_videos(text, [video_id])


def test_a_name_within_a_longer_one_is_no_trace(tmp_path):
    """Names stand side by side in Arrow's bytes, so these alone don't say where one begins."""
    path = tmp_path / "features" / "audio" / "000000.arrow"
    path.parent.mkdir(parents=True)
    for key, found in (("11_0_2000", []), ("1_0_2000", [path])):
        table = pa.table({"key": [key], "suffix": ["wav"], "data": [b"x"]}, MEMBERS)
        with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, MEMBERS) as writer:
            writer.write_table(table)

        assert find_traces(tmp_path, tmp_path / "state", Named(["1"], ["1_0_2000"])) == found


def write_parquet(path):
    pq.write_table(pa.table({"n": [1], "labels": pa.array([[f"of {KEY}"]])}), path, compression="zstd")


def write_database(path):
    with closing(sqlite3.connect(path)) as database:
        database.execute("CREATE TABLE t (id INTEGER, told TEXT)")
        database.execute("INSERT INTO t VALUES (1, ?)", (f"about {KEY}",))
        database.commit()


def write_tar(path):
    with tarfile.open(path, "w") as tar:
        tar.addfile(tarfile.TarInfo(f"{KEY}.wav"), BytesIO())


KINDS = {
    "versions/a.md": lambda path: path.write_text(f"- `{KEY}`\n"),
    "versions/d.duplicates.parquet": write_parquet,
    "shards/train-000000-01234567.tar": write_tar,
    "features/audio/000000.arrow": lambda path: path.write_bytes(b"abc" + KEY.encode() + b"abc"),
    "mlruns/mlflow.db": write_database,
    "state/logs/prefect.log": lambda path: path.write_text(f"GET /{KEY}\n"),
    f"state/scratch/{KEY}/media.mp4": lambda path: path.write_bytes(b""),
    "state/attempts/000000.jsonl": lambda path: path.write_text(f'{{"key": "{KEY}"}}\n'),
}


@pytest.mark.parametrize("name", KINDS)
def test_each_kind_of_file_is_read_as_such(tmp_path, name):
    path = tmp_path / name
    path.parent.mkdir(parents=True)
    KINDS[name](path)

    assert find_traces(tmp_path, tmp_path / "state", NAMED) == [path]


@pytest.mark.parametrize("name", [name for name in KINDS if not name.startswith("state/")])
def test_the_files_of_a_store_are_read_too(tmp_path, name):
    path = tmp_path / "made" / name
    path.parent.mkdir(parents=True)
    KINDS[name](path)
    store = open_root(f"memory://{tmp_path.name}-{len(name)}")
    place(path, store / name)

    found = find_traces(store, tmp_path / "state", NAMED, [0])

    assert [str(one) for one in found] == [str(store / name)]


@pytest.mark.parametrize("name", ["segments/000000.parquet", "clips/checked/000003.parquet", "shards/000000.parquet",
                                  "segments/forgotten.json", "list.csv", "state/windows/windows.csv",
                                  "state/tars/0.parquet"])  # fmt: skip
def test_slots_tombstones_and_lists_may_name_it(tmp_path, name):
    path = tmp_path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    write_parquet(path) if path.suffix == ".parquet" else path.write_text(KEY)

    assert find_traces(tmp_path, tmp_path / "state", NAMED) == []


def test_a_database_keeps_nothing_of_it_in_its_file(tmp_path):
    path = tmp_path / "server.db"
    write_database(path)
    assert KEY.encode() in path.read_bytes()

    assert clean_database(path, NAMED)

    assert KEY.encode() not in path.read_bytes()
    assert not clean_database(path, NAMED)


def test_a_log_is_cleaned_where_it_lies(tmp_path):
    path = tmp_path / "server.log"
    path.write_text(f"one {KEY}\ntwo\n")
    with path.open("a") as server:
        assert clean_log(path, NAMED)
        server.write("three\n")

    assert path.read_text() == "one [taken down]\ntwo\nthree\n"
    assert not clean_log(path, NAMED)


def test_the_padding_of_a_feature_file_shows_no_neighbour(tmp_path):
    keys = [f"key{n:03d}_0_2000" for n in range(12)]
    path = tmp_path / "features" / "audio" / "000000.arrow"
    path.parent.mkdir(parents=True)
    rows = [{"key": key, "suffix": "wav", "data": f"sound of {key}".encode() * 3} for key in keys]
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, MEMBERS) as writer:
        writer.write_table(pa.Table.from_pylist(rows, MEMBERS))

    for key in keys[1::2]:
        drop_members(path, [key])
        assert key.encode() not in path.read_bytes()
        drop_members(path, [key])
    assert read_keys(path) == keys[::2]


def test_padding_of_an_earlier_time_goes_too(tmp_path):
    path = tmp_path / "000000.arrow"
    whole = pa.Table.from_pylist(
        [{"key": key, "suffix": "wav", "data": b"x"} for key in ("a_0_1", KEY)], MEMBERS
    )
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, MEMBERS) as writer:
        writer.write_table(whole.slice(0, 1))  # as it was written once
    assert KEY.encode()[:3] in path.read_bytes()

    drop_members(path, [KEY[:3]])

    assert KEY.encode()[:3] not in path.read_bytes()
    assert read_keys(path) == ["a_0_1"]


def read_keys(path):
    with open_members(path) as table:
        return table["key"].to_pylist()
