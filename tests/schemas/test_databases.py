"""Copies of databases: while others write, and before another version opens one."""

import sqlite3
from contextlib import closing
from importlib import metadata

import pytest

from schemas.databases import (
    LEAST_BYTES,
    NUM_COPIES,
    compact,
    copies_of,
    copy_database,
    keep_before,
    note_opened,
    opened_by,
)


def write(database, value) -> None:
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.execute("CREATE TABLE IF NOT EXISTS told (value)")
        connection.execute("INSERT INTO told VALUES (?)", (value,))


def told(database) -> list:
    with closing(sqlite3.connect(database)) as connection:
        return [value for (value,) in connection.execute("SELECT value FROM told")]


def opened_before(database, version: tuple[int, int, int]) -> None:
    with closing(sqlite3.connect(database)) as connection:
        connection.execute(f"PRAGMA user_version = {version[0] * 10**6 + version[1] * 1000 + version[2]}")


def test_a_copy_of_a_database_in_use_has_what_was_committed(tmp_path):
    database = tmp_path / "a.db"
    write(database, "committed")
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("INSERT INTO told VALUES ('in the log of writes')")
        connection.commit()
        connection.execute("INSERT INTO told VALUES ('not committed')")

        copy_database(database, tmp_path / "b.db")

    assert told(tmp_path / "b.db") == ["committed", "in the log of writes"]
    assert not list(tmp_path.glob(".*"))


def test_what_another_version_left_is_kept_once_and_says_so_itself(tmp_path):
    database = tmp_path / "prefect.db"
    assert keep_before(database, "prefect") is None  # it is new

    write(database, "before")
    opened_before(database, (3, 7, 9))
    copy = keep_before(database, "prefect")
    write(database, "after")

    assert copy and copy.name.startswith("prefect-3.7.9-2")
    assert told(copy) == ["before"] and opened_by(copy) == "3.7.9"
    assert opened_by(database) == metadata.version("prefect")
    assert keep_before(database, "prefect") is None
    assert copies_of(database) == [copy]


def test_a_database_of_which_nobody_noted_a_version_is_kept_too(tmp_path):
    write(tmp_path / "mlflow.db", "before")

    copy = keep_before(tmp_path / "mlflow.db", "mlflow")

    assert copy and copy.name.startswith("mlflow-unknown-")


def test_the_last_copies_stay_by_their_time(tmp_path):
    database = tmp_path / "mlflow.db"
    write(database, 0)
    older = [f"mlflow-3.{9 - n}.0-2026010{n}T000000.db" for n in range(1, NUM_COPIES + 1)]
    for name in (*older, "mlflow-mine.db", "mlflow.absolute.db"):
        (tmp_path / name).touch()

    copy = keep_before(database, "mlflow")

    assert copy and [path.name for path in copies_of(database)] == [*older[1:], copy.name]
    assert (tmp_path / "mlflow-mine.db").exists() and (tmp_path / "mlflow.absolute.db").exists()


def test_without_room_for_the_copy_nothing_is_opened(tmp_path):
    database = tmp_path / "prefect.db"
    database.write_bytes(b"no database at all, and so none that can be copied" * 100)

    with pytest.raises(RuntimeError, match=r"prefect\.db"):
        keep_before(database, "prefect")


def test_a_new_database_is_noted(tmp_path):
    note_opened(tmp_path / "mlflow.db", "mlflow")
    assert not (tmp_path / "mlflow.db").exists()
    write(tmp_path / "mlflow.db", 0)

    note_opened(tmp_path / "mlflow.db", "mlflow")

    assert opened_by(tmp_path / "mlflow.db") == metadata.version("mlflow")
    assert keep_before(tmp_path / "mlflow.db", "mlflow") is None


def emptied(database, num_bytes: int) -> None:
    """A database in whose file as many bytes hold nothing any more, and whose log was not put away."""
    write(database, "stays")
    opened_before(database, (3, 8, 8))
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("CREATE TABLE large (value)")
        connection.executemany("INSERT INTO large VALUES (zeroblob(?))", [(1 << 20,)] * (num_bytes >> 20))
        connection.execute("DROP TABLE large")
        connection.commit()


def test_a_database_that_holds_little_any_more_gives_its_disk_back(tmp_path):
    database = tmp_path / "prefect.db"
    emptied(database, LEAST_BYTES)
    assert database.stat().st_size > LEAST_BYTES

    compact(database)

    assert sum(path.stat().st_size for path in tmp_path.iterdir()) < 100_000
    assert told(database) == ["stays"] and opened_by(database) == "3.8.8"


def test_a_database_that_is_small_in_use_damaged_or_not_there_is_left_alone(tmp_path):
    small = tmp_path / "small.db"
    emptied(small, LEAST_BYTES // 2)
    used = tmp_path / "used.db"
    emptied(used, LEAST_BYTES)
    damaged = tmp_path / "damaged.db"
    damaged.write_bytes(b"no database" * 1000)
    before = {path: path.read_bytes() for path in (small, used, damaged)}

    with closing(sqlite3.connect(used)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        for path in (*before, tmp_path / "nowhere.db"):
            compact(path)

    assert {path: path.read_bytes() for path in before} == before
    assert not (tmp_path / "nowhere.db").exists()
