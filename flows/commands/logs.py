"""The log of the commands, `STATE/logs/mcgurk.log`: what Prefect logs, and the traces of errors that stopped a command.

The console shows only our own lines, and one sentence about what went wrong.
"""

import errno
import logging
import os
import shutil
import tempfile
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from schemas.errors import DENIED, FULL, McgurkError
from schemas.identity import account
from schemas.layout import LOGS
from schemas.storage import is_local, make_folder, open_root

if TYPE_CHECKING:
    from flows.builds.pipeline import Pipeline
    from flows.commands.cli import Command

LOG = "mcgurk.log"
THEIRS = "prefect."  # the package whose handlers print to the console
CONSOLES = ("", "prefect._internal")  # loggers that have one
MB = 1e6
# Size of a clip, and of its features and its sample in a shard, with the preset `standard`.
CLIP_MB = 1.0
SAMPLE_MB = 0.6


def log_path(state: Path) -> Path:
    """The path of the log of the commands."""
    return state / LOGS / LOG


@contextmanager
def quieted(state: Path) -> Iterator[None]:
    """Inside the block what Prefect prints to the console goes to the log instead. Prefect must be imported by then."""
    from flows.services.rotation import rotate_all  # what `mcgurk --help` does not pay for

    path = log_path(state)
    raises = logging.raiseExceptions
    make_folder(path.parent)
    rotate_all([path])  # later a server's keeper does so; the user's own server has none
    file = logging.FileHandler(path, delay=True)
    file.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    loggers = [logging.getLogger(name) for name in CONSOLES]
    before = [(one, list(one.handlers)) for one in loggers]
    for one in loggers:
        one.handlers = [file if _is_theirs(handler) else handler for handler in one.handlers]
    logging.raiseExceptions = (
        False  # otherwise each line that can't be sent to a server prints an error on the console
    )
    try:
        yield
    finally:
        logging.raiseExceptions = raises
        for one, handlers in before:
            one.handlers = handlers
        file.close()


def _is_theirs(handler: Any) -> bool:
    return type(handler).__module__.startswith(THEIRS)


def keep_trace(command: "Command", error: Exception) -> Path | None:
    """Appends the trace to the log in the command's state folder; None if there is no folder, or no room."""
    state = _state_of(command.options)
    if state is None or not state.is_dir():
        return None
    path = log_path(state)
    try:
        make_folder(path.parent)
        with path.open("a", encoding="utf-8") as file:
            now = datetime.now(UTC).isoformat(timespec="seconds")
            file.write(f"{now} {command.typed}\n{''.join(traceback.format_exception(error))}")
    except OSError:
        return None
    return path


def sentence_for(command: "Command", error: Exception) -> str:
    """What stopped a command, in one sentence; for a full disk or missing rights, with a remedy."""
    if isinstance(error, OSError) and error.errno in FULL:
        return _sentence_for_full_disk(error, command.options)
    if isinstance(error, OSError) and error.errno in DENIED and error.filename:
        return f"{error.filename}: {error.strerror}: {_remedy_for_denied(error, command.options)}"
    return str(error)


def _remedy_for_denied(error: OSError, options: Any) -> str:
    if error.errno == errno.EROFS:
        remedy = "mount its disk for writing"
    else:
        remedy = f"give the account {account()} the right to it"
    state = _state_of(options) if hasattr(options, "state") else None
    is_of_state = state is not None and Path(os.fsdecode(error.filename)).is_relative_to(state)
    return f"{remedy}, or name another state folder by --state" if is_of_state else remedy


def _state_of(options: Any) -> Path | None:
    """The state folder of a command's root; None if there is none, or it can't be determined."""
    from flows.builds.memory import find_state  # what `mcgurk --help` does not pay for

    root = getattr(options, "root", None)
    with suppress(McgurkError, OSError):
        return find_state(open_root(root), getattr(options, "state", None)) if root else None
    return None


def _sentence_for_full_disk(error: OSError, options: Any) -> str:
    """Which disk is full, by the file that could not be written, and roughly how much the rest of a build needs."""
    from flows.builds.options import BuildOptions
    from flows.builds.pipeline import resolve

    pipeline = None
    with suppress(McgurkError, OSError):
        pipeline = resolve(BuildOptions(options.root, state=getattr(options, "state", None)))
    folders = [pipeline.root, pipeline.state] if pipeline and is_local(pipeline.root) else []
    path = Path(error.filename) if error.filename else _fullest([*folders, Path(tempfile.gettempdir())])
    needed = _still_needed(pipeline) if pipeline else ""
    return (
        f"the disk of {path} is full: {_free_bytes(path) / MB:,.0f} MB free{needed}. Make room, or move root, state "
        "(--state) or the folder for temporary files (TMPDIR); the same command continues"
    )


def _fullest(folders: list[Path]) -> Path:
    return min(folders, key=_free_bytes)


def _free_bytes(path: Path) -> int:
    folder = next(one for one in (path, *path.absolute().parents) if one.is_dir())
    return shutil.disk_usage(folder).free


def _still_needed(pipeline: "Pipeline") -> str:
    """Roughly how much disk the segments that have no sample yet will take."""
    from tasks.funnel import count_fates

    counts = count_fates(pipeline.root)
    left = (
        counts["segments"] - counts["in_shards"] - sum(counts["quarantined"].values()) - counts["forgotten"]
    )
    a_clip_mb = SAMPLE_MB + (CLIP_MB if pipeline.config.download.keep_media else 0.0)
    return (
        f", and the {left:,} segments that have no sample yet need about {left * a_clip_mb:,.0f} MB"
        if left
        else ""
    )
