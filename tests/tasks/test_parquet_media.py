"""Media inside Parquet, as Hugging Face writes it; a row is found by path, key, or the segment that it names."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import Dataset, Features, Value, Video
from hypothesis import given
from hypothesis import strategies as st

from schemas.outcome import ItemError
from tasks.sources import open_source
from tasks.transport.policy import Access, DownloadLimits

STRUCT = pa.struct({"bytes": pa.binary(), "path": pa.string()})


def put(tmp_path, columns, name="train-00000-of-00001.parquet", **settings):
    path = tmp_path / "data" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), path, **settings)
    return path


def fetched(tmp_path, video_id, access=None):
    folder = tmp_path / "scratch" / str(len(list((tmp_path / "scratch").glob("*"))))
    folder.mkdir(parents=True)
    with open_source(f"parquet:{tmp_path}/data", tmp_path / "state", access) as fetch:
        return {path.name: path.read_bytes() for path in fetch(video_id, folder).iterdir()}


@given(
    contents=st.lists(st.binary(min_size=1, max_size=2000), min_size=1, max_size=12),
    group=st.integers(1, 5),
    compression=st.sampled_from(["snappy", "zstd", "none"]),
)
def test_every_row_is_found_whatever_the_groups(contents, group, compression, tmp_path_factory):
    tmp_path = tmp_path_factory.mktemp("parquet")
    rows = [{"bytes": content, "path": f"x/video{n}_0000{n + 10}.mp4"} for n, content in enumerate(contents)]
    put(tmp_path, {"label": ["Dog"] * len(rows), "video": pa.array(rows, STRUCT)}, row_group_size=group,
        compression=compression)  # fmt: skip

    for n, content in enumerate(contents):
        assert fetched(tmp_path, f"video{n}") == {f"video{n}_{n + 10}000_{n + 20}000.mp4": content}


def test_what_hugging_faces_datasets_writes_is_read(tmp_path):
    videos = [{"bytes": b"%d" % n * 500, "path": f"id{n}_000007.mp4"} for n in range(3)]
    features = Features({"video": Video(decode=False), "label": Value("string")})
    (tmp_path / "data").mkdir()
    made = Dataset.from_dict({"video": videos, "label": list("abc")}, features=features)
    made.to_parquet(tmp_path / "data" / "train.parquet")

    assert fetched(tmp_path, "id2") == {"id2_7000_17000.mp4": b"2" * 500}


@pytest.mark.parametrize(
    ("columns", "name"),
    [
        ({"__key__": ["abc_000030"], "mp4": [b"x"]}, "abc_30000_40000.mp4"),
        ({"__key__": ["abc"], "webm": [b"x"], "json": [b"{}"]}, "abc.webm"),
        ({"video_id": ["abc"], "start": [30], "video": [b"x"]}, "abc_30000_40000.mp4"),
        (
            {"youtube_id": ["abc"], "start_time": [30.5], "end_time": [35.5], "video": [b"x"]},
            "abc_30500_35500.mp4",
        ),
        ({"video_id": ["abc"], "clip": [b"x"]}, "abc.mp4"),
        ({"audio": pa.array([{"bytes": b"x", "path": "abc_30.flac"}], STRUCT)}, "abc_30000_40000.flac"),
    ],
)
def test_a_row_says_what_it_holds(tmp_path, columns, name):
    put(tmp_path, columns)

    assert fetched(tmp_path, "abc")[name] == b"x"


def test_pictures_come_before_sounds(tmp_path):
    both = {"audio": pa.array([{"bytes": b"sound", "path": "abc.wav"}], STRUCT)}
    put(tmp_path, both | {"video": pa.array([{"bytes": b"film", "path": "abc.mp4"}], STRUCT)})

    assert fetched(tmp_path, "abc") == {"abc.mp4": b"film"}


def test_a_row_without_bytes_and_one_too_large_are_told(tmp_path):
    rows = [{"bytes": None, "path": "abc.mp4"}, {"bytes": b"x" * 1000, "path": "abd.mp4"}]
    put(tmp_path, {"video": pa.array(rows, STRUCT)})

    with pytest.raises(ItemError, match="names abc, and has no bytes of it"):
        fetched(tmp_path, "abc")
    with pytest.raises(ItemError, match="too_large"):
        fetched(tmp_path, "abd", Access(limits=DownloadLimits(size_bytes=999)))
    with pytest.raises(ItemError, match="nothing of abe in parquet:"):
        fetched(tmp_path, "abe")


@pytest.mark.parametrize("content", [b"", b"PAR1" + b"\0" * 100 + b"PAR1", b"no parquet"])
def test_a_damaged_file_is_told_and_the_others_are_used(tmp_path, content, caplog):
    put(tmp_path, {"__key__": ["abc"], "mp4": [b"x"]})
    (tmp_path / "data" / "a.parquet").write_bytes(content)

    assert fetched(tmp_path, "abc") == {"abc.mp4": b"x"}
    assert "a.parquet: " in caplog.text


def test_a_file_of_texts_holds_no_media(tmp_path):
    put(tmp_path, {"video_id": ["abc"], "label": ["Dog"]})

    with pytest.raises(ValueError, match="no media files in"):
        fetched(tmp_path, "abc")


def test_groups_are_read_row_by_row_and_a_group_too_large_is_refused(tmp_path, monkeypatch, caplog):
    from tasks.sources import parquet

    monkeypatch.setattr(parquet, "GROUP_BYTES", 1000)
    put(tmp_path, {"__key__": ["abc"], "mp4": [b"x" * 2000]}, "a.parquet")
    put(tmp_path, {"__key__": ["abd"], "mp4": [b"x"]}, "b.parquet")

    assert fetched(tmp_path, "abd") == {"abd.mp4": b"x"}
    assert "a.parquet: a row group has more than 1,000 bytes of media" in caplog.text
