"""What we start leaves the process as it was: who trains after a build trains on all cores."""

import json
import os
import subprocess
import sys

import pytest
from real_servers import REPOSITORY


def told(start: str, folder) -> dict:
    """What one of `tests/support/as_it_was.py` printed last, in a process of its own."""
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(("PREFECT_", "MLFLOW_"))
    }
    done = subprocess.run(
        [sys.executable, "-c", f"import sys, as_it_was; as_it_was.{start}(sys.argv[1])", str(folder)],
        env={**environment, "PYTHONPATH": f"{REPOSITORY}:{REPOSITORY / 'tests' / 'support'}"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("start", ["cluster", "cluster_again", "servers", "training"])
def test_what_we_start_leaves_the_process_as_it_was(start, tmp_path):
    alone = told("nothing", tmp_path)
    after = told(start, tmp_path)

    assert after["differing"] == {}
    assert after["threads"] == alone["threads"]
