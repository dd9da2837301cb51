"""Servers that a command starts end with it, however it ends."""

import base64
import json
import os
import shutil
import signal
import subprocess
import sys
import urllib.request
from dataclasses import replace
from http.server import SimpleHTTPRequestHandler

import psutil
import pytest
from real_servers import REPOSITORY, answering, wait_for

from flows.services.keeper import KEPT, Service, answers, kept, running_in
from flows.services.servers import free_port, given_api, prefect_api, running
from flows.services.watchdog import watched
from tasks.processes import command_of, marked

STOPS_LISTENING = """
import sys, threading, time
from http.server import HTTPServer, SimpleHTTPRequestHandler
from pathlib import Path
server = HTTPServer(("127.0.0.1", int(sys.argv[1])), SimpleHTTPRequestHandler)
threading.Thread(target=server.serve_forever, daemon=True).start()
while not Path(sys.argv[2]).exists():
    time.sleep(0.1)
Path(sys.argv[2]).unlink()
server.shutdown()
server.server_close()
time.sleep(600)
"""
WAITS = """
import sys
from pathlib import Path
from flows.services.servers import running
with running([sys.executable, "-c", "import time; time.sleep(600)"], Path(sys.argv[1])) as process:
    print(process.pid, flush=True)
    process.wait()
"""


def test_a_server_ends_when_its_command_is_killed(tmp_path):
    command = [sys.executable, "-c", WAITS, str(tmp_path / "server.log")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as starter:
        assert starter.stdout is not None
        server = psutil.Process(int(starter.stdout.readline()))
        starter.send_signal(signal.SIGKILL)

    def is_gone() -> bool:
        return not server.is_running() or server.status() == psutil.STATUS_ZOMBIE

    wait_for(is_gone, "the end of the server")


def test_a_server_whose_port_somebody_else_has_taken_is_not_taken_for_up(tmp_path):
    """The other one answers as well."""
    waits = "import time; time.sleep(1); raise SystemExit('address already in use')"

    with (
        answering(SimpleHTTPRequestHandler) as address,
        pytest.raises(RuntimeError, match="failed to start: address already in use"),
        running([sys.executable, "-c", waits], tmp_path / "log", f"{address}/"),
    ):
        pass


def test_commands_of_one_state_folder_share_a_server_that_ends_with_the_last(tmp_path):
    command = (sys.executable, "-m", "http.server", "--bind", "127.0.0.1")
    port = free_port()
    service = Service("web", (*command, str(port)), str(tmp_path / "log"), f"http://127.0.0.1:{port}/")

    with kept(tmp_path, [service], "first") as address:
        with kept(tmp_path, [replace(service, name="another")], "second") as same:
            assert (address, same) == ("first", "first")
            (server,) = [one for one in marked(KEPT, str(tmp_path)) if "http.server" in command_of(one)]
        assert server.is_running()

    wait_for(lambda: not marked(KEPT, str(tmp_path)), "the end of the server")


def stopped(process: psutil.Process) -> psutil.Process:
    """A process that somebody has stopped, as Ctrl-Z or `kill -STOP` does."""
    process.suspend()
    wait_for(lambda: process.status() == psutil.STATUS_STOPPED, "its stop")
    return process


def test_a_stopped_keeper_ends_its_services_all_the_same(tmp_path):
    waits = Service("waits", (sys.executable, "-c", "import time; time.sleep(600)"), str(tmp_path / "log"))

    with kept(tmp_path, [waits], "address"):
        keeper = running_in(tmp_path)
        assert keeper and keeper.process
        stopped(keeper.process)

    wait_for(lambda: not marked(KEPT, str(tmp_path)), "the end of its service")


@pytest.mark.slow
def test_a_service_that_lives_without_listening_is_restarted(tmp_path):
    """It would be missing until somebody restarts `serve`: its process has not ended, so nothing else would notice."""
    port = free_port()
    address = f"http://127.0.0.1:{port}"
    stop_listening = tmp_path / "stop"
    command = (sys.executable, "-c", STOPS_LISTENING, str(port), str(stop_listening))
    service = Service("deaf", command, str(tmp_path / "log"), address, start_s=5.0)

    with kept(tmp_path, [service], address):
        (first,) = [one for one in marked(KEPT, str(tmp_path)) if STOPS_LISTENING in command_of(one)]
        stop_listening.touch()

        wait_for(lambda: not first.is_running(), "the end of the one that does not listen", within_s=60)
        wait_for(lambda: answers(address), "its successor", within_s=60)


@pytest.mark.slow
def test_a_stopped_service_goes_on(tmp_path):
    waits = Service("waits", (sys.executable, "-c", "import time; time.sleep(600)"), str(tmp_path / "log"))

    with kept(tmp_path, [waits], "address"):
        (one,) = [
            one for one in marked(KEPT, str(tmp_path)) if "import time; time.sleep(600)" in command_of(one)
        ]
        stopped(one)

        wait_for(lambda: one.status() != psutil.STATUS_STOPPED, "its waking")
        assert one.is_running()


def test_a_command_ends_whose_watchdog_is_stopped():
    with watched():
        children = [one for one in psutil.Process().children() if one.status() != psutil.STATUS_ZOMBIE]
        (watchdog,) = [one for one in children if "flows.services.watchdog" in command_of(one)]
        stopped(watchdog)

    assert not watchdog.is_running()


def test_two_commands_that_begin_at_once_start_one_server(tmp_path):
    code = (
        "import sys\nfrom pathlib import Path\nfrom flows.services.servers import prefect_api\n"
        "with prefect_api(Path(sys.argv[1])) as address:\n print(address, flush=True)\n sys.stdin.read()\n"
        " from prefect import get_client\n with get_client(sync_client=True) as client:\n  client.read_flows()\n"
    )
    given = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    given["PREFECT_API_KEY"] = "of somebody else's server"  # which would go before our login
    command = [sys.executable, "-c", code, str(tmp_path)]
    both = [
        subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=given, cwd=REPOSITORY
        )
        for _ in range(2)
    ]

    addresses = [one.stdout.readline() for one in both if one.stdout]
    servers = [one for one in marked(KEPT, str(tmp_path / "prefect")) if "server" in command_of(one)]
    for one in both:
        one.communicate("")

    assert len(set(addresses)) == len(servers) == 1
    assert [one.returncode for one in both] == [0, 0]
    wait_for(lambda: not marked(KEPT, str(tmp_path / "prefect")), "the end of the server")


