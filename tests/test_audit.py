"""`make audit` says what was looked up, and never takes silence for good news."""

import importlib.util
import json
from pathlib import Path

import pytest

PATH = Path(__file__).resolve().parents[1] / ".ci" / "audit.py"


@pytest.fixture(scope="module")
def verdict():
    spec = importlib.util.spec_from_file_location("audit", PATH)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.verdict


def report(*packages: dict) -> str:
    """As pip-audit 2.10 prints it."""
    return json.dumps({"dependencies": packages, "fixes": []})


SOUND = {"name": "sound", "version": "1.0", "vulns": []}
UNKNOWN = {
    "name": "unknown",
    "skip_reason": "Dependency not found on PyPI and could not be audited: unknown (1.0)",
}
BROKEN = {
    "name": "broken",
    "version": "2.0",
    "vulns": [{"id": "PYSEC-2026-1", "fix_versions": ["2.1"], "aliases": [], "description": ""}],
}


def test_packages_without_a_known_vulnerability_are_counted(verdict):
    assert verdict(report(SOUND, SOUND), "") == ("2 packages, and no known vulnerability in them", 0)


def test_a_vulnerability_is_named_with_its_remedy(verdict):
    assert verdict(report(SOUND, BROKEN), "") == ("broken 2.0: PYSEC-2026-1, mended in 2.1", 1)


def test_a_package_that_was_not_looked_up_is_no_success(verdict):
    told = "not audited, because the service does not know them: unknown"

    assert verdict(report(SOUND, UNKNOWN), "") == (told, 1)


def test_where_no_service_answers_nothing_was_audited(verdict):
    refused = "Traceback\nrequests.exceptions.ConnectionError: api.osv.dev: Name or service not known\n"

    assert verdict("", refused) == (
        "no service answered, and nothing was audited: "
        "requests.exceptions.ConnectionError: api.osv.dev: Name or service not known",
        1,
    )
    # An index that serves packages and no facts about them: pip-audit ends with exit code 0.
    assert verdict(report(UNKNOWN, UNKNOWN), "No known vulnerabilities found") == (
        "no service knows any of the 2 packages: nothing was audited",
        1,
    )
