"""A late success fills its own slot: what fails for a month changes no byte, what arrives then changes one shard."""

from datetime import timedelta

import pytest
import timecode
from clocks import FakeClock
from hostile import HostileHost, hostile
from roots import MONDAY, PROFILE, Root

from schemas.files import sha256_of_file
from schemas.manifest import part_path, read_header, read_manifest
from schemas.shard import make_version
from tasks.acquisition import ledger
from tasks.features import member_suffixes
from tasks.shard_files import packed
from tasks.transport.lanes import DAY_S

IDS = [f"video{n}" for n in range(9)]  # three parts of three
LATE = "video4"
STAGES = ("download", "validate-clips", "extract", "validate-features", "pack")
MONTH_DAYS = 31


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    recipe = timecode.Recipe(seconds=2, frame_rate=10)
    return timecode.write(tmp_path_factory.mktemp("clip") / "clip.mp4", recipe)


@pytest.fixture(params=["503", "404"])
def world(request, tmp_path, clip):
    """A root that was built while its host lacked one video, and that host: (root, host)."""
    host = HostileHost(clip, FakeClock(MONDAY.timestamp()), {LATE: request.param})
    with hostile(host):
        root = Root(tmp_path / "root", f"{host.address}/{{video_id}}.mp4", [listed(tmp_path / "a.csv", IDS)])
        root.build()
        yield root, host


def listed(path, ids):
    path.write_text("".join(f'{video_id}, 0.000, 2.000, "/m/09x0r"\n' for video_id in ids))
    return path


def contents(root, *folders):
    """sha256 of every file in folders of the root."""
    paths = (path for name in folders for path in (root.path / name).rglob("*") if path.is_file())
    return {str(path.relative_to(root.path)): sha256_of_file(path) for path in paths}


def made(root):
    """What training sees: tars, feature files, and the version they make."""
    files = contents(root, "shards", "features")
    bytes_of = {name: sha for name, sha in files.items() if not name.endswith(".parquet")}
    return bytes_of, make_version(PROFILE, member_suffixes(PROFILE), packed(root.path)).digest


def written(root):
    """When each shard and its index were written."""
    return {path.name: path.stat().st_mtime_ns for path in (root.path / "shards").iterdir() if path.is_file()}


def slots(root):
    return {row["key"]: (part, row["row"]) for part, row in read_manifest(root.path / "segments")}


def a_month_passes(root, host):
    """A run every day."""
    for _ in range(MONTH_DAYS):
        root.now += timedelta(days=1)
        host.clock.advance(DAY_S)
        for name in STAGES:
            root.run(name)


def decoding(clips):
    """Runs batches in place, and notes which clips they decode."""

    def run(function, batches):
        clips.extend(row["key"] for batch in batches for row, _ in batch.clips)
        return map(function, batches)

    return run


def test_a_month_of_failed_retries_changes_no_byte_of_what_was_made(world):
    root, host = world
    before = made(root)
    when = written(root)
    asked = len(host.log)

    a_month_passes(root, host)

    tries = [row for part in range(3) for row in ledger.attempts(root.state, part) if row["video_id"] == LATE]
    assert len(host.log) - asked >= len(tries) - 1 >= 2
    assert made(root) == before
    if tries[-1]["outcome"] == "waiting":
        assert written(root) == when  # not even written again
    else:  # the third day that saw it gone: the index of its own shard says so
        stem = next(shard.name for shard in packed(root.path) if shard.part == slot_of(root)[0])
        changed = {name for name, ns in written(root).items() if when[name] != ns}
        assert changed <= {f"{stem}.tar", f"{stem}.parquet", f"{slot_of(root)[0]:06d}.parquet"}


def slot_of(root):
    return slots(root)[f"{LATE}_0_2000"]


def test_a_late_success_decodes_one_clip_and_rebuilds_one_shard(world):
    root, host = world
    a_month_passes(root, host)
    part, _ = slot_of(root)
    shards = packed(root.path)
    before = contents(root, "shards", "features", "clips")
    places = slots(root)
    host.back_at_s[LATE] = 0.0
    decoded = []
    root.now += timedelta(days=30)  # when it is tried again
    host.log.clear()

    done = root.build(decoding(decoded))

    assert {video_id for _, video_id in host.log} == {LATE}
    assert decoded == [f"{LATE}_0_2000"]
    assert {name: parts for name, parts in done.items() if parts != [part]} == {}
    after = packed(root.path)
    assert [one for one in after if one.part != part] == [one for one in shards if one.part != part]
    assert [one.num_samples for one in after if one.part == part] == [3]
    changed = {
        name for name, sha in contents(root, "shards", "features", "clips").items() if before.get(name) != sha
    }
    assert {name for name in changed if f"{part:06d}" not in name} == set()
    assert (
        set(before) - set(contents(root, "shards", "features", "clips")) == set()
    )  # the old shard stays, too
    assert slots(root) == places


def test_another_list_moves_no_slot_and_no_shard(world, tmp_path):
    root, _ = world
    made_of = "shards", "features", "clips/media"  # what failed once is due again, and its row of clips tells
    places = slots(root)
    shards = packed(root.path)
    before = contents(root, *made_of)

    root.lists.append(listed(tmp_path / "b.csv", ["another0", *IDS[:4], "another1"]))
    root.build()

    assert {key: slots(root)[key] for key in places} == places
    assert packed(root.path)[: len(shards)] == shards
    now = contents(root, *made_of)
    assert {name: now[name] for name in before} == before
    assert read_header(part_path(root.path / "shards", 3)).facts["num_ok"] == 2
