"""Prefect's database with a year of runs in it, before and after our server vacuums it."""

import time
from collections.abc import Iterator, Mapping
from datetime import timedelta
from pathlib import Path

from real_servers import wait_for

from benchmarks.growth.runs import SETTLED_S, real_run, write_year
from benchmarks.growth.server import Server, spread
from schemas.databases import compact

YEAR = timedelta(days=365)
LOOK_EVERY = 150  # polls, in 30 s: while somebody reads, SQLite's log is not begun anew


def measured_database(folder: Path, every: timedelta) -> Iterator[tuple[str, str]]:
    """The database of a year of runs, before and after it is vacuumed."""
    pattern = real_run(folder)
    server = Server(folder / "state")
    runs = YEAR // every
    began = time.monotonic()
    write_year(server, pattern, runs)
    spread(server.database, every)
    yield f"{runs:,} runs written", f"{time.monotonic() - began:.0f} s"
    yield "rows of them", _listed(server.counts())
    yield "size of the database before", f"{server.size_mb():.0f} MB"
    began = time.monotonic()
    peak_mb = _peak_of_vacuum(server)
    yield "vacuumed in", f"{time.monotonic() - began:.0f} s"
    yield "peak meanwhile, with what SQLite keeps beside it", f"{peak_mb:.0f} MB"
    yield "rows that stay", _listed(server.counts())
    yield "size after", f"{server.size_mb():.0f} MB, of which {server.used_mb():.0f} MB are in use"
    compact(server.database)  # as its keeper does before it starts it
    yield "size after the next start", f"{server.size_mb():.0f} MB"


def _peak_of_vacuum(server: Server) -> float:
    """The most MB that a database takes while our server vacuums it."""
    sizes_mb: list[float] = []

    def is_done() -> bool:
        sizes_mb.append(server.size_mb())
        return len(sizes_mb) % LOOK_EVERY == 0 and server.is_vacuumed()

    with server.up({}):
        wait_for(is_done, "the vacuum", within_s=SETTLED_S)
    return max(sizes_mb)


def _listed(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count:,} {table}" for table, count in counts.items())