def test_a_copy_of_a_folder_whose_services_run_has_none_that_run(tmp_path):
    """As a backup has it, of a root that is served."""
    service = Service("web", (sys.executable, "-c", "import time; time.sleep(600)"), str(tmp_path / "log"))
    folder = tmp_path / "served"

    with kept(folder, [service], "address"):
        shutil.copytree(folder, tmp_path / "copy")

        assert running_in(folder) is not None
        assert running_in(tmp_path / "copy") is None


def test_what_a_killed_keeper_left_is_ended_by_the_next_start(tmp_path):
    command = (sys.executable, "-m", "http.server", "--bind", "127.0.0.1")
    port = free_port()
    service = Service("web", (*command, str(port)), str(tmp_path / "log"), f"http://127.0.0.1:{port}/")
    orphan = subprocess.Popen(
        [sys.executable, "-c", "import time; time.sleep(600)"], env={**os.environ, KEPT: str(tmp_path)}
    )

    with kept(tmp_path, [service], "address"):
        assert not psutil.pid_exists(orphan.pid)
        orphan.wait()


@pytest.mark.parametrize("name", ["environment", "profile"])
def test_a_server_of_the_users_comes_first_and_must_answer(tmp_path, monkeypatch, name):
    address = f"http://127.0.0.1:{free_port()}/api"
    profiles = tmp_path / "profiles.toml"
    profiles.write_text(f'active = "mine"\n[profiles.mine]\nPREFECT_API_URL = "{address}"\n')
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    if name == "environment":
        monkeypatch.setenv("PREFECT_API_URL", address)
    else:
        monkeypatch.setenv("PREFECT_PROFILES_PATH", str(profiles))

    assert given_api() == address
    with pytest.raises(RuntimeError, match=f"{address} does not answer"), prefect_api(tmp_path / "state"):
        pass
    assert not (tmp_path / "state").exists()


def test_without_a_profile_no_server_is_given(tmp_path, monkeypatch):
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path))

    assert given_api() is None


def test_our_server_deletes_old_runs_and_events(prefect_server):
    """By default Prefect keeps every run for ever."""
    vacuum = settings_of(prefect_server)["services"]["db_vacuum"]

    assert set(vacuum["enabled"]) == {"events", "flow_runs"}
    assert vacuum["retention_period"] == "P90D"
    assert vacuum["event_retention_overrides"] == {"prefect.flow-run.heartbeat": "P1D"}


def test_our_server_keeps_leases_in_files(prefect_server):
    """In memory they would be lost with it, and each run that renews one would be ended."""
    leases = settings_of(prefect_server)["concurrency"]["lease_storage"]

    assert leases == "prefect.server.concurrency.lease_storage.filesystem"


def settings_of(address: str) -> dict:
    """What a server of ours says of its own settings."""
    user, _, password = os.environ["PREFECT_API_AUTH_STRING"].partition(":")
    login = base64.b64encode(f"{user}:{password}".encode()).decode()
    request = urllib.request.Request(f"{address}/admin/settings", headers={"Authorization": f"Basic {login}"})

    with urllib.request.urlopen(request) as answer:
        return json.load(answer)["server"]
