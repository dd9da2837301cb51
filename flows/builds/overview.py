"""The page of a root, `ROOT/index.html`: what exists, what is missing, versions, trainings, and where to look further.

It is one file that works from `file://`: no scripts, and nothing loaded from elsewhere. It holds no media and no login.
"""

import logging
import shlex
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader
from sqlalchemy.exc import SQLAlchemyError

from flows.services.servers import addresses_of, tunnel
from schemas.errors import McgurkError
from schemas.files import write_text
from schemas.layout import (
    MANIFESTS,
    MLRUNS,
    OVERVIEW,
    REPORTS,
    RUN_REPORT,
    SEGMENTS,
    VALIDATION,
    VERSIONS,
    run_folder,
)
from schemas.manifest import part_numbers
from schemas.shard import published, read_history, read_version
from schemas.storage import is_local
from tasks.columns import read_columns
from tasks.failures import remedy_for
from tasks.leases import free, lease
from tasks.status import measure_status
from tasks.story import losses
from tasks.versions.card import funnel_table
from training.tracking.listing import ListedRun, best_of, list_runs
from training.tracking.store import DATABASE, Store, without_login

log = logging.getLogger(__name__)

FUNNEL = ("segments", "in_shards", "quarantined", "unavailable", "waiting", "forgotten")
MOST_VERSIONS = 12
MOST_RUNS = 12
MOST_LOSSES = 15
KB = 1000
# The page of what is served
EVERY_S = 60.0
SHARE = 0.05
STALE_S = 3600.0
LEAVE_S = 1.5


@dataclass(frozen=True)
class Published:
    """A version as the page lists it."""

    digest: str
    published_at: str
    samples: int
    shards: int
    size_bytes: int
    card: str  # its address relative to the page; empty if there is none


def overview_path(root: Path, state: Path) -> Path:
    """The path of the page: in the root, or in the state folder for a root on a store."""
    return (root if is_local(root) else state) / OVERVIEW


def renew_overview(root: Path, state: Path) -> None:
    """Writes the page as of now; a failure is only logged, because no work depends on the page."""
    with lease(state, "pages"):  # a take-down holds it: what is written now does not predate it
        write_overview(root, state)


def write_overview(root: Path, state: Path, served: Mapping[str, str] | None = None) -> None:
    """Writes the page; the caller holds the lease of pages. `served`: the servers, if not those that are up."""
    served = addresses_of(state) if served is None else served
    try:
        write_text(overview_path(root, state), page_of(root, state, datetime.now(UTC), served))
    except (OSError, McgurkError) as error:
        log.warning("the page %s was not written: %s", overview_path(root, state), error)


@dataclass
class Renewal:
    """Renews the page while it is served: after changes, at most once a minute and for a twentieth of the time.

    It is renewed once an hour in any case, because it says what is due.
    """

    root: Path
    state: Path
    _cost_s: float = 0.0
    _seen: float = 0.0
    _next: float = 0.0
    _stale: float = 0.0

    def look(self) -> None:
        """Renews the page if that is due and no other process is writing pages."""
        began = time.monotonic()
        changed = _changed_at(self.root)
        if began < self._next or (changed == self._seen and began < self._stale):
            return
        if not self._renew():
            return
        now = time.monotonic()
        self._cost_s = now - began
        self._seen = changed
        self._next = now + max(EVERY_S, self._cost_s / SHARE)
        self._stale = now + STALE_S

    def leave(self) -> None:
        """Writes that nothing is served any more, if that is quick: after a signal, a command has only seconds."""
        if self._cost_s < LEAVE_S:
            self._renew({})

    def _renew(self, served: Mapping[str, str] | None = None) -> bool:
        """Writes the page unless another process is writing pages; returns whether it was written."""
        with free(self.state, "pages") as is_free:
            if is_free:
                write_overview(self.root, self.state, served)
            return is_free


def _changed_at(root: Path) -> float:
    """When anything that the page shows was last written: replacing a file changes its folder."""
    places = [root / one for one in (*MANIFESTS, VERSIONS, REPORTS, f"{MLRUNS}/{DATABASE}")]
    return max((place.stat().st_mtime for place in places if place.exists()), default=0.0)


