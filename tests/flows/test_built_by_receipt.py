"""A version built again elsewhere by its receipt: the same bytes, or the cause of each difference."""

import json
import os
import random
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import timecode
from plugin_copies import REPOSITORY
from real_servers import hosting, run_mcgurk
from timecode import Recipe

from flows.builds.options import BuildOptions
from flows.builds.pipeline import resolve
from flows.builds.plan import is_complete, plan_all
from schemas.shard import latest_digest, read_version, receipt_path

RECIPE = Recipe(seconds=2, frame_rate=10)
PACKAGES = ("schemas", "tasks", "flows", "training")


def listed(path: Path, ids) -> Path:
    path.write_text("".join(f'{one}, 0.000, 2.000, "/m/09x0r"\n' for one in ids))
    return path


def films(folder: Path, ids, recipe: Recipe = RECIPE) -> dict[str, Path]:
    """A film for each id, each a little longer than the last."""
    folder.mkdir(parents=True, exist_ok=True)
    made = enumerate(ids)
    return {
        one: timecode.write(folder / f"{one}.mp4", replace(recipe, seconds=2 + n / 10)) for n, one in made
    }


def receipt_of(root: Path) -> Path:
    return receipt_path(root, latest_digest(root))


@pytest.fixture(scope="module")
def built(tmp_path_factory, prefect_server):
    """A root of four films, and their folder."""
    folder = tmp_path_factory.mktemp("built")
    ids = ["one", "two", "three", "four"]
    films(folder / "films", ids)
    labels = folder / "class_labels_indices.csv"
    labels.write_text('index,mid,display_name\n0,/m/09x0r,"Speech, or talk"\n')
    root = folder / "root"
    options = ("--preset", "small", "--source", f"folder:{folder / 'films'}", "--compute", "threads")
    run_mcgurk("build", "--root", str(root), *options, "--segments", str(listed(folder / "list.csv", ids)))
    return root, folder / "films"


def has_nothing_to_do(root: Path, receipt: Path) -> bool:
    """Whether a build without a server would end before it begins."""
    pipeline = resolve(BuildOptions(str(root), receipt=str(receipt)))
    return is_complete(pipeline, plan_all(pipeline))


def test_elsewhere_it_is_the_same_version(built, tmp_path):
    root, folder = built
    there = tmp_path / "elsewhere"
    moved = shutil.copy(receipt_of(root), tmp_path / "paper.parquet")  # all that the other has
    options = ("--receipt", str(moved), "--source", f"folder:{folder}", "--compute", "threads")

    planned = run_mcgurk("plan", "--root", str(there), *options)
    told = run_mcgurk("build", "--root", str(there), *options)

    assert "new segments" in planned
    assert "the same version, byte by byte: 4 samples in" in told
    assert read_version(there) == read_version(root)
    assert receipt_of(there).read_bytes() == receipt_of(root).read_bytes()
    kept = there / "segments" / "receipt.parquet"
    kept.write_bytes(b"PAR1 damaged")
    assert "is damaged" in run_mcgurk("build", "--root", str(there), code=2)
    kept.unlink()
    for verb in ("plan", "build"):  # by which profile, nothing else says
        assert "name the receipt again with --receipt" in run_mcgurk(verb, "--root", str(there), code=2)
    assert not has_nothing_to_do(there, moved)
    run_mcgurk("build", "--root", str(there), "--receipt", str(moved))
    assert kept.read_bytes() == moved.read_bytes() and has_nothing_to_do(there, moved)
    # What follows needs neither the receipt nor its name.
    moved.unlink()
    again = run_mcgurk("build", "--root", str(there))
    assert "nothing to do" in again and "the same version, byte by byte" in again
    assert "every byte matches what was recorded" in run_mcgurk("verify", "--root", str(there))


@pytest.mark.parametrize(
    ("options", "why"),
    [
        (("--preset", "dense"), "--preset dense: its samples differ from those of"),
        (("--window", "2"), "says which segments there are: leave --window out"),
        (("--sample", "2"), "says which segments there are: leave --sample out"),
    ],
)
def test_what_a_receipt_says_can_not_be_said_otherwise(built, tmp_path, options, why):
    root, folder = built
    there = tmp_path / "elsewhere"
    given = ("--receipt", str(receipt_of(root)), "--source", f"folder:{folder}")

    told = run_mcgurk("build", "--root", str(there), *given, *options, code=2)

    assert why in told and not (there / "segments").exists()


def test_a_preset_with_the_same_samples_may_be_named(built, tmp_path):
    """Who has a small disk builds what the preset `standard` has made by `lean`."""
    root, folder = built
    given = ("--receipt", str(receipt_of(root)), "--source", f"folder:{folder}", "--preset", "tiny")

    assert "preset   tiny" in run_mcgurk("plan", "--root", str(tmp_path / "elsewhere"), *given)


