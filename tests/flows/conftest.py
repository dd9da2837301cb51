"""Real servers for the tests of flows."""

from collections.abc import Iterator

import pytest
from real_servers import run_mcgurk


@pytest.fixture(scope="session")
def prefect_server(tmp_path_factory) -> Iterator[str]:
    """A Prefect API for every command that a test runs."""
    from flows.services.servers import prefect_api

    with prefect_api(tmp_path_factory.mktemp("prefect")) as address:
        yield address


@pytest.fixture
def mcgurk(prefect_server):
    """Runs one command as a user would; returns what it printed."""
    return run_mcgurk
