"""Notes of trainings in progress, named by what they depend on, so that the same command continues the same run."""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from schemas.errors import RequestError
from schemas.files import write_text
from schemas.storage import make_folder, remove

FOLDER = "trainings"
NAME = 16  # characters of the identity


@dataclass(frozen=True)
class RunMarker:
    """Which run a training has, from its start to its end."""

    path: Path

    @property
    def run_id(self) -> str | None:
        """The run of an earlier process that did not finish."""
        return self.path.read_text().strip() if self.path.is_file() else None

    def write(self, run_id: str) -> None:
        """Notes that this run has started."""
        write_text(self.path, f"{run_id}\n")

    def drop(self) -> None:
        """Forgets the run: it cannot be resumed."""
        remove(self.path)


@contextmanager
def run_marker(state: Path, identity: str) -> Iterator[RunMarker]:
    """The note of the training `identity`; it is removed when the block succeeds, and stays when it fails.

    Raises RequestError if another process is in such a block: two would share one run and one folder.
    """
    note = RunMarker(state / FOLDER / identity[:NAME])
    make_folder(note.path.parent)
    # The lock is a separate file, which stays: each write of the note replaces its file.
    with note.path.with_suffix(".lock").open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # ends with the process
        except BlockingIOError:
            raise RequestError(
                "the same training, on the same clips with the same settings, is running: wait for it, or give "
                "this one another model, preset or root"
            ) from None
        yield note
        note.drop()


def unfinished_runs(state: Path) -> set[str]:
    """The runs of trainings that have started and not succeeded: the same command continues them."""
    notes = [path for path in (state / FOLDER).glob("*") if len(path.name) == NAME]
    return {run_id for path in notes if (run_id := RunMarker(path).run_id)}


def results_path(state: Path, identity: str) -> Path:
    """Where the results of training `identity` are kept until the comparison that it belongs to has ended."""
    return state / FOLDER / f"{identity[:NAME]}.json"
