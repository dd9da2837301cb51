"""Where runs and registered models are stored.

A store below a root is a database file, or a database on a PostgreSQL server whose address is stored in its place. Its
addresses are relative to the folder of artefacts below the root (`mlflow-artifacts:/...`), as from MLflow's server: a
root that was moved or copied remains usable, and nothing is written into the original.
"""

import os
import re
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from schemas.databases import copy_database, keep_before
from schemas.errors import OperationalError, RequestError
from schemas.files import write_text

ADDRESS = "MLFLOW_TRACKING_URI"
EXPERIMENT = "mcgurk"
SCHEME = "mlflow-artifacts:/"
SQLITE = "sqlite:///"
FOLDER = "mlruns"
DATABASE = "mlflow.db"
PACKAGE = "mlflow"  # its name for pip
ARTIFACTS = "artifacts"
ELSEWHERE = "database"  # in place of the file: the address of a database on a server, without a password
KEPT = "mlflow.absolute.db"  # a copy of a store with absolute addresses, from before they were made relative
WAIT_S = 60.0  # for another process that is writing

# The columns of MLflow's database that hold addresses of artefacts.
HOLDERS = (
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("logged_models", "artifact_location"),
    ("model_versions", "source"),
    ("model_versions", "storage_location"),
)


@dataclass(frozen=True)
class Store:
    """Where runs are stored: below `root`, or at the tracking server `uri`."""

    root: Path | None = None
    uri: str | None = None

    @classmethod
    def of(cls, root: Path) -> "Store":
        """The server that the user's environment names, else the store below `root`."""
        uri = os.environ.get(ADDRESS)
        return cls(uri=uri) if uri else cls(root=root)

    @property
    def tracking_uri(self) -> str:
        """The address for MLflow. Raises ValueError if neither is given."""
        return self.uri or self.server or f"{SQLITE}{self.folder / DATABASE}"

    @property
    def server(self) -> str | None:
        """The address of the PostgreSQL database that has the runs below the root; None if there is none."""
        path = None if self.uri else self.folder / ELSEWHERE
        return path.read_text().strip() if path and path.is_file() else None

    def move(self, address: str) -> None:
        """Makes the runs below the root use the database at `address` from now on."""
        write_text(self.folder / ELSEWHERE, f"{address}\n")

    @property
    def database(self) -> Path | None:
        """The file below the root; None for a server."""
        return None if self.uri or self.server else self.folder / DATABASE

    @property
    def artifacts(self) -> str | None:
        """The address of the experiment's artefacts; None leaves it to the server."""
        return None if self.uri else f"{SCHEME}{EXPERIMENT}"

    @property
    def folder(self) -> Path:
        """The folder of database and artefacts below the root. Raises ValueError for a tracking server."""
        if self.root is None:
            raise ValueError("a Store needs a root or a tracking URI")
        return (self.root / FOLDER).resolve()


def require_open(store: Store) -> None:
    """Raises RequestError if the experiment of a store below a root was deleted; queries no server."""
    database = store.database
    if database is None or not database.is_file():
        return
    query = "SELECT experiment_id FROM experiments WHERE name = ? AND lifecycle_stage = 'deleted'"
    with closing(sqlite3.connect(database, timeout=WAIT_S)) as connection:
        if "experiments" in _tables(connection) and (
            found := connection.execute(query, (EXPERIMENT,)).fetchone()
        ):
            raise RequestError(deleted(store, found[0]))


def deleted(store: Store, experiment_id: object) -> str:
    """The message about a store whose experiment was deleted."""
    return (
        f"experiment {EXPERIMENT!r} of {without_login(store.tracking_uri)} was deleted: restore it (mlflow experiments "
        f"restore --experiment-id {experiment_id}), or name another store in MLFLOW_TRACKING_URI"
    )


def without_login(text: str) -> str:
    """The text without user and password in its addresses."""
    return re.sub(r"//[^/@\s]*@", "//", text)


def upgrade(database: Path) -> Path | None:
    """Upgrades a store that another version of MLflow opened last to this one's format; returns a copy of the original.

    MLflow itself refuses some such stores. Raises OperationalError if it can't read this one.
    """
    copy = keep_before(database, PACKAGE)
    if copy is None:
        return None
    command = [sys.executable, "-P", "-m", "mlflow", "db", "upgrade", f"{SQLITE}{database}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603  (our own command)
    if done.returncode:
        said = done.stderr.strip().splitlines()[-1:]
        raise OperationalError(
            f"MLflow can't read {database}, which another version opened last: {''.join(said)}. Install that version, "
            f"or put a copy from before the upgrade in its place; docs/operating.md says how"
        )
    return copy


def relocate(database: Path) -> Path | None:
    """Makes absolute addresses in a store relative, once; returns a copy of the original, None if nothing changed.

    Artefacts of our experiment are in the folder `artifacts` beside the database, wherever both were when they were
    written. Addresses of other experiments stay.
    """
    if not database.is_file():
        return None
    with closing(sqlite3.connect(database, timeout=WAIT_S, isolation_level=None)) as connection:
        if not _moves(connection):
            return None
        connection.execute("BEGIN IMMEDIATE")
        moves = _moves(connection)  # again: another process may have been faster
        kept = database.with_name(KEPT)
        copy_database(database, kept)
        for table, column, old, new in moves:
            connection.execute(f"UPDATE {table} SET {column} = ? WHERE {column} = ?", (new, old))  # noqa: S608  (ours)
        connection.execute("COMMIT")
    return kept


def _moves(connection: sqlite3.Connection) -> list[tuple[str, str, str, str]]:
    """(table, column, address, the same relative to the folder of artefacts)."""
    tables = _tables(connection)
    if "experiments" not in tables:
        return []
    ours = connection.execute(
        "SELECT artifact_location FROM experiments WHERE name = ?", (EXPERIMENT,)
    ).fetchone()
    match = re.fullmatch(rf"(/|file:).*/{FOLDER}/{ARTIFACTS}", str(ours[0]).rstrip("/")) if ours else None
    if match is None:
        return []
    before = f"{match[0]}/"
    moves = list(_unused(connection))
    for table, column in HOLDERS:
        if table in tables:
            found = connection.execute(f"SELECT DISTINCT {column} FROM {table}")  # noqa: S608  (names of ours)
            olds = [old for (old,) in found if old and f"{old}/".startswith(before)]
            moves += [
                (table, column, old, SCHEME + f"{old}/".removeprefix(before).rstrip("/")) for old in olds
            ]
    return moves


def _tables(connection: sqlite3.Connection) -> set[str]:
    return {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}


def _unused(connection: sqlite3.Connection) -> Iterator[tuple[str, str, str, str]]:
    """The change for the experiment that MLflow creates beside ours, if it has no runs."""
    if not connection.execute("SELECT 1 FROM runs WHERE experiment_id = 0").fetchone():
        for (old,) in connection.execute("SELECT artifact_location FROM experiments WHERE experiment_id = 0"):
            if re.match("/|file:", str(old)):
                yield "experiments", "artifact_location", old, f"{SCHEME}0"
