"""The deployments on real servers: schedules create runs, a version triggers a training, foreign names are refused."""

import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import urllib.error
import urllib.request
import venv
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import pytest
from real_servers import REPOSITORY, Api, answered, serving, started, wait_for
from roots import write_clips

from flows.presets import PRESETS
from flows.services.servers import addresses_of
from schemas.layout import STAGE_NAMES
from tasks.parts import Only

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


def test_schedules_are_those_of_the_file(served):
    _, api = served

    found = {
        f"{one['entrypoint'].split('.')[-1]}/{one['name']}": [
            (it["schedule"]["cron"], it["active"]) for it in one["schedules"]
        ]
        for one in api.ask("/deployments/filter", {})
    }

    assert found == {
        "build_dataset/hourly": [("17 * * * *", True)],
        "build_dataset/retry-unavailable": [("57 2 * * 3", True)],
        "run_experiment/on-new-version": [],
        "canary/hourly": [("47 * * * *", True)],
        "prune/weekly": [("37 4 * * 0", True)],
        "recheck_take_downs/monthly": [("7 3 1 * *", True)],
        "compare_models/weekly": [("27 5 * * 6", False)],
    }


def test_no_folder_of_ours_heads_the_path_of_a_flow(served):
    """Where one does, Dask's workers take its modules for the standard library's."""
    _, api = served

    deployments = api.ask("/deployments/filter", {})

    assert all(one["entrypoint"].startswith("flows.") for one in deployments)
    assert all(not one["pull_steps"] for one in deployments)
    patient = {"PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "30", "PREFECT_CLIENT_MAX_RETRIES": "8"}
    assert all(patient.items() <= one["job_variables"]["env"].items() for one in deployments)
    assert all(one["global_concurrency_limit"] is None for one in deployments)  # its lease could be lost


def forms(api: Api) -> dict[str, dict[str, dict]]:
    """Flow -> option -> what Prefect's form shows of it."""
    found = {}
    for one in api.ask("/deployments/filter", {}):
        kinds = one["parameter_openapi_schema"]["definitions"].values()
        (options,) = (kind["properties"] for kind in kinds if "root" in kind["properties"])
        found[one["entrypoint"].split(".")[-1]] = options
    return found


def text_in(form: dict) -> dict:
    """What a form says of a text that may be left out."""
    return next(one for one in form.get("anyOf", [form]) if one["type"] == "string")


def test_the_forms_describe_each_option_and_offer_what_there_is(served):
    """What Prefect's pages show to whom runs a deployment by hand."""
    shown = forms(served[1])

    bare = [
        (flow, name)
        for flow, form in shown.items()
        for name, one in form.items()
        if not one.get("description")
    ]
    assert len(shown) == 6 and bare == []
    assert shown["canary"]["root"]["description"] == "where segments, clips, shards and versions lie"
    build = shown["build_dataset"]
    assert text_in(build["preset"])["enum"] == list(PRESETS) and "enum" not in text_in(build["source"])
    assert text_in(build["from_stage"])["enum"] == list(STAGE_NAMES)
    assert build["only"]["enum"] == list(get_args(Only))
    models = text_in(shown["run_experiment"]["model"])["enum"]
    assert {"contrastive", "contrastive/wave", "ave"} <= set(models)
    pattern = text_in(build["compute"])["pattern"]
    assert pattern == text_in(shown["canary"]["compute"])["pattern"]
    assert all(re.search(pattern, one) for one in ("local", "threads", "tcp://host:8786", "tls://[::1]:1"))
    assert not any(re.search(pattern, one) for one in ("dask", "tcp://host", "local; rm", "tcp://a b:1"))


@pytest.mark.parametrize(
    "wrong", [{"preset": "larger"}, {"compute": "cluster"}, {"from_stage": "packing"}, {"parts": "3-"}]
)
def test_a_slip_in_a_form_is_refused_before_a_run_begins(served, wrong):
    root, api = served

    with pytest.raises(urllib.error.HTTPError, match="409"):
        api.begin("hourly", {"options": {"root": str(root), **wrong}})


@pytest.fixture(scope="module")
def installed(tmp_path_factory) -> Path:
    """The programs of an environment with our wheel beside what it needs, and without this checkout."""
    folder = tmp_path_factory.mktemp("installed")
    others = shutil.ignore_patterns(".venv*", ".git", "build", "*.egg-info", "__pycache__", ".*_cache")
    shutil.copytree(REPOSITORY, folder / "clone", symlinks=True, ignore=others)
    pip = [sys.executable, "-m", "pip", "--quiet"]
    wheel = ["wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", folder / "wheels", folder / "clone"]
    subprocess.run([*pip, *wheel], check=True)
    venv.create(folder / "venv")
    (made,) = (folder / "wheels").glob("mcgurk-*.whl")
    python = folder / "venv" / "bin" / "python"
    subprocess.run([*pip, "--python", python, "install", "--no-deps", made], check=True)
    (packages,) = (folder / "venv" / "lib").glob("python3*/site-packages")
    (packages / "needed.pth").write_text(sysconfig.get_path("purelib"))
    return python.parent


def given(api: Api) -> dict[str, str]:
    """The environment of a user with a server of their own."""
    return {"PREFECT_API_URL": api.address, "PREFECT_API_AUTH_STRING": api.login}


def deploy_again(programs: Path, root: Path, api: Api, output: Path) -> str:
    """What `mcgurk deploy` prints."""
    mcgurk = str(programs / "mcgurk")
    with started("deploy", "--root", str(root), output=output, program=mcgurk, **given(api)) as process:
        assert process.wait(120) == 0, output.read_text()
    return output.read_text()


def pools_of(api: Api) -> dict[str, dict]:
    return {pool["name"]: pool for pool in api.ask("/work_pools/filter", {})}


def old_pool(api: Api) -> None:
    """The pool in which earlier versions ran everything."""
    template = pools_of(api)["cpu"]["base_job_template"]
    api.ask("/work_pools/", {"name": "mcgurk", "type": "process", "base_job_template": template})


@pytest.mark.slow
def test_the_pool_of_earlier_versions_runs_nothing_any_more(served, installed, tmp_path):
    """Who upgrades has deployments, a waiting run and one at work in the pool `mcgurk`."""
    root, api = served
    old_pool(api)
    for one in api.ask("/deployments/filter", {}):
        api.send("PATCH", f"/deployments/{one['id']}", {"work_pool_name": "mcgurk"})
    waiting = api.begin("on-new-version")
    at_work = api.begin("hourly")
    api.ask(f"/flow_runs/{at_work}/set_state", {"state": {"type": "RUNNING"}, "force": True})

    printed = deploy_again(installed, root, api, tmp_path / "first")

    pools = {
        one["entrypoint"].split(".")[-1]: one["work_pool_name"] for one in api.ask("/deployments/filter", {})
    }
    assert {flow for flow, pool in pools.items() if pool == "gpu"} == {"run_experiment", "compare_models"}
    assert set(pools.values()) == {"cpu", "gpu"}
    assert api.state_of(waiting) == ("Cancelled", "the pool mcgurk no longer exists")
    assert api.state_of(at_work)[0] == "Running"
    assert pools_of(api)["mcgurk"]["is_paused"] and "the pool mcgurk is paused" in printed
    (path,) = (installed.parent / "lib").glob("python3*/site-packages/flows/prefect.yaml")
    assert str(path) in printed

    api.ask(f"/flow_runs/{at_work}/set_state", {"state": {"type": "COMPLETED"}, "force": True})
    deploy_again(installed, root, api, tmp_path / "second")

    assert pools_of(api).keys() == {"cpu", "gpu"}


@pytest.mark.slow
def test_a_pool_of_that_name_to_which_others_deploy_stays(served, installed, tmp_path):
    root, api = served
    old_pool(api)
    flow = api.ask("/flows/", {"name": "of-others"})["id"]
    theirs = {"name": "theirs", "flow_id": flow, "work_pool_name": "mcgurk", "entrypoint": "a.b"}
    made = api.ask("/deployments/", theirs)["id"]

    deploy_again(installed, root, api, tmp_path / "output")

    assert not pools_of(api)["mcgurk"]["is_paused"]
    api.send("DELETE", f"/deployments/{made}")
    api.send("DELETE", "/work_pools/mcgurk")


@pytest.mark.slow
@pytest.mark.parametrize("place", ["clone", "wheel"])
def test_prefect_deploys_by_itself(served, installed, tmp_path, place):
    """As the documents say it: in a clone, and by the file that `mcgurk deploy` of an installed wheel names."""
    root, api = served
    for one in api.ask("/deployments/filter", {}):
        api.send("DELETE", f"/deployments/{one['id']}")
    (path,) = (installed.parent / "lib").glob("python3*/site-packages/flows/prefect.yaml")
    clone = installed.parents[1] / "clone"
    python, cwd, more = {
        "clone": (sys.executable, clone, []),
        "wheel": (installed / "python", tmp_path, ["--prefect-file", path]),
    }[place]

    done = subprocess.run(
        [python, "-P", "-m", "prefect", "--no-prompt", "deploy", "--all", *more],
        cwd=cwd,
        env={**os.environ, **given(api), "MCGURK_ROOT": str(root)},
        capture_output=True,
        text=True,
    )

    assert done.returncode == 0, done.stdout + done.stderr
    found = api.ask("/deployments/filter", {})
    assert len(found) == 7 and {one["parameters"]["options"]["root"] for one in found} == {str(root)}


@pytest.mark.slow
def test_who_deploys_another_root_is_told_which_one_is_scheduled_no_more(served, tmp_path):
    root, api = served
    told = {}
    for name, one in (("other", tmp_path / "other"), ("back", root), ("again", root)):
        output = tmp_path / f"{name}.output"
        with started("deploy", "--root", str(one), output=output, **given(api)) as process:
            assert process.wait(120) == 0, output.read_text()
        told[name] = output.read_text()

    assert f"the deployments were for {root}, and are for {tmp_path / 'other'} from now on" in told["other"]
    assert f"and are for {root} from now on" in told["back"] and "from now on" not in told["again"]


@pytest.mark.slow
def test_a_canary_that_fails_is_a_failed_run(served):
    root, api = served
    folder = root / "state" / "canary"
    folder.write_text("no folder")

    run = api.begin("canary/hourly")
    wait_for(lambda: api.state_of(run)[0] in FINAL, "the canary")
    folder.unlink()

    assert api.state_of(run)[0] == "Failed", api.state_of(run)


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
