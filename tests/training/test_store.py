"""A root that is moved or copied takes its runs, artefacts and champion along, and leaves the old place alone."""

import json
import re
import shutil
import sqlite3
from contextlib import closing

import mlflow
import pytest
import torch
from documents import REPOSITORY, in_fresh_shell
from mlflow.artifacts import load_text

from training.estimates import GateScore
from training.models import load_model
from training.tracking.connection import repository
from training.tracking.registry import measure_champion, promote, register
from training.tracking.runs import (
    MlflowClient,
    MlflowException,
    RunSpec,
    VersionSource,
    clean_artifacts,
    connect,
    experiment_run,
    has_run,
)
from training.tracking.store import HOLDERS, KEPT, SCHEME, Store, relocate

NAME = "mcgurk-moved"
CARD = "Paper: of nobody"
DIGEST = "d" * 64


def addresses(store: Store) -> set[str]:
    """Every address of artefacts in the database."""
    with closing(sqlite3.connect(store.database)) as connection:
        rows = [
            row for table, column in HOLDERS for row in connection.execute(f"SELECT {column} FROM {table}")
        ]
    return {address for (address,) in rows if address}


def trained_in(store: Store, trained, name: str = NAME) -> str:
    """A run with a page, its checkpoint and its model as champion; its id."""
    with experiment_run(store, RunSpec("first", {}, VersionSource(DIGEST, ""), {})) as run:
        run.client.log_text(run.run_id, "of clip0001", "report.html")
        run.log_artifact(trained)
        version = register(run, load_model(trained), name, GateScore(0.7, "e1"), CARD)
    assert promote(store, name, version).is_promoted
    return run.run_id


def absolute(store: Store) -> None:
    """Turns the addresses of a store into what they were before they were relative."""
    place = f"file://{store.database.parent}/artifacts"
    with closing(sqlite3.connect(store.database, isolation_level=None)) as connection:
        for table, column in HOLDERS:
            connection.execute(
                f"UPDATE {table} SET {column} = ? || substr({column}, ?) WHERE {column} LIKE ?",
                (f"{place}/", len(SCHEME) + 1, f"{SCHEME}%"),
            )
        # Ours lay in the folder itself.
        connection.execute("UPDATE experiments SET artifact_location = ? WHERE name = 'mcgurk'", (place,))
        elsewhere = f"file://{store.root.parent}/mlruns/0"
        connection.execute(
            "UPDATE experiments SET artifact_location = ? WHERE experiment_id = 0", (elsewhere,)
        )


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "root")


@pytest.fixture(params=["relative", "absolute"])
def moved(request, store, trained, tmp_path):
    """(the store after its root was moved, the id of its run)."""
    run_id = trained_in(store, trained)
    if request.param == "absolute":
        absolute(store)
    store.root.rename(tmp_path / "moved")
    return Store(tmp_path / "moved"), run_id


def test_a_new_store_holds_relative_addresses_only(store, trained):
    trained_in(store, trained)

    found = addresses(store)

    assert len(found) >= 5 and all(one.startswith((SCHEME, "models:/m-")) for one in found)
    assert not relocate(store.database)


def test_a_champion_goes_with_its_root(moved, store, capfd):
    where, _ = moved
    asked = []

    def measure(path):
        asked.append(load_model(path))
        return GateScore(0.6, "e2")

    assert measure_champion(where, NAME, "e2", measure) == "" and len(asked) == 1
    assert "Downloading" not in capfd.readouterr().err, "the console has our own lines only"
    program = mlflow.pytorch.load_model(f"models:/{NAME}@champion")
    frames = torch.zeros(2, 112, 112, 3, dtype=torch.uint8)
    waves = torch.zeros(2, 16_000)
    assert program(frames, waves).shape == (2,)
    assert not store.root.exists()


def test_what_a_moved_root_is_given_lies_in_it(moved, store):
    where, run_id = moved
    spec = RunSpec("first", {}, VersionSource(DIGEST, ""), {}, run_id)

    with experiment_run(where, spec) as run:
        run.log_results({"loss": 1.0})

    assert len(list(where.root.rglob("results.json"))) == 1
    assert not store.root.exists()


def test_a_take_down_in_a_copy_leaves_the_original_alone(moved, tmp_path, capfd):
    original, run_id = moved
    shutil.copytree(original.root, tmp_path / "copy")
    copy = Store(tmp_path / "copy")

    changed = clean_artifacts(copy, [DIGEST], lambda text: text.replace("clip0001", "nobody"))

    assert changed == [f"{run_id}/report.html"]
    assert "Downloading" not in capfd.readouterr().err
    assert [p.read_text() for p in copy.root.rglob("report.html")] == ["of nobody"]
    assert [p.read_text() for p in original.root.rglob("report.html")] == ["of clip0001"]


def test_absolute_addresses_are_rewritten_once_and_a_copy_kept(store, trained):
    run_id = trained_in(store, trained)
    relative = addresses(store)
    absolute(store)
    with closing(sqlite3.connect(store.database, isolation_level=None)) as connection:
        connection.execute("INSERT INTO registered_models (name) VALUES ('theirs')")
        connection.execute(
            "INSERT INTO model_versions (name, version, source) VALUES ('theirs', 1, 'file:///else/where')"
        )
    before = addresses(store)

    kept = relocate(store.database)

    assert kept == store.database.with_name(KEPT) and relocate(store.database) is None
    assert addresses(store) == {*relative, "file:///else/where", SCHEME} - {f"{SCHEME}mcgurk"}
    with closing(sqlite3.connect(kept)) as connection:
        rows = [
            row for table, column in HOLDERS for row in connection.execute(f"SELECT {column} FROM {table}")
        ]
    assert {address for (address,) in rows if address} == before
    connect(store)
    assert load_text(f"runs:/{run_id}/report.html") == "of clip0001"


def test_no_address_leads_out_of_the_folder(store):
    with pytest.raises(MlflowException, match="is outside the folder of artefacts"):
        repository(f"{SCHEME}1/../../../etc", store.tracking_uri)


def test_the_document_s_champion_is_found_in_the_folder_that_it_names(tmp_path, trained):
    trained_in(Store(tmp_path / "demo"), trained, "mcgurk-avc")
    text = (REPOSITORY / "docs" / "training.md").read_text()
    (snippet,) = [one for one in re.findall(r"```python\n(.*?)```", text, re.DOTALL) if "@champion" in one]

    told = in_fresh_shell(snippet, tmp_path)

    assert len(json.loads(told)) == 2
    assert [path.name for path in tmp_path.iterdir()] == ["demo"], "no other store was begun"


def test_who_asks_for_a_store_that_is_not_there_makes_none(store):
    assert not has_run(store, "0" * 32)
    with pytest.raises(ValueError, match="mlflow.db does not exist: no run was tracked under that root"):
        connect(store)
    assert not store.root.exists()


def test_a_deleted_experiment_is_told_with_what_restores_it(store):
    connect(store, is_new=True)
    client = MlflowClient()
    client.delete_experiment(client.get_experiment_by_name("mcgurk").experiment_id)

    with pytest.raises(
        ValueError, match=r"'mcgurk' of sqlite:.* was deleted: restore it .*--experiment-id 1"
    ):
        connect(store)
