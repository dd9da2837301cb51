"""The page of a run in Prefect: names of its tasks, and its progress, in one artifact that changes while it works."""

import json
import os
import subprocess
import sys

import pytest
from real_servers import REPOSITORY

WORKS = """
import json
from prefect import flow, get_client
from prefect.client.schemas.filters import ArtifactFilter
from prefect.runtime import flow_run
from flows.run_page import followed, rename, stretch
from tasks.progress import tracked

def shown():
    wanted = ArtifactFilter.model_validate({"flow_run_id": {"any_": [flow_run.id]}})
    with get_client(sync_client=True) as client:
        found = client.read_artifacts(artifact_filter=wanted)
        return [(one.data, one.description) for one in found], client.read_flow_run(flow_run.id).name

@flow(persist_result=False)
def works():
    import logging, time
    ends = time.monotonic() + 60
    with followed():
        rename("another name")
        with stretch(0.5, 1.0):
            for _ in tracked(range(5000), 10000, "extract", logging.getLogger()):
                if _ == 4999:
                    while not shown()[0] and time.monotonic() < ends:
                        time.sleep(0.2)
                    print(json.dumps(shown()))
    print(json.dumps(shown()))
works()
"""


def test_progress_is_one_artifact_that_changes_while_the_run_works(prefect_server):
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}

    done = subprocess.run(
        [sys.executable, "-c", WORKS], env=environment, capture_output=True, text=True, check=True
    )
    during, after = (json.loads(line) for line in done.stdout.splitlines() if line.startswith("[["))

    assert during == [[[75.0, "extract: 4,999 of 10,000"]], "another name"]
    assert after == [[[100.0, "done"]], "another name"]


@pytest.mark.parametrize(
    ("parts", "told"),
    [
        ([7], "part 7"),
        (range(32), "parts 0-31"),
        ([3, 7, 8, 9], "parts 3, 7-9"),
        (range(0, 20, 2), "10 parts from 0 to 18"),
    ],
)
def test_a_task_run_is_named_by_its_parts(parts, told):
    from flows.task_runs import parts_text

    assert parts_text(parts) == told
