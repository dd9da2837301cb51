"""The databases of Prefect and MLflow on a PostgreSQL server, where `serve --database` names one.

They are called PREFIX_prefect and PREFIX_mlflow, and are made where they are missing. Every command on the same root
and state folder uses them from then on. Addresses hold no password: it comes from PGPASSWORD or ~/.pgpass, so that no
list of processes, log or file has it.
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
USUAL = "postgres"  # the database that every server has, from which others are made
ANSWER_S = 10
EXAMPLE = "postgresql://USER@HOST:5432/PREFIX"


@dataclass(frozen=True)
class Databases:
    """A server, with the user's name, and the prefix of the databases there."""

    server: str  # USER@HOST:PORT
    prefix: str

    @classmethod
    def parsed(cls, address: str) -> "Databases":
        """What an address names. Raises RequestError for one that is none, or that holds a password."""
        try:
            parts = urlsplit(address)
            _ = parts.port
        except ValueError as error:
            raise RequestError(f"--database: no address ({error}): it is {EXAMPLE}") from None
        if parts.password is not None:
            raise RequestError(
                f"--database {_shown(address)}: other accounts can read a password on a command line: name the "
                "address without it, and put it in PGPASSWORD or ~/.pgpass"
            )
        if parts.query or parts.fragment:
            raise RequestError(
                f"--database {address}: settings of the connection go to the environment, such as PGSSLMODE"
            )
        prefix = unquote(parts.path.removeprefix("/"))
        if parts.scheme not in SCHEMES or not parts.hostname or not PREFIX.fullmatch(prefix):
            raise RequestError(
                f"--database {address}: it is {EXAMPLE}, where PREFIX begins with a letter and has lower-case "
                "letters, digits and _"
            )
        return cls(parts.netloc, prefix)

    def __str__(self) -> str:
        return f"postgresql://{self.server}/{self.prefix}"

    @property
    def names(self) -> tuple[str, str]:
        """Of Prefect's database and MLflow's."""
        return f"{self.prefix}_prefect", f"{self.prefix}_mlflow"

    def address(self, name: str, driver: str = "") -> str:
        """Of one database, for SQLAlchemy where a driver is named."""
        return f"postgresql{driver and f'+{driver}'}://{self.server}/{name}"

    def make(self) -> None:
        """Makes what is missing. Raises OperationalError where the server does not answer, or refuses."""
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
                f"PostgreSQL at {self.server}: {said}: start it, or mend its login (PGPASSWORD or ~/.pgpass)"
            ) from None


def _shown(address: str) -> str:
    return re.sub(r"//([^/@:]*):[^/]*@", r"//\1:***@", address)


def databases_of(state: Path) -> Databases | None:
    """The databases that a state folder uses; None where they are files."""
    path = state / FILE
    return Databases.parsed(path.read_text().strip()) if path.is_file() else None


def choose(address: str, root: Path, state: Path) -> None:
    """Makes the databases that an address names, and has the root and its state use them from here on.

    Raises RequestError where the root has runs in a file, which would be lost from sight.
    """
    wanted = Databases.parsed(address)
    store = Store(root)
    if store.database and store.database.is_file():
        raise RequestError(
            f"--database {wanted}: {store.database} has the runs of this root, which no command would see any more: "
            "move it away to begin anew, or serve without --database"
        )
    wanted.make()
    _, mlflow = wanted.names
    store.move(wanted.address(mlflow, "psycopg"))
    write_text(state / FILE, f"{wanted}\n")
