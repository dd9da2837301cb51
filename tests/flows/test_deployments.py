"""The deployments on real servers: schedules create runs, Retry redoes the failed stage only, versions trigger."""

import json
import os
import urllib.request
from collections import Counter
from pathlib import Path

import pytest
import timecode
from real_servers import wait_for
from timecode import Recipe


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """Prefect, a worker with our deployments and MLflow over an empty root: (root, address of the API)."""
    from flows.serve import serving

    before = dict(os.environ)
    for name in [name for name in os.environ if name.startswith("PREFECT_")]:
        del os.environ[name]  # a server of its own, not the session's
    os.environ["PREFECT_WORKER_QUERY_SECONDS"] = "1"
    root = tmp_path_factory.mktemp("served") / "root"
    try:
        with serving(root, root / "state") as addresses:
            yield root, addresses
    finally:
        os.environ.clear()
        os.environ.update(before)


@pytest.fixture(scope="module")
def clips(tmp_path_factory) -> Path:
    """Six clips of one's own, and a list of them."""
    folder = tmp_path_factory.mktemp("clips")
    ids = [f"clip{n:07d}" for n in range(6)]
    for n, video_id in enumerate(ids):
        timecode.write(folder / f"{video_id}.mp4", Recipe(seconds=3 + n / 10, frame_rate=10))
    rows = "".join(f'{video_id}, 0.000, 3.000, "/m/09x0r"\n' for video_id in ids)
    (folder / "list.csv").write_text(rows)
    return folder


def ask(api: str, path: str, body: dict | None = None):
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(f"{api}{path}", data, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.load(answer)


def flow_runs(api: str, deployment: str) -> list[dict]:
    return ask(api, "/flow_runs/filter", {"deployments": {"name": {"any_": [deployment]}}})


def ended(api: str, run_id: str, run_count: int) -> dict | None:
    run = ask(api, f"/flow_runs/{run_id}")
    is_over = run["state_type"] in ("COMPLETED", "FAILED", "CRASHED") and run["run_count"] == run_count
    return run if is_over else None


def test_schedules_create_runs(server):
    _, addresses = server

    runs = wait_for(lambda: flow_runs(addresses.prefect_api, "hourly"), "an hourly run")

    assert {run["state_type"] for run in runs} == {"SCHEDULED"}
    assert all(run["auto_scheduled"] for run in runs)
    assert {run["expected_start_time"][14:16] for run in runs} == {"17"}  # minutes past the hour


def test_retry_redoes_the_failed_stage_only_and_a_version_triggers_training(server, clips):
    root, addresses = server
    api = addresses.prefect_api
    (root / "features").parent.mkdir(parents=True, exist_ok=True)
    (root / "features").write_text("not a folder: the machine is broken here")
    (deployment,) = ask(api, "/deployments/filter", {"deployments": {"name": {"any_": ["hourly"]}}})
    options = {
        "root": str(root),
        "preset": "small",
        "segments": [str(clips / "list.csv")],
        "compute": "threads",
    }
    parameters = {"options": {**options, "source": f"folder:{clips}"}}

    run = ask(api, f"/deployments/{deployment['id']}/create_flow_run", {"parameters": parameters})
    failed = wait_for(lambda: ended(api, run["id"], 1), "the failed build")
    before = {path: path.stat().st_mtime_ns for path in (root / "clips").rglob("*.*")}
    (root / "features").unlink()
    retry(run["id"])
    again = wait_for(lambda: ended(api, run["id"], 2), "the retried build")

    assert (failed["state_type"], again["state_type"]) == ("FAILED", "COMPLETED")
    stages = Counter(
        one["name"].rsplit("-", 1)[0]
        for one in ask(api, "/task_runs/filter", {"flow_runs": {"id": {"any_": [run["id"]]}}})
    )
    assert stages["download"] == stages["validate-clips"] == 1
    assert stages["extract"] == 2  # it failed, and was done
    assert {path: path.stat().st_mtime_ns for path in (root / "clips").rglob("*.*")} == before

    (started,) = wait_for(
        lambda: flow_runs(api, "on-new-version"), "the experiment that the version triggers"
    )
    digest = json.loads((root / "versions" / "latest.json").read_text())["digest"]
    assert started["parameters"]["options"] == {"root": str(root), "dataset_version": digest}


def retry(run_id: str) -> None:
    """As `prefect flow-run retry` does it for a run of a deployment."""
    from flows.serve import REPOSITORY
    from flows.servers import prefect_cli

    prefect_cli(["flow-run", "retry", run_id], REPOSITORY)


def test_mlflow_answers(server):
    _, addresses = server

    with urllib.request.urlopen(f"{addresses.mlflow}/health", timeout=30) as answer:
        assert answer.read() == b"OK"


def test_the_server_logs_no_traceback(server):
    root, _ = server

    log = (root / "state" / "logs" / "prefect.log").read_text()

    # SQLite's locks pass by themselves; a traceback of another kind is a broken pin.
    assert "Traceback" not in log or "database is locked" in log
