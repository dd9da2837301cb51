"""What all tests share: the skip rule, real data where they are, and media made on the spot."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings
from postgres import Postgres, postgres_programs, postgres_server

settings.register_profile("mcgurk", deadline=None)  # a shared machine's pauses are no failures
settings.load_profile("mcgurk")

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    """Under REQUIRE_ALL=1 a test that is skipped for want of a tool has failed."""
    outcome = yield
    report = outcome.get_result()
    if report.skipped and os.environ.get("REQUIRE_ALL") == "1":
        report.outcome = "failed"
        report.longrepr = f"skipped under REQUIRE_ALL=1: {report.longrepr}"


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real clips and AudioSet's lists."""
    if not SHARED.is_dir():
        pytest.skip("no real data beside the checkout (../shared/data)")
    return SHARED


@pytest.fixture(scope="session")
def chromium() -> str:
    """A headless browser."""
    found = shutil.which("chromium") or shutil.which("chromium-browser")
    if found is None:
        pytest.skip("no Chromium: apt-get install chromium")
    return found


@pytest.fixture(scope="session")
def system_ffmpeg() -> str:
    """The system's own ffmpeg, beside the one that imageio-ffmpeg brings."""
    found = shutil.which("ffmpeg")
    if found is None:
        pytest.skip("no system ffmpeg: apt-get install ffmpeg")
    return found


@pytest.fixture(scope="module")
def postgres() -> Iterator[Postgres]:
    """A PostgreSQL server without a database of ours."""
    found = postgres_programs()
    if found is None:
        pytest.skip("no PostgreSQL: apt-get install postgresql")
    with postgres_server(found) as server:
        yield server