def page_of(root: Path, state: Path, now: datetime, served: Mapping[str, str]) -> str:
    """The page as HTML."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,  # names of files, labels and runs come from strangers
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"moment": _moment, "score": _score, "size": _size}
    return environment.get_template("overview.html").render(
        name=root.name or str(root),
        root=str(root),
        now=now,
        **_standing(root, state, now),
        **_versions(root),
        **_trainings(root, state, served.get("MLflow", "")),
        doors=_doors(root, state, served),
        pages=_pages(root),
    )


def _standing(root: Path, state: Path, now: datetime) -> dict[str, Any]:
    """The story, the funnel, and what is missing with its remedy; empty for a root without segments."""
    empty = {"story": [], "funnel": [], "lost": [], "missing": 0, "segments": 0, "failures": ""}
    if not part_numbers(root / SEGMENTS):
        return empty
    status = measure_status(root, state, now, _command("build", root, state))
    table = funnel_table({name: status[name] for name in FUNNEL})  # pyright: ignore[reportArgumentType]
    total = max(status["segments"], 1)
    lost = losses(root, state, status, read_columns)
    return {
        "story": status["story"],
        "funnel": [(*row, row[-1] / total) for row in table],
        "lost": [(one, remedy_for(one.reason)) for one in lost[:MOST_LOSSES]],
        "missing": status["segments"] - status["in_shards"],
        "segments": status["segments"],
        "failures": _command("failures", root, None),
    }


def _versions(root: Path) -> dict[str, Any]:
    """The newest versions, the newest first."""
    digests = published(root)[::-1]
    at = {line["digest"]: line["published_at"] for line in read_history(root)}
    found = [_published(root, digest, at.get(digest, "")) for digest in digests[:MOST_VERSIONS]]
    return {
        "versions": found,
        "latest": digests[0] if digests else "",
        "samples": found[0].samples if found else 0,
        "older": max(0, len(digests) - MOST_VERSIONS),
    }


def _published(root: Path, digest: str, at: str) -> Published:
    version = read_version(root, digest)
    card = f"{VERSIONS}/{digest}.html"
    return Published(
        digest,
        _moment(datetime.fromisoformat(at)) if at else "",
        version.num_samples,
        len(version.shards),
        sum(shard.size_bytes for shard in version.shards),
        card if is_local(root) and (root / card).is_file() else "",
    )


def _trainings(root: Path, state: Path, mlflow: str) -> dict[str, Any]:
    """The newest runs with champion and best, the newest first, each with its marks and links."""
    here = root if is_local(root) else state
    store = Store.of(here)
    found: Sequence[ListedRun] | None = None
    lacking = f"They are at {without_login(store.tracking_uri)}."
    try:
        found = list_runs(store)
    except SQLAlchemyError as error:
        lacking = f"Their database can't be read now ({type(error).__name__})."
    if not found:
        lacking = lacking if found is None else f"None yet: {_command('train', root, state)}"
        return {"runs": [], "champion": None, "last": None, "more_runs": 0, "no_runs": lacking}
    champion = next((run for run in found if run.is_champion), None)
    marks = {"champion": champion, "best": best_of(found), "last": found[0]}
    shown = [run for run in found if run in found[:MOST_RUNS] or run in marks.values()]
    return {
        "runs": [
            (run, [name for name, one in marks.items() if one is run], _links(here, run, mlflow))
            for run in shown
        ],
        "champion": champion,
        "last": found[0],
        "more_runs": len(found) - len(shown),
        "no_runs": "",
    }


def _links(here: Path, run: ListedRun, mlflow: str) -> Mapping[str, str]:
    report = f"{run_folder(run.run_id)}/{RUN_REPORT}"
    page = f"{mlflow}/#/experiments/{run.experiment_id}/runs/{run.run_id}" if mlflow else ""
    return {"report": report if (here / report).is_file() else "", "mlflow": page}


def _doors(root: Path, state: Path, found: Mapping[str, str]) -> dict[str, str]:
    """Servers and how to reach them, from here and from elsewhere; how to start them if none runs."""
    if not found and not is_local(root):
        return {}  # a root on a store is not served
    if not found:
        return {"Prefect and MLflow": _command("serve", root, state)}
    doors = dict(found)
    if line := tunnel(list(found.values())):
        doors["from elsewhere"] = line
    if "Prefect" in found:
        doors["login of Prefect"] = f"cat {shlex.quote(str(state / 'prefect' / 'login'))}"
    return doors


def _pages(root: Path) -> list[tuple[str, str]]:
    pages = [("checks of the data", f"{VALIDATION}/index.html")]
    return [one for one in pages if is_local(root) and (root / one[1]).is_file()]


def _command(verb: str, root: Path, state: Path | None) -> str:
    where = ["--root", str(root)]
    is_usual = state is None or (is_local(root) and state == root / "state")
    return shlex.join(["mcgurk", verb, *where, *([] if is_usual else ["--state", str(state)])])


def _moment(at: datetime) -> str:
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M} UTC"


def _score(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def _size(size_bytes: float) -> str:
    """`12.3 MB`."""
    for unit in ("B", "kB", "MB", "GB"):
        if size_bytes < KB:
            return f"{size_bytes:,.3g} {unit}"
        size_bytes /= KB
    return f"{size_bytes:,.3g} TB"
