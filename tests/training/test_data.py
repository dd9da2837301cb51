"""Reading a version: the right bytes of the right clip."""

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import avc_fixtures as shards
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from schemas.errors import DataError, MissingError
from schemas.shard import index_path, tar_path
from schemas.waveforms import log_mel
from training.reading.dataset import clip_groups, default_groups, open_dataset


@pytest.fixture(scope="module")
def clips():
    return [
        shards.coded_by_time("a"),
        shards.SyntheticClip("gone", "train", [], np.zeros((0,)), np.zeros(0), outcome="quarantined"),
        *shards.corresponding({"train": 3, "val": 1}),
    ]


def test_a_clip_is_read_back_as_it_was_written(tmp_path, clips):
    dataset = open_dataset(tmp_path, shards.write_dataset(tmp_path, clips, clips_per_shard=2))

    row = dataset.keys.index(clips[3].key)
    np.testing.assert_array_equal(dataset.wave(row)[0], clips[3].wave)
    np.testing.assert_array_equal(dataset.log_mel(row), log_mel(clips[3].wave))
    for index, frame in enumerate(clips[3].frames):
        assert np.abs(dataset.frame(row, index).astype(int) - frame).mean() < 6
    assert dataset.labels(row) == clips[3].labels


def test_lost_clips_and_excluded_clips_are_not_there(tmp_path, clips):
    version = shards.write_dataset(tmp_path, clips)

    dataset = open_dataset(tmp_path, version, exclude={clips[2].key})

    assert set(dataset.keys) == {
        clip.key for clip in clips if clip.video_id not in ("gone", clips[2].video_id)
    }
    assert dataset.lineage != open_dataset(tmp_path, version).lineage


def test_splits_are_disjoint_and_whole(tmp_path, clips):
    dataset = open_dataset(tmp_path, shards.write_dataset(tmp_path, clips))

    train = dataset.split("train")
    val = dataset.split("val")

    assert set(val.video_ids) == {"val0000"}
    assert sorted([*train.keys, *val.keys]) == sorted(dataset.keys)
    assert len(dataset.split("eval")) == 0


def test_a_frame_is_decoded_no_larger_than_needed(tmp_path, clips):
    dataset = open_dataset(tmp_path, shards.write_dataset(tmp_path, clips))

    assert dataset.frame(0, 0).shape == (128, shards.WIDTH_PX, 3)
    assert dataset.frame(0, 0, 60).shape == (64, shards.WIDTH_PX // 2, 3)


def test_a_sidecar_with_other_members_is_refused(tmp_path, clips):
    version = shards.write_dataset(tmp_path, clips)
    path = tmp_path / "shards" / f"{version.shards[0].name}.parquet"
    rows = pq.read_table(path).to_pylist()
    rows[0]["members"][0]["suffix"] = "flac"
    pq.write_table(pa.Table.from_pylist(rows, schema=shards.SHARDS), path)

    with pytest.raises(ValueError, match="other members"):
        open_dataset(tmp_path, version)


def test_a_video_without_labels_is_in_no_group_with_another(tmp_path):
    clip = shards.coded_by_time("plain")
    bare = [shards.SyntheticClip(name, "train", [], clip.frames, clip.wave) for name in ("bare", "none")]
    dataset = open_dataset(tmp_path, shards.write_dataset(tmp_path, [clip, *bare]))

    assert default_groups(dataset) == {"plain": "/time"}
    assert len(set(clip_groups(dataset, None))) == 3


def test_damaged_members_are_named_with_the_remedy(tmp_path, clips):
    version = shards.write_dataset(tmp_path, clips[2:])
    tar = tar_path(tmp_path, version.shards[0])
    dataset = open_dataset(tmp_path, version)
    _, offset, size_bytes = dataset.place(0, "000.jpg")
    content = bytearray(tar.read_bytes())
    content[offset : offset + size_bytes] = bytes(size_bytes)
    tar.write_bytes(content)

    with pytest.raises(
        DataError, match=rf"{dataset.keys[0]}\.000\.jpg in train-.*\.tar is damaged: .*mcgurk verify"
    ):
        dataset.frame(0, 0)


def test_a_damaged_log_mel_is_named_with_its_shard(tmp_path, clips):
    suffix = "log_mel.npy"
    version = shards.write_dataset(tmp_path, clips[2:])
    tar = tar_path(tmp_path, version.shards[0])
    dataset = open_dataset(tmp_path, version)
    _, offset, _ = dataset.place(0, suffix)
    content = bytearray(tar.read_bytes())
    content[offset : offset + 40] = bytes(40)
    tar.write_bytes(content)

    with pytest.raises(
        DataError, match=rf"{dataset.keys[0]}\.{suffix} in {version.shards[0].name}\.tar is damaged"
    ):
        dataset.log_mel(0)


def test_a_tar_of_another_size_is_named_before_anything_is_read(tmp_path, clips):
    version = shards.write_dataset(tmp_path, clips[2:])
    tar = tar_path(tmp_path, version.shards[0])
    size = tar.stat().st_size
    tar.write_bytes(tar.read_bytes()[:-1024])

    with pytest.raises(
        DataError, match=rf"{tar.name} is damaged: it has {size - 1024:,} bytes instead of {size:,}"
    ):
        open_dataset(tmp_path, version)


def test_a_tar_that_shrinks_under_a_training_is_an_error_and_no_signal(tmp_path, clips):
    version = shards.write_dataset(tmp_path, clips[2:])
    tar = tar_path(tmp_path, version.shards[0])
    dataset = open_dataset(tmp_path, version)
    dataset.wave(0)  # it is open now
    os.truncate(tar, 512)

    with pytest.raises(
        DataError, match=rf"{tar.name} is damaged: it ends before byte .*mcgurk verify --mend"
    ):
        dataset.wave(0)


def test_more_tars_than_a_process_may_open_are_read(tmp_path, clips, monkeypatch):
    version = shards.write_dataset(tmp_path, clips)
    monkeypatch.setattr("training.reading.shards.KEPT_OPEN", 1)
    dataset = open_dataset(tmp_path, version)
    before = len(list(Path("/proc/self/fd").iterdir()))

    for row in [*range(len(dataset)), *range(len(dataset))]:
        dataset.wave(row)

    assert len(version.shards) > 1
    assert len(list(Path("/proc/self/fd").iterdir())) <= before + 1


def test_threads_that_open_and_close_each_others_tars_read_the_right_bytes(tmp_path, clips, monkeypatch):
    version = shards.write_dataset(tmp_path, clips)
    dataset = open_dataset(tmp_path, version)
    expected = [dataset.wave(row).copy() for row in range(len(dataset))]
    monkeypatch.setattr("training.reading.shards.KEPT_OPEN", 1)
    crowded = open_dataset(tmp_path, version)

    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda n: crowded.wave(n % len(crowded)), range(2000)))

    assert all(np.array_equal(one, expected[n % len(expected)]) for n, one in enumerate(found))


def test_damaged_and_missing_sidecars_are_named(tmp_path, clips):
    version = shards.write_dataset(tmp_path, clips)
    sidecar = index_path(tmp_path, version.shards[0])

    sidecar.write_bytes(b"PAR1 no more")
    with pytest.raises(DataError, match=rf"{version.shards[0].name}\.parquet is damaged .*mcgurk verify"):
        open_dataset(tmp_path, version)
    sidecar.unlink()
    with pytest.raises(MissingError, match=rf"{sidecar} is missing, .*mcgurk verify"):
        open_dataset(tmp_path, version)
