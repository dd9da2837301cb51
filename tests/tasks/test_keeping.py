"""Media wait for extraction as far as there is room, may go after it, and are fetched again where they are needed."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta

import fsspec
import pyarrow.parquet as pq
import pytest
import timecode
from clocks import FakeClock
from hostile import HostileHost, hostile
from roots import MONDAY, PROFILE, Root
from small_roots import RECIPE, clip_rows, day, indexed

from schemas.layout import MEDIA
from schemas.manifest import part_path, read_header, read_manifest, write_table
from schemas.shard import make_version
from schemas.storage import open_root
from tasks import download, extract
from tasks.acquisition import retention
from tasks.acquisition.retention import DiskBudget
from tasks.download import DownloadConfig, DownloadContext
from tasks.features import member_suffixes
from tasks.funnel import measure_funnel
from tasks.parts import commit_part, plan_stage, read_inputs
from tasks.shard_files import packed
from tasks.standing import kept_by_maker, num_kept, with_returned
from tasks.versions.verify import verify

IDS = [f"video{n}" for n in range(5)]  # parts of three and two
LATE = "video4"
STAGES = ("validate-segments", "download", "validate-clips", "extract", "validate-features", "pack")
CHANGED = replace(PROFILE, frame_short_side_px=64)


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    return timecode.write(tmp_path_factory.mktemp("clip") / "clip.mp4", RECIPE)


@pytest.fixture
def host(clip):
    with hostile(HostileHost(clip, FakeClock(MONDAY.timestamp()))) as host:
        yield host


@pytest.fixture
def root(host, tmp_path):
    """A root whose media were let go, but for one video that its host did not have."""
    host.faults[LATE] = "503"
    root = built(tmp_path / "root", host)
    assert retention.release(root.stage("download"), root.stage("extract")) > 0
    return root


def built(path, host, profile=PROFILE):
    path.mkdir()
    (path / "list.csv").write_text("".join(f'{one}, 0.000, 2.000, "/m/09x0r"\n' for one in IDS))
    root = Root(path, f"{host.address}/{{video_id}}.mp4", [path / "list.csv"], profile)
    root.build()
    return root


def plans(root):
    return {name: plan_stage(root.stage(name)).counts() for name in STAGES}


def media(root):
    return sorted(path.stem.split("_")[0] for path in (root.path / MEDIA).rglob("*") if path.is_file())


def version(root):
    return make_version(root.profile, member_suffixes(root.profile), packed(root.path)).digest


def outcomes(root):
    return {video: (row["outcome"], row["reason"]) for video, row in clip_rows(root.path).items()}


def lacking(root):
    return retention.missing_media(root.stage("download"), root.stage("extract"))


def test_nothing_changes_for_what_was_made_of_media_that_were_let_go(root, host):
    before = version(root)
    host.log.clear()

    assert media(root) == []
    assert plans(root) == dict.fromkeys(STAGES, {"done": 2, "stale": 0, "failed": 0, "missing": 0})
    assert measure_funnel(root.path)["in_shards"] == 4
    assert not verify(root.path, map).differences
    assert set(root.build()) == {"download"}
    assert {video for _, video in host.log} == {LATE}  # what failed once is due at once
    assert version(root) == before
    assert lacking(root) == {}


def test_one_that_arrives_late_fetches_none_of_its_neighbours(root, host):
    host.back_at_s[LATE] = 0.0
    host.log.clear()
    root.now += timedelta(days=1)

    root.build()

    assert {video for _, video in host.log} == {LATE}
    assert media(root) == [LATE]
    assert set(outcomes(root).values()) == {("ok", "")}
    assert measure_funnel(root.path)["in_shards"] == 5


def test_another_extraction_says_what_it_lacks_and_fetches_it_again(root, host, tmp_path):
    host.faults.clear()
    root.now += timedelta(days=1)
    root.build()
    retention.release(root.stage("download"), root.stage("extract"))
    root.profile = CHANGED
    asked = lacking(root)

    assert sorted(key for keys in asked.values() for key in keys) == [f"{one}_0_2000" for one in IDS]
    assert retention.request_refetch(root.stage("download"), asked, root.now) == 5
    assert set(outcomes(root).values()) == {("waiting", "refetch")}
    host.log.clear()
    root.build()

    assert {video for _, video in host.log} == set(IDS)
    assert version(root) == version(built(tmp_path / "fresh", host, CHANGED))


def test_what_cannot_be_had_again_waits_and_is_counted(root, host):
    host.faults |= {"video0": "404"}
    root.profile = CHANGED
    retention.request_refetch(root.stage("download"), lacking(root), root.now)

    root.build()

    assert outcomes(root)["video0"] == ("waiting", "removed")
    assert measure_funnel(root.path)["in_shards"] == 3
    assert measure_funnel(root.path)["waiting"] == {"network": 1, "removed": 1}


def test_a_plan_names_the_clips_before_anything_starts(root):
    root.profile = CHANGED
    planned = plan_stage(root.stage("download"))

    told = retention.with_refetch(planned, lacking(root))

    assert told.counts()["stale"] == 2
    assert told.note == "4 clip(s) are fetched again: extraction changed, and their media were not kept"
    assert retention.with_refetch(planned, {}) is planned


def test_media_that_a_rule_keeps_from_extraction_stay(host, tmp_path):
    path = tmp_path / "root"
    root = built(path, host)
    stage = root.stage("validate-clips")
    rows = [row for row in clip_rows(path).values()]
    assert len(media(root)) == len(rows) == 5
    quarantine(stage, "video1")

    root.run("extract")
    retention.release(root.stage("download"), root.stage("extract"))

    assert media(root) == ["video1"]


def test_on_a_store_no_more_goes_than_on_a_disk(host, tmp_path):
    root = built(tmp_path / "root", host)
    quarantine(root.stage("validate-clips"), "video1")
    root.run("extract")
    store = open_root(f"memory://{tmp_path.name}")
    fsspec.filesystem("memory").put(f"{root.path}/", f"/{tmp_path.name}/", recursive=True)

    freed = retention.release(download.stage(store, root.downloads), extract.stage(store, root.profile))

    left = [path.stem for path in (store / MEDIA).rglob("*.mkv")]
    assert left == ["video1_0_2000"]
    assert freed == retention.release(root.stage("download"), root.stage("extract"))


def quarantine(stage, video_id):
    """Has a rule reject the clip of a video."""
    for planned in plan_stage(stage).parts:
        inputs = read_inputs(stage, planned.part)
        verdict = {"outcome": "quarantined", "reason": "rule", "digest": ""}
        rows = [{**row, **(verdict if row["video_id"] == video_id else {})} for row in inputs.rows]
        commit_part(stage, inputs, rows)


def test_a_kill_between_manifest_and_files_leaves_files_that_go_the_next_time(root):
    left = root.path / MEDIA / "000000" / "video0_0_2000.mkv"
    left.parent.mkdir(parents=True, exist_ok=True)
    left.write_bytes(b"what the kill left")

    assert retention.release(root.stage("download"), root.stage("extract")) == 18

    assert not left.parent.exists()


def test_media_of_parts_that_are_not_extracted_take_room_and_stay(host, tmp_path):
    root = built(tmp_path / "root", host)
    sizes = read_header(part_path(root.path / "clips", 1)).files
    root.profile = CHANGED

    stages = [root.stage(name) for name in ("download", "validate-clips", "extract")]
    assert retention.release(stages[0], stages[-1]) == 0
    assert retention.unextracted_bytes(*stages) >= 2 * sum(sizes.values())
    root.run("extract")
    assert retention.unextracted_bytes(*stages) == 0


def test_what_came_after_its_part_was_extracted_takes_room_until_it_is_too(host, tmp_path):
    host.faults[LATE] = "503"
    root = built(tmp_path / "root", host)
    stages = [root.stage(name) for name in ("download", "validate-clips", "extract")]
    host.faults.clear()

    root.run("download")

    assert retention.unextracted_bytes(*stages) > 0  # a run may be killed before its clips are checked
    root.build()
    assert retention.unextracted_bytes(*stages) == 0


def test_fetching_stops_where_the_room_ends_and_the_rest_is_due(host, tmp_path, clip):
    root = indexed(tmp_path / "root", IDS)
    config = DownloadConfig(f"{host.address}/{{video_id}}.mp4")
    stage = download.stage(root, config)
    on = day(root)

    tried = download.run(
        stage, [0], config, replace(on, budget=DiskBudget(lambda: 1.5 * clip.stat().st_size))
    )

    verdicts = {video: (row["outcome"], row["reason"]) for video, row in clip_rows(root).items()}
    assert tried == 2
    assert sorted(verdicts.values()) == [("ok", "")] * 2 + [("waiting", "queued")] * 3
    assert download.run(stage, [0], config, replace(on, budget=DiskBudget(lambda: 0))) == 0
    assert download.run(stage, [0], config, on) == 3


def test_without_room_a_clip_that_vanished_is_not_held_for_there(host, tmp_path):
    root = indexed(tmp_path / "root", IDS[:2])
    config = DownloadConfig(f"{host.address}/{{video_id}}.mp4")
    stage = download.stage(root, config)
    on = day(root)
    download.run(stage, [0], config, on)
    before = clip_rows(root)
    (root / before["video0"]["path"]).unlink()

    assert download.run(stage, [0], config, replace(on, budget=DiskBudget(lambda: 0))) == 0

    row = clip_rows(root)["video0"]
    assert (row["outcome"], row["reason"], row["path"]) == ("waiting", "refetch", None)
    assert download.with_due(stage, plan_stage(stage), on.now).due() == [0]
    assert download.run(stage, [0], config, on) == 1
    assert clip_rows(root) == before


def test_without_room_what_a_killed_run_fetched_is_written_into_its_part(host, tmp_path):
    root = indexed(tmp_path / "root", IDS[:2])
    config = DownloadConfig(f"{host.address}/{{video_id}}.mp4")
    stage = download.stage(root, config)
    on = day(root)
    host.faults["video0"] = "503"
    download.run(stage, [0], config, on)
    before = part_path(root / "clips", 0).read_bytes()
    host.faults.clear()
    download.run(stage, [0], config, on)
    part_path(root / "clips", 0).write_bytes(before)  # killed before it wrote its part

    download.run(stage, [0], config, replace(on, budget=DiskBudget(lambda: 0)))

    assert len(read_header(part_path(root / "clips", 0)).files) == 2


def other_tools(monkeypatch):
    tools = {**extract._tools(), "numpy": "99.1"}
    monkeypatch.setattr(extract, "_tools", lambda: tools)


def needs(root):
    return retention.needs(root.stage("download"), root.stage("extract"))


def kept(root):
    return sorted(row["key"] for _, row in read_manifest(root.path / "features") if row["is_kept"])


FOUR = [f"{one}_0_2000" for one in IDS if one != LATE]


def test_other_tools_keep_what_they_can_not_make_anew(root, host, monkeypatch):
    before = version(root)
    host.log.clear()
    other_tools(monkeypatch)

    assert needs(root).lost == {}
    assert sorted(key for keys in needs(root).kept.values() for key in keys) == FOUR
    assert retention.describe_needs(needs(root)).startswith(
        "4 sample(s) stay as earlier code or tools made them"
    )
    assert {"extract"} < set(root.build())
    assert {video for _, video in host.log} == {LATE}
    assert (kept(root), version(root), num_kept(root.path)) == (FOUR, before, 4)
    assert plan_stage(root.stage("extract")).due() == []


def test_rows_of_a_time_before_recipes_stay_too(root, monkeypatch):
    columns = {"made_by", "recipe", "is_kept"}
    for name in ("features", "features/checked"):
        for part in (0, 1):
            path = part_path(root.path / name, part)
            header = read_header(path)
            table = pq.read_table(path)
            assert header
            write_table(path, table.select([c for c in table.column_names if c not in columns]), header)
    before = version(root)
    other_tools(monkeypatch)

    root.build()

    assert (kept(root), version(root)) == (FOUR, before)
    assert kept_by_maker(root.path) == {"an earlier version of mcgurk": 4}


def test_media_that_come_back_byte_for_byte_are_extracted_before_they_go(root, host, monkeypatch):
    other_tools(monkeypatch)
    root.build()
    clips = root.stage("download")
    stage = root.stage("extract")

    assert retention.request_refetch(clips, {}, root.now, kept=needs(root).kept) == 4
    root.run("download")
    assert len(media(root)) == 4
    assert retention.release(clips, stage) == 0  # nothing was made of them yet
    planned = with_returned(stage, plan_stage(stage))
    assert planned.due() == [0, 1]
    assert planned.parts[0].reason == "the media of 3 clip(s) are back"

    with ThreadPoolExecutor(2) as pool:
        extract.run(stage, planned.due(), root.profile, pool.map)

    assert with_returned(stage, plan_stage(stage)).due() == []
    assert (kept(root), num_kept(root.path)) == ([], 0)
    assert retention.release(clips, stage) > 0


def test_a_version_of_the_download_alone_asks_for_nothing(root, host, monkeypatch):
    before = clip_rows(root.path)
    host.log.clear()
    monkeypatch.setattr(download, "VERSION", download.VERSION + 1)

    done = root.build()

    assert {video for _, video in host.log} == {LATE}  # which is due
    assert done["download"] == [0, 1]
    after = clip_rows(root.path)
    assert {one: after[one] for one in IDS if one != LATE} == {one: before[one] for one in IDS if one != LATE}


def test_a_world_that_is_broken_is_told_of_clips_that_stand_too(root, host, monkeypatch):
    other_tools(monkeypatch)
    monkeypatch.setattr(download, "MIN_TRIED", 4)
    root.build()
    retention.request_refetch(root.stage("download"), {}, root.now, kept=needs(root).kept)
    host.faults |= dict.fromkeys(IDS, "503")

    with pytest.raises(RuntimeError, match="of . videos failed through no fault of their own"):
        download.run(root.stage("download"), [0, 1], root.downloads, day_of(root))

    assert {one: outcomes(root)[one] for one in IDS[:4]} == dict.fromkeys(IDS[:4], ("ok", "network"))


def day_of(root):
    return DownloadContext(root.now, root.state, FakeClock(root.now.timestamp()))
