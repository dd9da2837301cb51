"""Where runs and registered models are kept."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Store:
    """Where runs are kept: below `root`, or at the tracking server `uri`."""

    root: Path | None = None
    uri: str | None = None

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
