"""Where runs and registered models are kept."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ADDRESS = "MLFLOW_TRACKING_URI"


@dataclass(frozen=True)
class Store:
    """Where runs are kept: below `root`, or at the tracking server `uri`."""

    root: Path | None = None
    uri: str | None = None

    @classmethod
    def of(cls, root: Path) -> "Store":
        """The server that the user's environment names, else below `root`."""
        uri = os.environ.get(ADDRESS)
        return cls(uri=uri) if uri else cls(root=root)

    @property
    def tracking_uri(self) -> str:
        """The address MLflow takes. Raises ValueError where neither is given."""
        if self.uri:
            return self.uri
        if self.root is None:
            raise ValueError("a Store needs a root or a tracking URI")
        return f"sqlite:///{(self.root / 'mlruns' / 'mlflow.db').resolve()}"

    @property
    def artifacts(self) -> str | None:
        """Where artifacts go; None leaves it to the server."""
        return (
            None if self.uri or self.root is None else (self.root / "mlruns" / "artifacts").resolve().as_uri()
        )


@contextmanager
def address_kept() -> Iterator[None]:
    """MLflow leaves the address that it is given in the environment, where it would pass for the user's."""
    asked = os.environ.get(ADDRESS)
    try:
        yield
    finally:
        os.environ.pop(ADDRESS, None)
        if asked:
            os.environ[ADDRESS] = asked
