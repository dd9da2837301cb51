"""verify and prune on a root that the command line built from real clips."""

import json
import shutil
from dataclasses import replace

import pytest
from real_servers import run_mcgurk, snapshot
from roots import Root, write_clips

from flows.builds.options import BuildOptions
from flows.builds.pipeline import resolve
from flows.builds.plan import plan_publish
from schemas.files import sha256_of_file
from schemas.manifest import read_part
from schemas.shard import index_path, published, read_version, tar_path
from tasks.parts import PartPlan, Plan

KEY = "HitBag_0002_0_6000"
CLIPS = (KEY, "GRIDbbaf2n5_0_3000", "-NoSoundT04_0_5750", "Bento_lawn1_0_1100")


@pytest.fixture(scope="module")
def original(shared, prefect_server, tmp_path_factory):
    """Four of the real clips, one of them without sound."""
    folder = tmp_path_factory.mktemp("real")
    lines = (shared / "segments.csv").read_text().splitlines()
    ids = [key.rsplit("_", 2)[0] for key in CLIPS]
    (folder / "list.csv").write_text("".join(f"{line}\n" for line in lines if line.startswith(tuple(ids))))
    options = ["--segments", str(folder / "list.csv"), "--source", f"folder:{shared / 'videos.csv'}"]
    run_mcgurk("build", "--root", str(folder / "root"), "--preset", "small", *options)
    return folder / "root"


@pytest.fixture
def root(original, tmp_path):
    return shutil.copytree(original, tmp_path / "root")


def test_a_root_is_proved_from_its_bytes_and_from_its_clips(root):
    before = snapshot(root)

    told = run_mcgurk("verify", "--root", str(root), "--rebuild")
    found = json.loads(run_mcgurk("verify", "--root", str(root), "--json").splitlines()[0])

    assert "every byte matches what was recorded; every shard rebuilt from its clips is identical" in told
    assert found["differences"] == []
    assert (found["checked"]["samples"], found["checked"]["clips"], found["checked"]["versions"]) == (3, 4, 1)
    assert snapshot(root) == before
    assert not list((root / "state").glob("rebuild-*"))


def test_a_shard_that_does_not_come_from_its_clips_is_named_by_member(root):
    """As a careful forger would: sidecar, manifest and version agree with the bytes, the clips do not."""
    (shard,) = read_version(root).shards
    tar = tar_path(root, shard)
    row = next(row for row in read_part(index_path(root, shard)) if row["key"] == KEY)
    wav = next(one for one in row["members"] if one["suffix"] == "wav")
    content = bytearray(tar.read_bytes())
    content[wav["offset"] + 100] ^= 1
    tar.write_bytes(content)

    told = run_mcgurk("verify", "--root", str(root), "--rebuild", "--compute", "threads", code=1)

    assert f"shards/{shard.name}.tar: has the sha256 {sha256_of_file(tar)}, not {shard.sha256}" in told
    assert f"shards/{shard.name}.tar: {KEY}.wav: differs from what was packed" in told
    assert "next: mcgurk plan" in told


def test_a_clip_that_was_replaced_is_seen_by_a_rebuild(root):
    clips = root / "clips" / "media" / "000000"
    target = next(clips.glob(f"{KEY}.*"))
    shutil.copy(next(path for path in clips.glob("GRID*")), target)

    told = run_mcgurk("verify", "--root", str(root), "--rebuild", "--compute", "threads", code=1)

    assert f"clips/media/000000/{target.name}: {KEY}: has the sha256" in told
    assert f"{KEY}.000.jpg: is not in the rebuilt tar" in told  # too short now, and rejected


def test_prune_keeps_two_versions_and_says_what_it_removed(root):
    for preset in ("standard", "small", "standard"):
        run_mcgurk("build", "--root", str(root), "--preset", preset, "--compute", "threads")
    small, standard = published(root)
    tars = set((root / "shards").glob("*.tar"))

    told = run_mcgurk("prune", "--root", str(root))

    assert f"kept  {standard[:12]}  the latest version" in told
    assert f"kept  {small[:12]}  one of the last 2 versions" in told
    assert "0 file(s) removed, 0.0 MB (0 bytes)" in told
    assert set((root / "shards").glob("*.tar")) == tars and len(tars) == 2


def test_verbs_of_versions_refuse_a_root_without_one(tmp_path, mcgurk):
    for verb in ("verify", "prune"):
        assert "no dataset version" in mcgurk(verb, "--root", str(tmp_path), code=2)
    assert list(tmp_path.iterdir()) == []


def test_a_version_whose_page_a_kill_prevented_is_published_again(tmp_path):
    folder = tmp_path / "media"
    root = Root(tmp_path / "root", f"folder:{folder}", write_clips(folder, ["a"]))
    root.build()
    pipeline = resolve(BuildOptions(str(root.path), "small"))
    pipeline = replace(pipeline, config=replace(pipeline.config, profile=root.profile))
    before = plan_publish(pipeline, Plan("pack")).parts

    (root.path / "versions" / f"{read_version(root.path).digest}.html").unlink()

    assert before == [PartPlan(0, "done")]
    assert plan_publish(pipeline, Plan("pack")).parts == [PartPlan(0, "stale", "its page is missing")]
