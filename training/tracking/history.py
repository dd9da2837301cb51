"""The metrics of every step in a file, so that a training that was killed keeps what it had told."""

import json
from collections.abc import Iterator
from pathlib import Path

from schemas.manifest import write_text

Metrics = dict[str, float]


class History:
    """Metrics by step, in `path`; where a kill made a training go back, what it told beyond that no longer counts."""

    def __init__(self, path: Path) -> None:
        # The metrics, in the order of the steps
        self._path = path
        self.steps = []
        lines = path.read_text().split("\n") if path.is_file() else [""]
        for line in lines[:-1]:  # the last has no end: nothing, or cut by a kill
            self._keep(json.loads(line))
        if lines[-1]:
            write_text(path, "".join(f"{line}\n" for line in lines[:-1]))

    def add(self, metrics: Metrics) -> None:
        """Keeps the metrics of one step."""
        self._keep(metrics)
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._path.open("a") as file:
            file.write(json.dumps(metrics) + "\n")

    def before(self, step: float) -> Iterator[Metrics]:
        """The metrics of earlier steps."""
        return (metrics for metrics in self.steps if metrics["step"] < step)

    def _keep(self, metrics: Metrics) -> None:
        while self.steps and self.steps[-1]["step"] >= metrics["step"]:
            self.steps.pop()
        self.steps.append(metrics)
