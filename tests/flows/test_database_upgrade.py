"""Another version of Prefect or MLflow opens a database: what it was stays beside it, and can be put back."""

import os
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from alembic import command
from alembic.script import ScriptDirectory
from mlflow.store.db import utils as mlflow_database
from sqlalchemy import create_engine

from flows.services.servers import prefect_api, prefect_cli
from schemas.databases import copies_of, opened_by
from training.tracking.connection import connect
from training.tracking.store import Store


def ask(database: Path, query: str) -> list:
    with closing(sqlite3.connect(database)) as connection:
        found = connection.execute(query).fetchall()
        connection.commit()
    return [row[0] for row in found]


def revision(database: Path) -> str:
    """Which form a database has."""
    return ask(database, "SELECT version_num FROM alembic_version")[0]


@pytest.fixture
def older_store(tmp_path) -> tuple[Store, Path]:
    """A store of runs as an MLflow made it that had one form less."""
    database = tmp_path / "mlruns" / "mlflow.db"
    database.parent.mkdir()
    engine = create_engine(f"sqlite:///{database}")
    mlflow_database.InitialBase.metadata.create_all(engine)
    config = mlflow_database._get_alembic_config(str(engine.url))
    newest, before, *_ = ScriptDirectory.from_config(config).walk_revisions()
    command.upgrade(config, before.revision)
    engine.dispose()
    ask(database, "PRAGMA user_version = 3009000")
    assert revision(database) == before.revision != newest.revision
    return Store(tmp_path), database


def test_a_store_of_an_older_mlflow_is_kept_and_brought_to_todays_form(older_store):
    store, database = older_store
    before = revision(database)

    connect(store)

    (copy,) = copies_of(database)
    assert copy.name.startswith("mlflow-3.9.0-")
    assert revision(copy) == before != revision(database)
    assert ask(copy, "SELECT name FROM experiments") == []  # what came after is in the new one only
    assert "mcgurk" in ask(database, "SELECT name FROM experiments")
    connect(store)
    assert copies_of(database) == [copy]


def test_a_store_of_a_newer_mlflow_is_refused_with_the_remedy(older_store):
    store, database = older_store
    ask(database, "UPDATE alembic_version SET version_num = 'of_tomorrow'")
    ask(database, "PRAGMA user_version = 4000000")

    with pytest.raises(
        RuntimeError, match="which another version opened last: .*'of_tomorrow'.*copy from before"
    ):
        connect(store)

    assert [opened_by(copy) for copy in copies_of(database)] == ["4.0.0"]


@pytest.mark.slow
def test_prefects_database_is_kept_before_an_upgrade_and_can_be_put_back(tmp_path, monkeypatch):
    """The way back is that of docs/operating.md."""
    for name in [name for name in os.environ if name.startswith("PREFECT_")]:
        monkeypatch.delenv(name)
    state = tmp_path / "state"
    database = state / "prefect" / "prefect.db"
    older = {"PREFECT_API_DATABASE_CONNECTION_URL": f"sqlite+aiosqlite:///{database}"}
    database.parent.mkdir(parents=True)
    prefect_cli(["server", "database", "upgrade", "-y", "-r", "heads"], tmp_path, older)
    prefect_cli(["server", "database", "downgrade", "-y", "-r", "-1"], tmp_path, older)
    ask(database, "PRAGMA user_version = 3007009")
    before = revision(database)

    with prefect_api(state):
        assert revision(database) != before

    (copy,) = copies_of(database)
    assert copy.name.startswith("prefect-3.7.9-") and revision(copy) == before

    for path in database.parent.glob("prefect.db*"):
        path.unlink()
    shutil.copy(copy, database)

    assert (revision(database), opened_by(database)) == (before, "3.7.9")
    assert ask(database, "PRAGMA integrity_check") == ["ok"]
