"""The deployments on real servers: schedules create runs, a version triggers a training, foreign names are refused."""

import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from real_servers import Api, answered, serving, wait_for
from roots import write_clips

IDS = [f"clip{n:02d}" for n in range(6)]
FINAL = ("Completed", "Failed", "Crashed")


@pytest.fixture(scope="module")
def served(tmp_path_factory) -> Iterator[tuple[Path, Api]]:
    """`mcgurk serve` over an empty root."""
    folder = tmp_path_factory.mktemp("served")
    with serving(folder / "root", folder / "output") as (_, api):
        yield folder / "root", api


def test_schedules_create_runs(served):
    _, api = served

    runs = wait_for(lambda: api.runs("hourly"), "an hourly run")

    assert {run["state_type"] for run in runs} == {"SCHEDULED"}
    assert all(run["auto_scheduled"] for run in runs)
    assert {run["expected_start_time"][14:16] for run in runs} == {"17"}  # minutes past the hour


def test_no_folder_of_ours_heads_the_path_of_a_flow(served):
    """Where one does, Dask's workers take its modules for the standard library's."""
    _, api = served

    deployments = api.ask("/deployments/filter", {})

    assert {one["entrypoint"] for one in deployments} == {
        "flows.build_dataset.build_dataset",
        "flows.run_experiment.run_experiment",
    }
    assert all(not one["pull_steps"] for one in deployments)
    assert all(
        one["job_variables"]["env"]["PREFECT_FLOWS_HEARTBEAT_FREQUENCY"] == "30" for one in deployments
    )
    assert all(one["global_concurrency_limit"] is None for one in deployments)  # its lease could be lost


def test_a_build_of_a_worker_uses_the_compute_that_is_shipped(served, tmp_path):
    root, api = served
    (path,) = write_clips(tmp_path, IDS)
    asked = {"root": str(root), "preset": "small", "segments": [str(path)], "source": f"folder:{tmp_path}"}

    run = api.begin("hourly", {"options": asked})
    wait_for(lambda: api.state_of(run)[0] in FINAL, "the build")

    assert api.state_of(run)[0] == "Completed", api.state_of(run)
    assert (root / "versions" / "latest.json").is_file()


def test_mlflow_answers_to_its_own_names_only(served):
    root, _ = served
    address = (root.parent / "output").read_text().partition("MLflow   ")[2].split()[0]

    with answered(urllib.request.Request(f"{address}/health")) as answer:
        assert answer.read() == b"OK"
    foreign = urllib.request.Request(f"{address}/", headers={"Host": "10.evil.example"})
    with pytest.raises(urllib.error.HTTPError, match="403"), answered(foreign):
        pass


def test_the_server_logs_no_traceback(served):
    root, _ = served

    log = (root / "state" / "logs" / "prefect.log").read_text()

    # SQLite's locks pass by themselves; a traceback of another kind is a broken pin.
    assert "Traceback" not in log or "database is locked" in log
