"""Whatever is damaged under a root is named, and comes back from what stands, or says what brings it back."""

import json
import shutil

import pytest
from real_servers import run_mcgurk
from roots import write_clips

from benchmarks.damage import ANEW, KINDS, MENDED, NAMED, WAYS, build_root, cells, state_of
from schemas.manifest import part_path, read_part
from schemas.shard import latest_digest
from tasks.feature_files import feature_path

ENDS = {
    "list of lists": NAMED,
    "table of labels": NAMED,
    "clip": NAMED,
    "inventory of parts": ANEW,
    "tombstones": ANEW,
    "history": ANEW,
}


@pytest.fixture(scope="module")
def original(tmp_path_factory, prefect_server):
    return build_root(tmp_path_factory.mktemp("damage"), run_mcgurk)


@pytest.fixture
def root(original, tmp_path):
    return shutil.copytree(original, tmp_path / "root", symlinks=True)


@pytest.mark.parametrize("kind", KINDS)
def test_damage_is_named_and_mended(original, kind):
    ways = {name: WAYS[name] for name in ("deleted", "a bit flipped")}

    found = list(cells(original, {kind: KINDS[kind]}, ways))

    assert found
    for one in found:
        assert (one.way, one.is_named, one.end) == (one.way, True, ENDS.get(kind, MENDED)), one


@pytest.mark.slow
def test_every_damage_is_named_and_mended(original):
    found = list(cells(original, KINDS, WAYS))

    assert len(found) > 100
    assert [one for one in found if not one.is_named or one.end != ENDS.get(one.kind, MENDED)] == []


def test_a_person_is_told_what_is_damaged_what_was_mended_and_what_remains(mcgurk, root):
    before = state_of(root)
    tar = next((root / "shards").glob("*.tar"))
    tar.write_bytes(tar.read_bytes()[:-600])
    feature_path(root, "audio", 0).unlink()

    said = mcgurk("verify", "--root", str(root), code=1)
    mended = mcgurk("verify", "--root", str(root), "--mend", code=0)

    assert f"shards/{tar.name}: has the sha256" in said
    assert "`--mend` rebuilds what it can" in said
    assert f"mended    shards/{tar.name}" in mended
    assert "mended    features/000000.parquet" in mended  # whose file it was
    assert "every byte matches what was recorded" in mended
    assert state_of(root) == before


def test_a_lost_part_of_the_index_is_planned_and_the_next_build_brings_it_back(mcgurk, root):
    before = state_of(root)
    shown = mcgurk("status", "--root", str(root), "--json")
    part_path(root / "segments", 0).unlink()

    planned = mcgurk("plan", "--root", str(root))
    mcgurk("build", "--root", str(root), "--compute", "threads")

    assert "lost: it comes back from its validated twin, or from its lists" in planned
    assert state_of(root) == before
    assert mcgurk("status", "--root", str(root), "--json") == shown


def test_a_lost_part_without_its_twin_stops_the_build_until_its_list_is_named(mcgurk, root, original):
    before = state_of(root)
    part_path(root / "segments", 0).unlink()
    part_path(root / "segments" / "checked", 0).unlink()

    refused = mcgurk("build", "--root", str(root), "--compute", "threads", code=2)
    mcgurk(
        "build",
        "--root",
        str(root),
        "--compute",
        "threads",
        "--segments",
        str(original.parent / "clips" / "list.csv"),
    )

    assert (
        "segments/000000.parquet: lost, and its validated twin too: name list.csv again with --segments"
        in refused
    )
    assert state_of(root) == before


def test_a_damaged_clip_is_removed_and_the_next_build_fetches_it_again(mcgurk, root):
    before = state_of(root)
    digest = latest_digest(root)
    clip = sorted((root / "clips" / "media" / "000000").iterdir())[0]
    content = clip.read_bytes()
    clip.write_bytes(content[:-1] + b"!")

    said = mcgurk("verify", "--root", str(root), "--mend", code=1)
    mcgurk("build", "--root", str(root), "--compute", "threads")

    assert f"not here  clips/media/000000/{clip.name}: only a new download restores it" in said
    assert clip.read_bytes() == content
    assert latest_digest(root) == digest
    changed = {name for name, sha256 in state_of(root).items() if before.get(name) != sha256}
    assert changed <= {"clips/000000.parquet"}  # when it was fetched, and how often
    mcgurk("verify", "--root", str(root))


@pytest.fixture(scope="module")
def without_media(tmp_path_factory, prefect_server):
    """A root whose media were let go once they were extracted."""
    folder = tmp_path_factory.mktemp("released")
    root = build_root(folder, run_mcgurk)
    for clip in (root / "clips" / "media" / "000000").iterdir():
        clip.unlink()
    return root


@pytest.mark.parametrize("name", ["audio", "frames", "log_mel"])
def test_without_media_a_feature_comes_back_from_its_tar(mcgurk, without_media, tmp_path, name):
    root = shutil.copytree(without_media, tmp_path / "root", symlinks=True)
    path = feature_path(root, name, 0)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])

    mcgurk("verify", "--root", str(root), "--mend", code=1)  # the clips are gone

    assert path.read_bytes() == content


def test_without_media_the_rows_of_features_come_back_from_their_twin(mcgurk, without_media, tmp_path):
    root = shutil.copytree(without_media, tmp_path / "root", symlinks=True)
    path = part_path(root / "features", 0)
    rows = read_part(path)
    path.unlink()
    feature_path(root, "audio", 0).unlink()

    mcgurk("verify", "--root", str(root), "--mend", code=1)

    assert read_part(path) == rows


def test_what_is_lost_with_all_that_could_bring_it_back_says_what_is_needed(mcgurk, without_media, tmp_path):
    root = shutil.copytree(without_media, tmp_path / "root", symlinks=True)
    feature_path(root, "audio", 0).unlink()
    for tar in (root / "shards").glob("*.tar"):
        tar.unlink()

    said = mcgurk("verify", "--root", str(root), "--mend", "--json", code=1)

    assert said.startswith("{"), said
    left = json.loads(said.splitlines()[-1])["left"]
    assert left["features/000000.parquet"].startswith("its media are not here: `mcgurk build --refetch`")
    assert latest_digest(root) == latest_digest(without_media)


def test_the_record_of_an_older_version_says_that_only_a_copy_brings_it_back(mcgurk, root, tmp_path):
    older = latest_digest(root)
    more = write_clips(tmp_path / "more", ["sixth"])
    mcgurk(
        "build", "--root", str(root), "--compute", "threads", "--segments", *map(str, more), "--source",
        f"folder:{tmp_path / 'more'}",
    )  # fmt: skip
    (root / "versions" / f"{older}.json").write_text("{")

    said = mcgurk("verify", "--root", str(root), "--mend", code=1)

    assert f"not here  versions/{older}.json: it lists other shards than those that exist: restore it" in said
