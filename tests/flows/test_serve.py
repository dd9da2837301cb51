"""What is deployed runs, survives, ends, and lets nobody in: `mcgurk serve` and its deployments as users start them."""

import json
import os
import shutil
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import urlsplit

import psutil
import pytest
import yaml
from real_servers import (
    REPOSITORY,
    Api,
    Host,
    answered,
    kept_processes,
    serving,
    started,
    text_of,
    wait_for,
)
from roots import write_clips

from flows.services.keeper import KEPT
from flows.services.rotation import MOST_BYTES
from flows.services.servers import addresses_of
from flows.services.watchdog import MARK
from schemas.shard import read_version
from tasks.processes import command_of, marked

pytestmark = pytest.mark.slow

IDS = [f"clip{n:02d}" for n in range(14)]
DONE = ("Completed", "Skipped")  # the latter beside a build that the schedule begins
FINAL = ("Completed", "Failed", "Crashed", "Cancelled", "Skipped")
BY_EVENT = "run-experiment/on-new-version"
ENDS_WITHIN_S = 5.0


def build(root: Path, host: tuple[Path, Host]) -> tuple[str, ...]:
    """The command that says once how a root is built."""
    path, one = host
    source = f"{one.address}/{{video_id}}"
    return "build", "--root", str(root), "--preset", "demo", "--segments", str(path), "--source", source


@contextmanager
def stalled(root: Path, host: tuple[Path, Host], output: Path) -> Iterator[subprocess.Popen]:
    """A build that waits for a host that says nothing yet."""
    _, one = host
    one.gate.clear()
    before = one.knocked.total()
    try:
        with started(*build(root, host), output=output) as process:
            wait_for(lambda: one.knocked.total() > before, "a download")
            yield process
    finally:
        one.gate.set()


def tell_once(root: Path, host: tuple[Path, Host], output: Path) -> None:
    """Says how a root is built, by a build that is stopped before it has anything."""
    with stalled(root, host, output) as process:
        process.terminate()
        process.wait()


def mark_of(process: psutil.Process) -> str | None:
    """What all that a command starts has in its environment; None while it has started nothing."""
    for child in process.children(recursive=True):
        with suppress(psutil.Error):  # it has ended
            if mark := child.environ().get(MARK):
                return mark
    return None


def left_by(root: Path) -> list[str]:
    """Processes that the keepers of a root started, and temporary files under it."""
    files = [
        path for path in root.rglob(".*") if path.name.endswith(".tmp") or path.name.startswith(".mcgurk-")
    ]
    return [str(one) for one in (*kept_processes(root), *files)]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_a_build_within_seconds_and_the_same_command_goes_on(host, tmp_path, number):
    root = tmp_path / "a root"
    output = tmp_path / "output"
    with stalled(root, host, output) as process:
        process.send_signal(number)
        code = process.wait(ENDS_WITHIN_S)

    assert code == 128 + number, output.read_text()
    last = output.read_text().splitlines()[-1]
    assert last.startswith(f"stopped by {number.name}; to resume: mcgurk build --root '{root}'")
    wait_for(lambda: not left_by(root), "the end of its servers")
    with started(*build(root, host), output=output) as process:
        assert process.wait(180) == 0, output.read_text()
    assert read_version(root).num_samples == len(IDS)


def test_a_hangup_that_is_ignored_at_the_start_stays_so(host, tmp_path):
    output = tmp_path / "output"
    before = host[1].knocked.total()
    script = "import os, signal, sys; signal.signal(signal.SIGHUP, signal.SIG_IGN); os.execv(sys.argv[1], sys.argv[1:])"
    mcgurk = str(Path(sys.executable).with_name("mcgurk"))
    host[1].gate.clear()
    given = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    with output.open("w") as file:
        command = [sys.executable, "-c", script, mcgurk, *build(tmp_path / "root", host)]
        process = subprocess.Popen(command, stdout=file, stderr=file, env=given)
    wait_for(lambda: host[1].knocked.total() > before, "a download")
    process.send_signal(signal.SIGHUP)
    host[1].gate.set()

    assert process.wait(180) == 0, output.read_text()


def test_a_build_that_is_killed_leaves_no_process(tmp_path):
    root = tmp_path / "root"
    with started("build", "--root", str(root), "--preset", "tiny", output=tmp_path / "output") as process:
        command = psutil.Process(process.pid)
        mark = wait_for(lambda: mark_of(command), "a worker")
        process.kill()
        process.wait()
        wait_for(lambda: not marked(MARK, mark) and not left_by(root), "the end of all that it started")


