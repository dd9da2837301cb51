"""Gzipped tars: unpacked once, for an index; then any member is read without all that stands before it."""

import gzip
import io
import os
import random
import tarfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.outcome import ItemError
from tasks.files import bytes_at
from tasks.files.bytes_at import Gzipped, Plain
from tasks.sources import open_source

MEMBERS = st.lists(st.binary(min_size=1, max_size=3000), min_size=1, max_size=6)


def tar_of(contents):
    """A tar with members v0.mp4, v1.mp4, ..."""
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w") as tar:
        for number, content in enumerate(contents):
            header = tarfile.TarInfo(f"scratch/deep/v{number}.mp4")
            header.size = len(content)
            tar.addfile(header, io.BytesIO(content))
    return sink.getvalue()


def fetched(tmp_path, video_id):
    folder = tmp_path / "scratch" / str(len(list((tmp_path / "scratch").glob("*"))))
    folder.mkdir(parents=True)
    with open_source(f"tars:{tmp_path}/tars", tmp_path / "state") as fetch:
        return (fetch(video_id, folder) / f"{video_id}.mp4").read_bytes()


def put(tmp_path, data, name="part_00.tar.gz"):
    (tmp_path / "tars").mkdir(exist_ok=True)
    (tmp_path / "tars" / name).write_bytes(data)
    return tmp_path / "tars" / name


@given(content=st.binary(min_size=1, max_size=20_000), pieces=st.integers(1, 4), data=st.data())
def test_any_bytes_are_those_of_the_plain_file(content, pieces, data, tmp_path_factory):
    """Of one gzip stream, or of several behind each other as pigz and bgzip write them."""
    folder = tmp_path_factory.mktemp("gz")
    (folder / "plain").write_bytes(content)
    step = -(-len(content) // pieces)
    streams = (gzip.compress(content[at : at + step]) for at in range(0, len(content), step))
    (folder / "packed").write_bytes(b"".join(streams))
    plain = Plain(folder / "plain")
    packed = Gzipped(folder / "packed")

    for _ in range(5):
        offset = data.draw(st.integers(0, len(content) + 10))
        size = data.draw(st.integers(1, 5000))
        assert packed.read_at(offset, size) == plain.read_at(offset, size)
        assert packed.holds(offset) == plain.holds(offset)
    for file in (plain, packed):
        file.close()


@given(contents=MEMBERS, name=st.sampled_from(["a.tar.gz", "a.tgz", "a.TAR.GZ"]))
def test_members_are_those_of_the_tar(contents, name, tmp_path_factory):
    tmp_path = tmp_path_factory.mktemp("tars")
    put(tmp_path, gzip.compress(tar_of(contents)), name)

    assert [fetched(tmp_path, f"v{n}") for n in range(len(contents))] == contents


def test_a_member_is_read_without_what_stands_before_it(tmp_path, monkeypatch):
    """What stands before it is destroyed once the index is there, and it comes all the same."""
    monkeypatch.setattr(bytes_at, "SPACING_BYTES", 1 << 16)
    contents = [random.Random(n).randbytes(200_000) for n in range(10)]
    path = put(tmp_path, gzip.compress(tar_of(contents), mtime=0))
    assert fetched(tmp_path, "v9") == contents[9]
    facts = path.stat()
    packed = path.read_bytes()
    path.write_bytes(packed[:1000] + bytes(1_000_000) + packed[1_001_000:])
    os.utime(path, ns=(facts.st_atime_ns, facts.st_mtime_ns))

    assert fetched(tmp_path, "v9") == contents[9]
    with pytest.raises(ItemError, match="damaged|shorter"):
        fetched(tmp_path, "v2")


def test_a_tar_that_is_another_is_unpacked_again(tmp_path):
    put(tmp_path, gzip.compress(tar_of([b"a" * 1000])))
    assert fetched(tmp_path, "v0") == b"a" * 1000

    put(tmp_path, gzip.compress(tar_of([b"b" * 2000, b"c"])))
    assert (fetched(tmp_path, "v0"), fetched(tmp_path, "v1")) == (b"b" * 2000, b"c")


def test_what_stands_before_a_cut_is_used(tmp_path, caplog):
    contents = [random.Random(n).randbytes(50_000) for n in range(4)]
    packed = gzip.compress(tar_of(contents))
    put(tmp_path, packed[: len(packed) * 5 // 8])

    assert fetched(tmp_path, "v0") == contents[0]
    assert "what comes before that is used" in caplog.text
    with pytest.raises(ItemError, match="nothing of v3"):
        fetched(tmp_path, "v3")


def test_bytes_that_only_look_like_gzip_are_told(tmp_path, caplog):
    put(tmp_path, b"\x1f\x8b" + os.urandom(2000))

    with pytest.raises(ValueError, match="no media files in"):
        fetched(tmp_path, "v0")
    assert "part_00.tar.gz: " in caplog.text


def test_a_bomb_is_not_unpacked(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(bytes_at, "FREE_BYTES", 1 << 16)
    bomb = tar_of([b"first", bytes(5_000_000), b"last"])
    put(tmp_path, gzip.compress(bomb))

    assert fetched(tmp_path, "v0") == b"first"
    assert "it unpacks to more than 100 times its size" in caplog.text
    with pytest.raises(ItemError, match="nothing of v2"):
        fetched(tmp_path, "v2")
