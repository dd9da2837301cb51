"""The metrics of every step in a file, so that a training that was killed keeps what it had told."""

import json
from pathlib import Path

Metrics = dict[str, float]


class History:
    """Metrics by step, in `path`; where a step was made twice, because of a kill, the later one counts."""

    def __init__(self, path: Path) -> None:
        self._path, self._by_step = path, {}
        lines = path.read_text().split("\n") if path.is_file() else [""]
        for line in lines[:-1]:  # the last has no end: nothing, or cut by a kill
            metrics = json.loads(line)
            self._by_step[metrics["step"]] = metrics
        if lines[-1]:
            path.write_text("".join(f"{line}\n" for line in lines[:-1]))

    @property
    def steps(self) -> list[Metrics]:
        """The metrics, in the order of the steps."""
        return [self._by_step[step] for step in sorted(self._by_step)]

    def add(self, metrics: Metrics) -> None:
        """Keeps the metrics of one step."""
        self._by_step[metrics["step"]] = metrics
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._path.open("a") as file:
            file.write(json.dumps(metrics) + "\n")
