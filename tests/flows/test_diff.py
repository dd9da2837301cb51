"""What changed between versions, and why, on a root that the command line built: as a person asks it."""

import json
import shutil
from collections import Counter

import pytest
import timecode
from real_servers import run_mcgurk
from roots import write_clips
from timecode import Recipe

from flows.experiments.due import recorded
from schemas.shard import latest_digest, published, read_version
from tasks.versions.prune import prune

IDS = ["aaa", "bbb", "ccc"]


class Story:
    """A root and what was done to it, one version after the other."""

    def __init__(self, folder):
        self.folder = folder
        self.root = folder / "root"
        (self.list,) = write_clips(folder / "media", IDS)
        self.digests = {}

    def build(self, name, *options):
        source = f"folder:{self.folder / 'media'}"
        run_mcgurk("build", "--root", str(self.root), "--source", source, "--compute", "threads", *options)
        self.digests[name] = latest_digest(self.root)

    def diff(self, before, after, root=None):
        names = (self.digests.get(before, before), self.digests.get(after, after))
        return json.loads(run_mcgurk("diff", *names, "--root", str(root or self.root), "--json"))


@pytest.fixture(scope="module")
def story(prefect_server, tmp_path_factory):
    """First; late: a segment more; media: another file under the id `bbb`; taken down: `ccc`; larger: a preset."""
    one = Story(tmp_path_factory.mktemp("story"))
    one.build("first", "--preset", "small", "--segments", str(one.list))
    late = one.folder / "late.csv"
    timecode.write(one.folder / "media" / "ddd.mp4", Recipe(seconds=2, frame_rate=10))
    late.write_text('ddd, 0.000, 2.000, "/m/09x0r"\n')
    one.build("late", "--preset", "small", "--segments", str(one.list), str(late))
    timecode.write(one.folder / "media" / "bbb.mp4", Recipe(seconds=3, frame_rate=20))
    next((one.root / "clips" / "media").glob("*/bbb_*")).unlink()
    one.build("media", "--preset", "small")
    run_mcgurk("forget", "ccc", "--root", str(one.root))
    one.digests["taken down"] = latest_digest(one.root)
    one.build("larger", "--preset", "standard")
    return one


@pytest.fixture
def without_receipts(story, tmp_path):
    """The root as versions of before there were receipts are."""
    root = shutil.copytree(story.root, tmp_path / "root")
    for path in (root / "versions").glob("*.receipt.parquet"):
        path.unlink()
    return root


def causes(found):
    return Counter(one["cause"] for one in found["segments"])


def test_a_late_segment_is_added_and_equal_shards_are_not_opened(story):
    """Both were retired by the take-down, and the sidecar of the shard that they share is gone."""
    found = story.diff("first", "late")

    assert [(one["cause"], one["key"]) for one in found["segments"]] == [("added", "ddd_0_2000")]
    assert (found["num_same"], found["num_same_shards"], found["num_shards"]) == (3, 1, 1)
    assert found["untold"] == [
        f"the exclusion list of {story.digests['first'][:12]} is gone: lists are not compared"
    ]


def test_a_take_down_is_told_without_a_name(story):
    found = story.diff("media", "taken down")

    assert found["segments"] == [{"key": "", "cause": "taken_down", "detail": "", "part": 0}]
    assert found["num_same"] == 3
    said = run_mcgurk("diff", story.digests["media"], "latest", "--root", str(story.root))
    assert "1 taken down" in said and "(its name is gone)" in said and "ccc" not in said


def test_other_media_are_told_with_receipts_and_without(story, without_receipts):
    *_, late, media, _ = published(story.root)  # as they are without what was taken down

    for root, cause in ((story.root, "re_encoded"), (without_receipts, "other_media")):
        found = story.diff(late, media, root)
        assert [(one["cause"], one["key"]) for one in found["segments"]] == [(cause, "bbb_0_2000")]
        assert found["num_same"] == 2 and found["untold"] == []


def test_another_preset_changes_every_sample(story, without_receipts):
    found = story.diff("previous", "latest", without_receipts)

    assert causes(found) == {"another_profile": 3} and found["num_same"] == 0
    assert found["settings"] == ["profile (frame_short_side_px 128 -> 256)"]


def test_what_was_pruned_is_compared_as_far_as_records_tell(story, tmp_path):
    root = shutil.copytree(story.root, tmp_path / "root")
    before = published(root)[0]
    shard = read_version(root, before).shards[0]
    prune(root, root / "state", keep=1)

    found = story.diff(before, "latest", root)

    assert (
        f"{shard.name}.parquet is gone: which 2 sample(s) it had, and what became of them" in found["untold"]
    )
    assert found["num_same"] == 0
    told = run_mcgurk("diff", before, "latest", "--root", str(root))
    assert "not known: " in told


def test_names_that_fit_no_version_or_several_are_refused(story):
    for name in ("0123456789", ""):
        told = run_mcgurk("diff", name, "latest", "--root", str(story.root), code=2)
        assert (
            f"{name!r} is not a version here; there are, oldest first: {story.digests['first'][:12]}" in told
        )


def test_versions_are_listed_with_what_stands(story):
    found = json.loads(run_mcgurk("versions", "--root", str(story.root), "--json"))

    assert [one["digest"] for one in found if one["standing"] != "superseded"] == published(story.root)
    by_name = {name: next(one for one in found if one["digest"] == d) for name, d in story.digests.items()}
    assert by_name["larger"]["standing"] == "latest" and by_name["media"]["standing"] == "superseded"
    assert by_name["taken down"]["replaces"] == story.digests["media"]
    assert by_name["late"]["samples"] == 4 and by_name["larger"]["profile"] == "standard"
    assert all(one["trained"] is None for one in found)


def test_the_list_is_a_line_a_version_and_says_what_was_trained_on(story, tmp_path):
    root = shutil.copytree(story.root, tmp_path / "root")
    trained = published(root)[-1]
    with recorded(root / "state", read_version(root, trained)):
        pass

    said = run_mcgurk("versions", "--root", str(root)).splitlines()

    assert said[0] == "4 version(s) exist; 3 older one(s) are only recorded"
    (line,) = [one for one in said if one.startswith(trained[:12])]
    assert " 3 " in line and "standard      latest; last trained on at " in line and "(finished)" in line
    assert said[-1] == f"next: mcgurk diff previous latest --root {root}"


def test_a_root_without_a_version_has_none_to_list(prefect_server, tmp_path):
    told = run_mcgurk("versions", "--root", str(tmp_path), code=2)

    assert f"no dataset version under {tmp_path}" in told