@pytest.fixture(scope="module")
def served(host, tmp_path_factory):
    """A root that is built once, and served."""
    folder = tmp_path_factory.mktemp("served")
    root = folder / "root"
    output = folder / "output"
    with started(*build(root, host), output=output) as process:
        assert process.wait(180) == 0, output.read_text()
    with serving(root, folder / "serve.out") as (process, api):
        yield root, process, api


def test_an_hourly_build_with_nothing_due_completes(served):
    _, _, api = served

    run = api.begin("hourly")

    wait_for(lambda: api.state_of(run)[0] in FINAL, "the build")
    assert api.state_of(run)[0] == "Completed"


def test_a_page_of_another_origin_and_a_stranger_are_refused(served):
    _, _, api = served
    url = f"{api.address}/flow_runs/filter"
    stranger = urllib.request.Request(url, b"{}", {"Content-Type": "application/json"})
    asks_first = {"Origin": "http://evil.example", "Access-Control-Request-Method": "POST"}
    preflight = urllib.request.Request(url, headers=asks_first, method="OPTIONS")

    for request, refusal in ((stranger, (401, 403)), (preflight, (400,))):
        with pytest.raises(urllib.error.HTTPError) as refused, answered(request):
            pass
        assert refused.value.code in refusal
    without_token = urllib.request.Request(url, b"{}", {"Authorization": f"Basic {api.secret}"})
    with pytest.raises(urllib.error.HTTPError, match="403"), answered(without_token):
        pass


def test_one_address_is_printed_and_leads_to_the_servers(served):
    root, _, _ = served
    printed = (root.parent / "serve.out").read_text()
    address = printed.partition("page     ")[2].split()[0]

    page = Path(urllib.request.url2pathname(urlsplit(address).path))
    text = page.read_text()
    found = addresses_of(root / "state")
    ports = [urlsplit(one).port for one in found.values()]
    assert page == root / "index.html" and list(found) == ["Prefect", "MLflow"]
    assert all(f'<a href="{one}">' in text for one in found.values())
    assert f"ssh -L {ports[0]}:127.0.0.1:{ports[0]} -L {ports[1]}:127.0.0.1:{ports[1]} " in text
    assert (root / "state" / "prefect" / "login").read_text().partition(":")[2] not in text


