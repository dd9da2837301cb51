"""Prefect and MLflow on a PostgreSQL server: named once, used by every command, and within reach of a take-down."""

import json
import os
from pathlib import Path

import pytest
from postgres import ACCOUNT, PASSWORD
from real_servers import kept_processes, serving, started

from flows.commands.cli import main
from flows.services.databases import Databases, choose, databases_of
from schemas.errors import OperationalError, RequestError
from schemas.manifest import read_part
from schemas.shard import index_path, read_version
from tasks.processes import command_of
from tasks.versions.server_traces import clean_server
from tasks.versions.traces import DATABASE, Named
from training.tracking.store import Store


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("postgresql://me:secret@host/data", "put it in PGPASSWORD or ~/.pgpass"),
        ("postgresql://me@host/data?sslmode=require", "PGSSLMODE"),
        ("mysql://me@host/data", "use postgresql://USER@HOST:5432/PREFIX"),
        ("postgresql://me@host", "PREFIX begins with a letter"),
        ("postgresql://me@host/Data;drop", "PREFIX begins with a letter"),
        ("postgresql://me@host:port/data", "not an address"),
    ],
)
def test_an_address_that_is_none_is_refused_in_a_sentence_without_its_password(
    address, said, tmp_path, capsys
):
    assert main(["serve", "--root", str(tmp_path), "--database", address]) == 2

    told = capsys.readouterr().err
    assert said in told and "secret" not in told and len(told.splitlines()) == 1


def test_a_root_whose_runs_are_in_a_file_does_not_lose_them_from_sight(tmp_path):
    (tmp_path / "mlruns").mkdir()
    (tmp_path / "mlruns" / "mlflow.db").write_bytes(DATABASE)

    with pytest.raises(RequestError, match="has the runs of this root"):
        choose("postgresql://me@127.0.0.1:9/data", tmp_path, tmp_path / "state")
    assert databases_of(tmp_path / "state") is None


def test_a_server_that_is_away_is_told_and_nothing_is_remembered(tmp_path):
    with pytest.raises(OperationalError, match="PostgreSQL at me@127.0.0.1:9: "):
        choose("postgresql://me@127.0.0.1:9/data", tmp_path, tmp_path / "state")

    assert databases_of(tmp_path / "state") is None and Store(tmp_path).server is None


@pytest.fixture
def login(monkeypatch):
    monkeypatch.setenv("PGPASSWORD", PASSWORD)


def test_databases_are_made_once(postgres, login, tmp_path):
    named = Databases.parsed(f"postgresql://{ACCOUNT}@{postgres.address}/once")
    named.make()
    named.make()

    found = postgres.ask("select datname from pg_database where datname like 'once%' order by 1")
    assert found == ["once_mlflow", "once_prefect"]


def test_a_name_is_removed_from_every_kind_of_text_and_no_other(postgres, login):
    postgres.ask("create database cleaned")
    postgres.ask('create table "a Table" (n int, "a text" text, b varchar(60), c json)', "cleaned")
    row = """(1, 'of dQw4w9WgXcQ_0_2000!', 'dQw4w9WgXcQ', '{"id": "dQw4w9WgXcQ"}')"""
    postgres.ask(f"""insert into "a Table" values {row}, (2, 'xdQw4w9WgXcQ', 'other', '{{}}')""", "cleaned")
    address = f"postgresql://{ACCOUNT}@{postgres.address}/cleaned"
    named = Named(["dQw4w9WgXcQ"], ["dQw4w9WgXcQ_0_2000"])

    assert clean_server(address, named)
    assert not clean_server(address, named)

    assert postgres.ask('select * from "a Table" order by n', "cleaned") == [
        '1|of [taken down]!|[taken down]|{"id": "[taken down]"}',
        "2|xdQw4w9WgXcQ|other|{}",
    ]


def done(*arguments: str, output: Path) -> str:
    with started(*arguments, output=output) as process:
        assert process.wait(300) == 0, output.read_text()
    return output.read_text()


@pytest.mark.slow
def test_a_root_is_built_and_trained_on_and_taken_down_over_postgresql(postgres, login, tmp_path):
    root = tmp_path / "root"
    output = tmp_path / "output"
    address = f"postgresql://{ACCOUNT}@{postgres.address}/mine"
    with serving(root, tmp_path / "serve.out", "--database", address) as (_, api):
        done("build", "--root", str(root), "--preset", "tiny", output=output)
        assert [
            run["state_name"] for run in api.ask("/flow_runs/filter", {}) if not run["deployment_id"]
        ] == ["Completed"]
        commands = [word for process in kept_processes(root) for word in command_of(process)]
        assert commands and not any(PASSWORD in word for word in commands)
    postgres.end()
    postgres.begin()

    assert "promoted: the first champion" in done("train", "--root", str(root), output=output)

    assert postgres.ask("select count(*) from runs", "mine_mlflow") == ["1"]
    assert postgres.ask("select count(*) from flow_run where name <> ''", "mine_prefect") != ["0"]
    assert 'class="mark champion"' in (root / "index.html").read_text()
    _taken_down(root, postgres, output)
    files = [path for path in root.rglob("*") if path.is_file()]
    assert [path for path in files if path.read_bytes()[: len(DATABASE)] == DATABASE] == []
    assert not [path for path in files if os.fsencode(PASSWORD) in path.read_bytes()]


def _taken_down(root: Path, postgres, output: Path) -> None:
    """A video is named in both databases, and is not after its take-down."""
    version = read_version(root)
    video_id = next(
        row["video_id"] for row in read_part(index_path(root, version.shards[0])) if row["video_id"]
    )
    postgres.ask(f"update flow_run set name = 'about {video_id}_0_2000'", "mine_prefect")
    postgres.ask(f"update runs set name = 'about {video_id}_0_2000'", "mine_mlflow")

    told = done("forget", video_id, "--root", str(root), output=output)

    assert "/mine_prefect: cleaned" in told and "/mine_mlflow: cleaned" in told
    assert set(postgres.ask("select distinct name from flow_run", "mine_prefect")) == {"about [taken down]"}
    assert postgres.ask("select name from runs", "mine_mlflow") == ["about [taken down]"]
    assert "trained_on_forgotten = yes" in told
    assert json.loads((root / "versions" / "latest.json").read_text())["digest"] != version.digest
