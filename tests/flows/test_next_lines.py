"""From an empty folder to a registered model by what our own commands print, in a shell that knows nothing of us."""

import os
import re
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from scene_files import write_scenes

from flows.experiments.fit import check
from flows.presets import PRESETS
from training.models import configure, load, preset_named

BUDGET = "--set steps=2"


@pytest.fixture(scope="module")
def videos(tmp_path_factory) -> Path:
    """A folder of somebody's own videos, of which every split gets enough."""
    return write_scenes(tmp_path_factory.mktemp("videos"))


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
