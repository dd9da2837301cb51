"""From an empty folder to a registered model by what our own commands print, in a shell that knows nothing of us."""

import os
import re
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pyarrow as pa
import pytest

from flows.pipeline import OF_WINDOWS
from flows.presets import PRESETS
from flows.trainings import check
from tasks.index import hashes
from tasks.sources.scenes.corpus import CorpusConfig, media_path, render_scene
from training.models import configure, load, preset_named

NUM_VIDEOS = {"train": 6, "val": 3, "eval": 4}
BUDGET = "--set steps=2"


def split_of(video_id: str) -> str:
    """The split that the index gives a video of a folder, by the law of `tasks/index.py`."""
    (place,) = (hashes(pa.chunked_array([[video_id]])) & 0xFFFFFFFF) / 2**32
    if place < OF_WINDOWS["val_share"]:
        return "val"
    return "eval" if place >= 1 - OF_WINDOWS["eval_share"] else "train"


@pytest.fixture(scope="module")
def videos(tmp_path_factory) -> Path:
    """Generated scenes as somebody's own files, of which every split gets enough."""
    folder, corpus = tmp_path_factory.mktemp("videos"), CorpusConfig(sum(NUM_VIDEOS.values()), seed=5)
    wanted = [split for split, count in NUM_VIDEOS.items() for _ in range(count)]
    names = iter(f"video{number:04d}" for number in range(10_000))
    for index, split in enumerate(wanted):
        render_scene(folder, corpus, index)
        name = next(name for name in names if split_of(name) == split)
        media_path(folder, corpus, index).rename(folder / f"{name}.mp4")
    (folder / "media").rmdir()
    return folder


def shell(command: str, folder: Path) -> str:
    """What a command prints in a fresh shell with nothing in its environment. Fails where it does not end well."""
    environment = {"PATH": f"{Path(sys.executable).parent}:{os.defpath}", "HOME": str(folder)}
    done = subprocess.run(
        command, shell=True, cwd=folder, env=environment, capture_output=True, text=True, timeout=500
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
    return done.stdout


def following(told: str) -> str:
    """The command that was printed as the next one."""
    return re.findall(r"^next: (.+)$", told, re.MULTILINE)[-1]


def registered(root: Path) -> list[tuple[str, str]]:
    """Names and aliases in the store below a root."""
    with closing(sqlite3.connect(root / "mlruns" / "mlflow.db")) as store:
        return store.execute("SELECT name, alias FROM registered_model_aliases ORDER BY alias").fetchall()


@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_trains_a_model_that_its_profile_fits(preset):
    config = PRESETS[preset]()
    name, _, kind = config.train.model.partition("/")

    check(config.train)
    load(name).needs(configure(name, preset_named(name, kind))).check(config.profile, name)


@pytest.mark.slow
@pytest.mark.parametrize("preset", PRESETS)
def test_what_is_printed_leads_from_an_empty_folder_to_a_registered_model(preset, videos, tmp_path):
    built = shell(
        f"mcgurk build --root data --preset {preset} --source folder:{videos} --window 10", tmp_path
    )
    train = following(built)
    trained = shell(f"{train} {BUDGET}", tmp_path)

    assert train.startswith("mcgurk train ") and following(trained).startswith("mcgurk serve ")
    assert registered(tmp_path / "data") == [("mcgurk-avc", "challenger"), ("mcgurk-avc", "champion")]


@pytest.mark.slow
def test_a_root_with_a_state_folder_elsewhere_is_followed_too(videos, tmp_path):
    built = shell(
        f"mcgurk build --root data --preset small --source folder:{videos} --window 10 --state 'a state'",
        tmp_path,
    )
    shell(f"{following(built)} {BUDGET}", tmp_path)

    assert registered(tmp_path / "data") == [("mcgurk-avc", "challenger"), ("mcgurk-avc", "champion")]
    assert not (tmp_path / "data" / "state").exists(), "no second state folder was begun"
    assert list((tmp_path / "a state").glob("prefect/prefect.db"))
