"""Real servers for the tests of flows."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from real_servers import Host, hosting, run_mcgurk
from roots import write_clips


@pytest.fixture(scope="session")
def prefect_server(tmp_path_factory) -> Iterator[str]:
    """A Prefect API for every command that a test runs, and for this process."""
    from flows.services.servers import prefect_api

    with prefect_api(tmp_path_factory.mktemp("prefect")) as address:
        _read_settings()
        yield address
    _read_settings()


def _read_settings() -> None:
    """Prefect reads its settings when it is imported, which modules of tests do before there is a server.

    It would start a hidden server on the same database.
    """
    from prefect.context import refresh_global_settings_context

    refresh_global_settings_context()


@pytest.fixture
def mcgurk(prefect_server):
    """Runs one command as a user would; returns what it printed."""
    return run_mcgurk


@pytest.fixture(scope="module")
def host(request, tmp_path_factory) -> Iterator[tuple[Path, Host]]:
    """A list of clips, the IDS of the test's module, and the host that has them."""
    folder = tmp_path_factory.mktemp("clips")
    ids = request.module.IDS
    (path,) = write_clips(folder, ids)
    with hosting({video_id: folder / f"{video_id}.mp4" for video_id in ids}) as one:
        yield path, one
