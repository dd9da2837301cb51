"""The deployments on real servers: schedules create runs, a version triggers a training, foreign names are refused."""

import json
import re
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from real_servers import Api, answered, serving, started, wait_for
from roots import write_clips

from flows.services.servers import addresses_of

IDS = [f"clip{n:02d}" for n in range(6)]
STAGES = 8
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


def deploy_again(root: Path, api: Api, output: Path) -> None:
    """`mcgurk deploy` as a user with a server of their own calls it."""
    given = {"PREFECT_API_URL": api.address, "PREFECT_API_AUTH_STRING": api.login}
    with started("deploy", "--root", str(root), output=output, **given) as process:
        assert process.wait(120) == 0, output.read_text()


def pools_of(api: Api) -> dict[str, dict]:
    return {pool["name"]: pool for pool in api.ask("/work_pools/filter", {})}


@pytest.mark.slow
def test_the_pool_of_earlier_versions_runs_nothing_any_more(served, tmp_path):
    """Who upgrades has deployments, a waiting run and one at work in the pool `mcgurk`."""
    root, api = served
    template = pools_of(api)["cpu"]["base_job_template"]
    api.ask("/work_pools/", {"name": "mcgurk", "type": "process", "base_job_template": template})
    for one in api.ask("/deployments/filter", {}):
        api.send("PATCH", f"/deployments/{one['id']}", {"work_pool_name": "mcgurk"})
    waiting = api.begin("on-new-version")
    at_work = api.begin("hourly")
    running = {"state": {"type": "RUNNING"}, "force": True}
    api.ask(f"/flow_runs/{at_work}/set_state", running)

    deploy_again(root, api, tmp_path / "first")

    found = api.ask("/deployments/filter", {})
    assert {one["name"]: one["work_pool_name"] for one in found}.items() >= {
        "hourly": "cpu",
        "on-new-version": "gpu",
    }.items()
    assert {one["work_pool_name"] for one in found} == {"cpu", "gpu"}
    assert api.state_of(waiting) == ("Cancelled", "the pool mcgurk is no more")
    assert api.state_of(at_work)[0] == "Running"
    assert pools_of(api)["mcgurk"]["is_paused"]
    assert "the pool mcgurk is paused" in (tmp_path / "first").read_text()

    api.ask(f"/flow_runs/{at_work}/set_state", {"state": {"type": "COMPLETED"}, "force": True})
    deploy_again(root, api, tmp_path / "second")

    assert pools_of(api).keys() == {"cpu", "gpu"}


@pytest.mark.slow
def test_a_pool_of_that_name_to_which_others_deploy_stays(served, tmp_path):
    root, api = served
    template = pools_of(api)["cpu"]["base_job_template"]
    api.ask("/work_pools/", {"name": "mcgurk", "type": "process", "base_job_template": template})
    flow = api.ask("/flows/", {"name": "of-others"})["id"]
    theirs = {"name": "theirs", "flow_id": flow, "work_pool_name": "mcgurk", "entrypoint": "a.b"}
    made = api.ask("/deployments/", theirs)["id"]

    deploy_again(root, api, tmp_path / "output")

    assert not pools_of(api)["mcgurk"]["is_paused"]
    api.send("DELETE", f"/deployments/{made}")
    api.send("DELETE", "/work_pools/mcgurk")


@pytest.fixture(scope="module")
def build(served, tmp_path_factory) -> str:
    """The id of a run of the deployment of builds, which has ended."""
    root, api = served
    folder = tmp_path_factory.mktemp("clips")
    (path,) = write_clips(folder, IDS)
    asked = {"root": str(root), "preset": "small", "segments": [str(path)], "source": f"folder:{folder}"}
    run = api.begin("hourly", {"options": asked})
    wait_for(lambda: api.state_of(run)[0] in FINAL, "the build")
    return run


def test_a_build_of_a_worker_uses_the_compute_that_is_shipped(served, build):
    root, api = served

    assert api.state_of(build)[0] == "Completed", api.state_of(build)
    assert (root / "versions" / "latest.json").is_file()


def test_a_run_and_its_tasks_bear_names_that_say_what_they_are(served, build):
    _, api = served
    of_run = {"flow_runs": {"id": {"any_": [build]}}}

    tasks = wait_for(lambda: len(found := api.ask("/task_runs/filter", of_run)) >= STAGES and found, "tasks")

    # Its index was empty when it began.
    name = api.ask(f"/flow_runs/{build}")["name"]
    assert re.fullmatch(rf"build small {len(IDS)} clips 20\d\d-\d\d-\d\d \d\d:\d\d", name)
    assert {task["name"] for task in tasks} >= {"index", "download part 0", "pack part 0", "publish"}


def test_the_page_of_a_run_shows_progress_funnel_links_and_a_line_a_part(served, build):
    root, api = served
    digest = json.loads((root / "versions" / "latest.json").read_text())["digest"]
    of_run = {"artifacts": {"flow_run_id": {"any_": [build]}}}

    found = {one["key"]: one for one in api.ask("/artifacts/filter", of_run)}
    lines = wait_for(lambda: _lines(api, build), "its last lines")

    assert found["progress"]["data"] == 100.0
    assert {"fate": "in shards", "reason": "", "segments": len(IDS)} in json.loads(found["funnel"]["data"])
    assert f"`{root / 'versions' / digest}.html`" in found["links"]["data"]
    for stage in ("download", "extract", "pack"):
        assert any(line.startswith(f"{stage}: part 0, {len(IDS)} of {len(IDS)}") for line in lines), lines


def _lines(api: Api, run: str) -> list[str]:
    """What a run has logged; empty until the last stage is among it."""
    lines = [one["message"] for one in api.ask("/logs/filter", {"logs": {"flow_run_id": {"any_": [run]}}})]
    return lines if any(line.startswith("version ") for line in lines) else []


def test_mlflow_answers_to_its_own_names_only(served):
    root, _ = served
    address = addresses_of(root / "state")["MLflow"]

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