def test_versions_are_named_as_people_name_them(built):
    root = built[0]
    digest = latest_digest(root)

    for name in ("latest", digest, digest[:6], str(receipt_of(root))):
        assert "the same version, byte by byte" in run_mcgurk("diff", "latest", name, "--root", str(root))
    for name in ("previous", digest[:3], "0123456789"):
        told = run_mcgurk("diff", "latest", name, "--root", str(root), code=2)
        assert f"{name!r} is not a version here; there are, oldest first: {digest[:12]}" in told


def test_a_version_of_before_receipts_gets_one(built, tmp_path):
    root = shutil.copytree(built[0], tmp_path / "root")
    before = receipt_of(root).read_bytes()
    receipt_of(root).unlink()

    against = ("diff", str(receipt_of(built[0])), "latest", "--root", str(root))
    assert "has no receipt" in run_mcgurk(*against, code=2)
    assert "the same version" in run_mcgurk("diff", "latest", "latest", "--root", str(root))
    assert "its receipt is missing" in run_mcgurk("build", "--root", str(root), "--compute", "threads")
    assert receipt_of(root).read_bytes() == before


def earlier_mcgurk(folder: Path) -> Path:
    """The code as an earlier version may have been: its JPEGs are a little coarser."""
    for package in PACKAGES:
        shutil.copytree(REPOSITORY / package, folder / package, ignore=shutil.ignore_patterns("__pycache__"))
    path = folder / "tasks" / "features" / "frames.py"
    text = path.read_text()
    earlier = text.replace("VERSION = 2", "VERSION = 1").replace("quality=profile.jpeg_quality", "quality=80")
    assert text.count("VERSION = 2") == text.count("quality=profile.jpeg_quality") == 1
    path.write_text(earlier)
    return folder


def run_earlier(code: Path, *arguments: str) -> None:
    command = [sys.executable, "-P", "-m", "flows.commands.cli", *arguments]
    environment = {**os.environ, "PYTHONPATH": str(code)}
    done = subprocess.run(
        command, env=environment, cwd=code, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


EACH = 25
CAUSES = ("another_tool", "gone", "re_encoded", "taken_down")


@pytest.mark.slow
def test_a_hundred_planted_differences_have_their_causes(tmp_path, prefect_server):
    """Planted by a list that is drawn before anything is built; explained by receipts alone."""
    ids = [f"video{n:03d}" for n in range(EACH * len(CAUSES) + 20)]
    drawn = random.Random(23).sample(ids, EACH * len(CAUSES))
    planted = {one: CAUSES[n // EACH] for n, one in enumerate(drawn)}
    untouched = sorted(set(ids) - set(planted))
    by_cause = {cause: [one for one in drawn if planted[one] == cause] for cause in CAUSES}
    files = films(tmp_path / "films", ids)
    root = tmp_path / "root"
    with hosting(files) as host:
        source = ("--source", f"{host.address}/{{video_id}}.mp4", "--preset", "lean", "--val-share", "0")
        # Built over months: a part by an earlier mcgurk, whose samples stay since `lean` keeps no media.
        first = listed(tmp_path / "first.csv", by_cause["another_tool"])
        code = earlier_mcgurk(tmp_path / "earlier")
        run_earlier(code, "build", "--root", str(root), *source, "--segments", str(first))
        others = [one for one in drawn if planted[one] != "another_tool"]
        run_mcgurk("build", "--root", str(root), "--segments", str(listed(tmp_path / "second.csv", others)))
        run_mcgurk("build", "--root", str(root), "--segments", str(listed(tmp_path / "third.csv", untouched)))
    assert read_version(root).num_samples == len(ids)

    files |= films(tmp_path / "anew", by_cause["re_encoded"], replace(RECIPE, key_every=7))
    there = tmp_path / "elsewhere"
    with hosting(files) as host:
        host.statuses |= dict.fromkeys(by_cause["gone"], 404)
        given = ("--receipt", str(receipt_of(root)), "--source", f"{host.address}/{{video_id}}.mp4")
        run_mcgurk("build", "--root", str(there), *given)
    run_mcgurk("forget", *by_cause["taken_down"], "--root", str(there))

    told = json.loads(
        run_mcgurk("diff", str(receipt_of(root)), "latest", "--root", str(there), "--json").splitlines()[-1]
    )
    assert {one["key"].removesuffix("_0_2000"): one["cause"] for one in told["segments"]} == planted
    assert told["num_same"] == len(untouched)
    tools = {one["detail"] for one in told["segments"] if one["cause"] == "another_tool"}
    assert tools == {"frames: frames 1 -> frames 2"}
    ours = {shard.part: shard.sha256 for shard in read_version(there).shards}
    theirs = {shard.part: shard.sha256 for shard in read_version(root).shards}
    assert [part for part in theirs if ours[part] == theirs[part]] == [2] and told["num_same_shards"] == 1
