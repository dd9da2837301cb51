"""Prune removes what nothing names, and nothing else."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from threading import Event

import pytest
from real_servers import REPOSITORY
from roots import PROFILE, Root, write_clips

from schemas.shard import latest_digest, published, read_history, read_superseded, read_version, tar_path
from tasks.leases import lease, training_mark, unread
from tasks.versions.prune import prune
from tasks.versions.verify import verify

HOLDER = """
import sys, time
from pathlib import Path
from tasks.leases import training_mark
with training_mark(Path(sys.argv[1]), sys.argv[2]):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def root(tmp_path):
    folder = tmp_path / "media"
    return Root(tmp_path / "root", f"folder:{folder}", write_clips(folder, ["a", "b"]))


def publish(root, quality):
    """A version of the same clips with JPEGs of another quality."""
    root.profile = replace(PROFILE, jpeg_quality=quality)
    root.build()
    return read_version(root.path).digest


def files(root):
    return {path.name for path in (root.path / "shards").iterdir()}


def test_the_last_two_versions_stay_and_are_whole(root):
    first, second, third = (publish(root, quality) for quality in (60, 70, 80))
    gone = read_version(root.path, first).shards

    pruned = prune(root.path, root.state)

    assert pruned.retired == [first]
    assert pruned.kept == {second: "one of the last 2 versions", third: "the latest version"}
    assert set(pruned.removed) == {
        f"shards/{shard.name}.{kind}" for shard in gone for kind in ("tar", "parquet")
    }
    assert published(root.path) == [second, third]
    assert verify(root.path, map).differences == []
    assert [version.digest for version in read_superseded(root.path)] == [first]
    assert not list((root.path / "versions").glob(f"{first}.*"))


def test_a_second_prune_removes_nothing(root):
    for quality in (60, 70, 80):
        publish(root, quality)
    prune(root.path, root.state)
    before = files(root)

    assert (prune(root.path, root.state).removed, files(root)) == ({}, before)


def test_a_version_that_was_built_again_counts_by_the_last_time(root):
    first = publish(root, 60)
    second = publish(root, 70)
    assert publish(root, 60) == first
    third = publish(root, 80)

    pruned = prune(root.path, root.state)

    assert [line["digest"] for line in read_history(root.path)] == [first, second, first, third]
    assert pruned.retired == [second]
    assert published(root.path) == [first, third]
    assert latest_digest(root.path) == third


def test_what_a_running_training_reads_stays_until_it_is_dead(root):
    first, *_ = (publish(root, quality) for quality in (60, 70, 80))
    command = [sys.executable, "-c", HOLDER, str(root.state), first]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env={"PYTHONPATH": str(REPOSITORY)}
    ) as holder:
        assert holder.stdout.readline() == b"held\n"
        during = prune(root.path, root.state)
        holder.kill()

    assert during.kept[first] == "a training or an export is reading it"
    assert during.removed == {}
    assert prune(root.path, root.state).retired == [first]


def test_the_mark_of_a_training_goes_with_its_version(root):
    first, second, _ = (publish(root, quality) for quality in (60, 70, 80))
    for digest in (first, second):
        with training_mark(root.state, digest):
            pass

    prune(root.path, root.state)

    assert [path.name for path in (root.state / "trainings").iterdir()] == [second]


def test_a_training_that_waited_for_a_prune_has_a_mark_that_the_next_one_sees(tmp_path):
    begun = Event()
    ends = Event()

    def read():
        with training_mark(tmp_path, "d"):
            begun.set()
            ends.wait(60)

    with ThreadPoolExecutor(1) as pool:
        with unread(tmp_path, "d") as is_unread:
            reading = pool.submit(read)
            assert is_unread and not begun.is_set()
        assert begun.wait(60)
        with unread(tmp_path, "d") as is_unread:
            assert not is_unread
        ends.set()
        reading.result()


def test_two_trainings_may_read_one_version(root):
    with training_mark(root.state, "d"), training_mark(root.state, "d"):
        assert (root.state / "trainings" / "d").is_file()


def test_shards_that_a_manifest_names_stay_before_they_are_published(root):
    for quality in (60, 70):
        publish(root, quality)
    root.profile = replace(PROFILE, jpeg_quality=90)
    for name in ("extract", "validate-features", "pack"):
        root.run(name)
    before = files(root)

    assert (prune(root.path, root.state).removed, files(root)) == ({}, before)


def test_a_shard_that_two_versions_share_stays(root):
    publish(root, 60)
    root.lists += write_clips(root.path.parent / "more", ["c"])
    for path in (root.path.parent / "more").glob("*.mp4"):
        path.rename(root.path.parent / "media" / path.name)
    second = publish(root, 60)
    root.lists += write_clips(root.path.parent / "most", ["d"])
    for path in (root.path.parent / "most").glob("*.mp4"):
        path.rename(root.path.parent / "media" / path.name)
    third = publish(root, 60)

    pruned = prune(root.path, root.state)

    assert (len(pruned.retired), pruned.removed) == (1, {})
    assert all(
        tar_path(root.path, s).is_file() for d in (second, third) for s in read_version(root.path, d).shards
    )


def test_an_unknown_lease_is_refused(tmp_path):
    with pytest.raises(ValueError, match="use some of segments, clips"), lease(tmp_path, "shard"):
        pass
