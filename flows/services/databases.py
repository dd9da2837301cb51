"""The databases of Prefect and MLflow on a PostgreSQL server, if `serve --database` names one.

They are called PREFIX_prefect and PREFIX_mlflow, and are created if they are missing. Every command on the same root
and state folder uses them from then on. Addresses hold no password: it comes from PGPASSWORD or ~/.pgpass, so it
appears in no process list, no log and no file of ours.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from schemas.errors import OperationalError, RequestError
from schemas.files import write_text
from training.tracking.store import Store

FILE = "database"  # in the state folder: the address that was named
PREFIX = re.compile(r"[a-z][a-z0-9_]{0,39}")
SCHEMES = ("postgresql", "postgres")
USUAL = "postgres"  # the database that every server has: we connect to it to create others
ANSWER_S = 10
EXAMPLE = "postgresql://USER@HOST:5432/PREFIX"


@dataclass(frozen=True)
class Databases:
    """A server with the user's name, and the prefix of the databases there."""

    server: str  # USER@HOST:PORT
    prefix: str

    @classmethod
    def parsed(cls, address: str) -> "Databases":
        """Parses an address. Raises RequestError for one that is invalid or holds a password."""
        try:
            parts = urlsplit(address)
            _ = parts.port
        except ValueError as error:
            raise RequestError(f"--database: not an address ({error}): use {EXAMPLE}") from None
        if parts.password is not None:
            raise RequestError(
                f"--database {_shown(address)}: other accounts can read a password on a command line: leave it out "
                "of the address, and put it in PGPASSWORD or ~/.pgpass"
            )
        if parts.query or parts.fragment:
            raise RequestError(
                f"--database {address}: connection settings belong in the environment, such as PGSSLMODE"
            )
        prefix = unquote(parts.path.removeprefix("/"))
        if parts.scheme not in SCHEMES or not parts.hostname or not PREFIX.fullmatch(prefix):
            raise RequestError(
                f"--database {address}: use {EXAMPLE}, where PREFIX begins with a letter and consists of lower-case "
                "letters, digits and _"
            )
        return cls(parts.netloc, prefix)

    def __str__(self) -> str:
        return f"postgresql://{self.server}/{self.prefix}"

    @property
    def names(self) -> tuple[str, str]:
        """The names of Prefect's database and MLflow's."""
        return f"{self.prefix}_prefect", f"{self.prefix}_mlflow"

    def address(self, name: str, driver: str = "") -> str:
        """The address of one database, for SQLAlchemy if a driver is named."""
        return f"postgresql{driver and f'+{driver}'}://{self.server}/{name}"

    def make(self) -> None:
        """Creates the missing databases. Raises OperationalError if the server does not answer, or refuses."""
        import psycopg
        from psycopg import sql

        try:
            with psycopg.connect(
                self.address(USUAL), autocommit=True, connect_timeout=ANSWER_S
            ) as connection:
                found = {name for (name,) in connection.execute("SELECT datname FROM pg_database")}
                for name in self.names:
                    if name not in found:
                        connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        except psycopg.Error as error:
            said = " ".join(str(error).split())
            raise OperationalError(
                f"PostgreSQL at {self.server}: {said}: start it, or correct its login (PGPASSWORD or ~/.pgpass)"
            ) from None


def _shown(address: str) -> str:
    return re.sub(r"//([^/@:]*):[^/]*@", r"//\1:***@", address)


def databases_of(state: Path) -> Databases | None:
    """The databases that a state folder uses; None if they are files."""
    path = state / FILE
    return Databases.parsed(path.read_text().strip()) if path.is_file() else None


def choose(address: str, root: Path, state: Path) -> None:
    """Creates the databases at an address, and makes the root and its state folder use them from now on.

    Raises RequestError if the root has runs in a file: no command would see them any more.
    """
    wanted = Databases.parsed(address)
    store = Store(root)
    if store.database and store.database.is_file():
        raise RequestError(
            f"--database {wanted}: {store.database} has the runs of this root, which no command would see any more: "
            "move it away to start afresh, or serve without --database"
        )
    wanted.make()
    _, mlflow = wanted.names
    store.move(wanted.address(mlflow, "psycopg"))
    write_text(state / FILE, f"{wanted}\n")