def test_a_long_log_is_rotated_under_its_server(served):
    root, _, api = served
    path = root / "state" / "logs" / "prefect.log"
    with path.open("ab") as file:
        file.write(b"a line\n" * (MOST_BYTES // 7 + 1))

    wait_for(lambda: path.stat().st_size < MOST_BYTES, "a short log")
    assert path.with_name("prefect.log.1").stat().st_size > MOST_BYTES
    assert _answers(api)


def test_the_login_is_for_this_account_only(served):
    root, _, api = served
    login = root / "state" / "prefect" / "login"

    assert login.stat().st_mode & 0o777 == 0o600
    logs = "".join(path.read_text(errors="replace") for path in (root / "state" / "logs").rglob("*.log"))
    assert api.login.partition(":")[2] not in logs


def test_a_second_serve_is_refused_and_says_who_serves(served, tmp_path):
    root, process, _ = served

    with started("serve", "--root", str(root), output=tmp_path / "second") as second:
        assert second.wait(60) == 1

    assert f"process {process.pid} on " in (tmp_path / "second").read_text()


def test_a_command_uses_the_server_that_serves_its_state_folder(served, host, tmp_path):
    root, _, api = served
    before = len(api.ask("/flow_runs/filter", {}))

    with started(*build(root, host), output=tmp_path / "output") as process:
        assert process.wait(180) == 0, (tmp_path / "output").read_text()

    assert len(api.ask("/flow_runs/filter", {})) == before + 1
    servers = [one for one in marked(KEPT, str(root / "state" / "prefect")) if "server" in command_of(one)]
    assert len(servers) == 1


@pytest.mark.parametrize("name", ["server", "cpu", "gpu", "mlflow"])
def test_what_dies_is_started_again_on_the_same_port(served, name):
    root, _, api = served
    folder = str(root / "state" / ("prefect" if name == "server" else "serve"))
    (victim,) = [
        one for one in marked(KEPT, folder) if name in command_of(one) and "uvicorn" not in command_of(one)
    ]
    arguments = command_of(victim)

    victim.kill()

    def is_back() -> bool:
        return any(command_of(one) == arguments and one.pid != victim.pid for one in marked(KEPT, folder))

    wait_for(is_back, "a new process")
    wait_for(lambda: _answers(api), "the server")
    run = api.begin("hourly")
    wait_for(lambda: api.state_of(run)[0] in FINAL, "a build after it")
    assert api.state_of(run)[0] in DONE


def _answers(api: Api) -> bool:
    try:
        return api.ask("/health") is True
    except OSError:
        return False


def test_a_scheduled_build_ends_at_once_beside_another_one_and_says_which(served, host, tmp_path):
    root, _, api = served
    with stalled(root, _with_another_clip(host, tmp_path), tmp_path / "output") as process:
        run = api.begin("hourly")
        wait_for(lambda: api.state_of(run)[0] in FINAL, "the scheduled build")
        name, message = api.state_of(run)

    assert name == "Skipped"
    assert f"process {process.pid} on " in message and "since 20" in message


def _with_another_clip(host, folder: Path):
    """The host, with a list that has something to fetch."""
    _, one = host
    video_id = f"more{len(one.files):03d}"
    (path,) = write_clips(folder, [video_id])
    one.files[video_id] = folder / f"{video_id}.mp4"
    return path, one


def test_a_server_that_is_killed_in_a_build_neither_ends_nor_delays_it(served, host, tmp_path):
    root, _, api = served
    host = _with_another_clip(host, tmp_path)
    with stalled(root, host, tmp_path / "output") as process:
        (server,) = [
            one for one in marked(KEPT, str(root / "state" / "prefect")) if "server" in command_of(one)
        ]
        server.kill()
        host[1].gate.set()
        code = process.wait(60)

    assert code == 0, (tmp_path / "output").read_text()
    wait_for(lambda: _answers(api), "the server")
    by_hand = [run for run in api.ask("/flow_runs/filter", {}) if run["deployment_id"] is None]
    latest = max(by_hand, key=lambda run: run["created"])
    wait_for(lambda: api.state_of(latest["id"])[0] in FINAL, "its end")
    assert api.state_of(latest["id"])[0] == "Completed"
    assert "Traceback" not in (tmp_path / "output").read_text()


def test_after_a_power_cut_the_run_is_crashed_and_the_next_does_the_rest(host, tmp_path):
    """kill -9 of flow, worker, servers and `serve`, and a new `serve` (PrefectHQ/prefect#16746)."""
    root = tmp_path / "root"
    one = host[1]
    tell_once(root, host, tmp_path / "output")
    one.gate.clear()
    with serving(root, tmp_path / "first") as (serve, api):
        first = api.begin("hourly")
        wait_for(
            lambda: api.state_of(first)[0] == "Running" and (root / "state" / "runs").is_dir(), "a build"
        )
        for victim in (*reversed(serve.children(recursive=True)), serve):
            victim.kill()
        for victim in kept_processes(root):
            victim.kill()
    one.gate.set()

    with serving(root, tmp_path / "second") as (serve, api):
        wait_for(lambda: api.state_of(first)[0] == "Crashed", "the report of the dead run")
        second = api.begin("hourly")
        wait_for(lambda: api.state_of(second)[0] in FINAL, "the next build")
        assert api.state_of(second)[0] == "Completed"
        serve.send_signal(signal.SIGTERM)
        serve.wait(ENDS_WITHIN_S)

    assert read_version(root).num_samples >= len(IDS)
    wait_for(lambda: not left_by(root), "the end of its servers")


def test_a_flow_of_a_worker_is_ended_before_it_when_serve_stops(host, tmp_path):
    root = tmp_path / "root"
    one = host[1]
    tell_once(root, host, tmp_path / "output")
    one.gate.clear()
    try:
        with serving(root, tmp_path / "first") as (serve, api):
            run = api.begin("hourly")
            wait_for(lambda: list((root / "state" / "runs").glob("*.json")), "a build")
            serve.send_signal(signal.SIGTERM)
            serve.wait(ENDS_WITHIN_S)
    finally:
        one.gate.set()
    wait_for(lambda: not left_by(root), "the end of its servers")

    with serving(root, tmp_path / "second") as (_, api):
        assert api.state_of(run)[0] == "Crashed"


@contextmanager
def with_preset(root: Path, output: Path) -> Iterator[None]:
    """A root whose remembered preset is tiny, and that has something to do."""
    with started("build", "--root", str(root), "--preset", "tiny", output=output) as process:
        wait_for((root / "build.json").is_file, "what the root remembers")
        process.terminate()
        process.wait(ENDS_WITHIN_S)
    yield


# What trains for hours as it is shipped, and is off.
SHORTER = {"compare-models/weekly": {"model": "contrastive", "settings": {"steps": 2}}}


def shipped() -> list[str]:
    """The deployments of prefect.yaml in their order, as Prefect names them."""
    entries = yaml.safe_load((REPOSITORY / "prefect.yaml").read_text())["deployments"]
    return [f"{one['entrypoint'].rpartition('.')[2].replace('_', '-')}/{one['name']}" for one in entries]


def test_every_deployment_runs_as_it_is_shipped(tmp_path):
    """With its own parameters and compute, through a real worker, on a root whose remembered preset is tiny."""
    root = tmp_path / "root"
    output = tmp_path / "output"
    names = shipped()
    assert len(names) == 7
    with with_preset(root, output), serving(root, tmp_path / "serve.out") as (_, api):
        for name in names:
            if name != BY_EVENT:  # which is begun by what the build makes
                shorter = SHORTER.get(name)
                api.begin(name, {"options": {"root": str(root), **shorter}} if shorter else None)
            run = wait_for(lambda name=name: _ended(api, name), name)
            assert run["state_name"] == "Completed", (name, run["state"])
        digest = json.loads((root / "versions" / "latest.json").read_text())["digest"]
        told = [event["resource"]["mcgurk.root"] for event in api.events("mcgurk.dataset-version.created")]
    assert read_version(root, digest).num_samples > read_version(root / "state" / "canary").num_samples == 4
    assert told == [str(root)], "the canary tells nobody of its version"


def _ended(api: Api, deployment: str) -> dict | None:
    return next((run for run in api.runs(deployment) if run["state_name"] in FINAL), None)


def test_a_training_whose_server_is_killed_ends_well(tmp_path):
    root = tmp_path / "root"
    output = tmp_path / "output"
    with started("build", "--root", str(root), "--preset", "tiny", output=output) as process:
        assert process.wait(180) == 0, output.read_text()

    with started("train", "--root", str(root), output=output) as process:
        wait_for(lambda: "train: step" in text_of(output), "a step")
        (server,) = [
            one for one in marked(KEPT, str(root / "state" / "prefect")) if "server" in command_of(one)
        ]
        server.kill()
        assert process.wait(180) == 0, output.read_text()

    assert "promoted: the first champion" in output.read_text()
    assert "Traceback" not in output.read_text()


def test_a_signal_during_the_start_of_servers_leaves_none(host, tmp_path):
    root = tmp_path / "root"
    output = tmp_path / "output"
    with started(*build(root, host), output=output) as process:
        wait_for(lambda: marked(KEPT, str(root / "state" / "prefect")), "the start of a server")
        process.terminate()
        assert process.wait(ENDS_WITHIN_S) == 128 + signal.SIGTERM, output.read_text()

    wait_for(lambda: not left_by(root), "the end of its servers")


def test_beside_a_server_of_the_users_none_is_started_and_a_port_for_it_is_told_to_be_of_no_use(tmp_path):
    own = tmp_path / "own"
    with serving(own, tmp_path / "own.out") as (_, api):
        given = {"PREFECT_API_URL": api.address, "PREFECT_API_AUTH_STRING": api.login}
        output = tmp_path / "output"
        (tmp_path / "root").mkdir()
        command = ("serve", "--root", str(tmp_path / "root"), "--port", "65000")
        with started(*command, output=output, **given) as process:
            wait_for(lambda: "Deployments" in text_of(output) or process.poll() is not None, "serve")

    told = output.read_text()
    assert "--port 65000 is not used: another Prefect server is up" in told
    assert f"port {urlsplit(api.address).port} is taken" not in told
    assert not (tmp_path / "root" / "state" / "prefect" / "prefect.db").exists()


def test_what_is_scheduled_uses_the_state_folder_that_serve_was_given(tmp_path):
    root = tmp_path / "root"
    with with_preset(root, tmp_path / "output"):
        pass
    shutil.rmtree(root / "state")
    folder = tmp_path / "a state"

    with started("serve", "--root", str(root), "--state", str(folder), output=tmp_path / "serve.out") as one:
        wait_for(lambda: "Deployments" in text_of(tmp_path / "serve.out") or one.poll() is not None, "serve")
        api = Api.of(folder)
        run = api.begin("canary/hourly")
        wait_for(lambda: api.state_of(run)[0] in FINAL, "the canary")

    assert (folder / "canary.json").is_file() and not (root / "state").exists()
    assert json.loads((root / "build.json").read_text())["preset"] == "tiny"


def test_mlflow_asks_for_the_login_where_it_is_told_to(tmp_path):
    output = tmp_path / "output"
    with serving(tmp_path / "root", output, "--mlflow-login") as (_, api):
        address = addresses_of(tmp_path / "root" / "state")["MLflow"]
        url = f"{address}/api/2.0/mlflow/experiments/search?max_results=1"

        with pytest.raises(urllib.error.HTTPError, match="401"), answered(urllib.request.Request(url)):
            pass
        with answered(
            urllib.request.Request(url, headers={"Authorization": f"Basic {api.secret}"})
        ) as answer:
            assert answer.status == 200

    assert (tmp_path / "root" / "state" / "mlflow").stat().st_mode & 0o777 == 0o700
