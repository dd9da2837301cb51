"""Runs whose process is gone are reported, those of others are left alone, and what is done counts as done."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from uuid import UUID, uuid4

import httpx
import psutil
import pytest
from real_servers import REPOSITORY, Api, wait_for

from flows.services.servers import prefect_api
from schemas.identity import Identity

WORKS = """
import sys, time
from pathlib import Path
from prefect import flow
from flows.services.runs import noted_run
@flow(name="works", persist_result=False)
def works():
    with noted_run(Path(sys.argv[1])):
        time.sleep(600)
works()
"""


@contextmanager
def at_work(state: Path) -> Iterator[tuple[subprocess.Popen, UUID]]:
    """A process in the middle of a flow run, and the run's id."""
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    process = subprocess.Popen([sys.executable, "-c", WORKS, str(state)], env=environment)
    try:
        (note,) = wait_for(lambda: list((state / "runs").glob("*.json")), "a run")
        yield process, UUID(note.stem)
    finally:
        process.kill()
        process.wait()


def state_of(run_id: UUID) -> tuple[str, str]:
    from prefect import get_client

    with get_client(sync_client=True) as client:
        state = client.read_flow_run(run_id).state
    assert state is not None
    return state.name or "", state.message or ""


def test_a_run_whose_process_was_killed_is_crashed_and_a_live_one_is_not(prefect_server, tmp_path):
    from flows.services.runs import report_dead

    with at_work(tmp_path) as (process, run_id):
        assert report_dead(tmp_path) == []
        assert state_of(run_id)[0] == "Running"
        process.kill()
        process.wait()

        assert len(report_dead(tmp_path)) == 1

    name, message = state_of(run_id)
    assert name == "Crashed" and f"process {process.pid} on " in message
    assert not list((tmp_path / "runs").iterdir())


def test_a_stopped_process_is_alive_until_its_run_is_declared_dead_and_then_ended(prefect_server, tmp_path):
    from prefect import get_client
    from prefect.states import Crashed

    from flows.services.runs import take_over

    with at_work(tmp_path) as (process, run_id):
        process.send_signal(signal.SIGSTOP)
        take_over(tmp_path)
        assert psutil.Process(process.pid).status() == psutil.STATUS_STOPPED
        with get_client(sync_client=True) as client:
            client.set_flow_run_state(run_id, Crashed(message="No sign of life"))

        take_over(tmp_path)

        assert process.wait(10) in (0, -signal.SIGKILL)  # 0 where somebody has waited for it already
        assert not psutil.pid_exists(process.pid)


def test_a_run_that_was_declared_dead_and_is_at_work_is_left_at_work_and_said_to_run(
    prefect_server, tmp_path
):
    from prefect import get_client
    from prefect.states import Crashed

    from flows.services.runs import take_over

    with at_work(tmp_path) as (process, run_id):
        with get_client(sync_client=True) as client:
            client.set_flow_run_state(run_id, Crashed(message="No sign of life, by a clock that has jumped"))

        take_over(tmp_path)

        assert process.poll() is None
        assert state_of(run_id) == ("Running", f"process {process.pid} is alive")


@pytest.mark.parametrize("change", ["host", "another process"])
def test_a_note_of_another_machine_or_another_server_harms_nobody(prefect_server, tmp_path, change):
    from flows.services.runs import report_dead

    own = Identity.own()
    noted = replace(own, host="elsewhere") if change == "host" else replace(own, started=own.started - 1)
    note = tmp_path / "runs" / f"{uuid4()}.json"
    note.parent.mkdir()
    note.write_text(json.dumps({**asdict(noted), "since": "2026-11-29T00:00:00+00:00"}))

    assert report_dead(tmp_path) == []
    assert note.exists() == (change == "host")  # of a run that no server knows, whose process is gone


LOOKS = """
import sys
from pathlib import Path
from flows.services import runs
runs.BEGIN_S = 0.0  # the run began more than a minute ago
print(runs.report_dead(Path(sys.argv[1])))
"""


def test_a_process_does_not_declare_the_run_that_it_executes_dead(tmp_path, monkeypatch):
    """The trainings of a comparison look for dead runs in its process: its own run, without a note, has one."""
    for name in [name for name in os.environ if name.startswith("PREFECT_")]:
        monkeypatch.delenv(name)
    with prefect_api(tmp_path):
        api = Api.of(tmp_path)
        flow = api.ask("/flows/", {"name": "works"})["id"]
        deployment = api.ask("/deployments/", {"name": "weekly", "flow_id": flow})["id"]
        begun = {"state": {"type": "RUNNING"}, "name": "at-work"}
        run = api.ask(f"/deployments/{deployment}/create_flow_run", begun)["id"]

        def dead(**more: str) -> str:
            command = [sys.executable, "-c", LOOKS, str(tmp_path)]
            environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), **more}
            return subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout

        assert dead(PREFECT__FLOW_RUN_ID=run) == "[]\n"
        assert dead() == "['at-work']\n"


def test_the_automation_is_there_once_however_often_it_is_put(prefect_server):
    from prefect.client.orchestration import get_client

    from flows.services.deployments import ZOMBIES, put_automation

    put_automation()
    put_automation()

    with get_client(sync_client=True) as client:
        found = client.request("POST", "/automations/filter", json={}).json()
    (ours,) = [one for one in found if one["name"] == ZOMBIES]
    assert ours["trigger"]["within"] == 540 and "prefect.flow-run.Pending" in ours["trigger"]["after"]


def test_what_is_done_counts_as_done_though_the_server_is_lost(prefect_server, caplog):
    from flows.services.runs import outcome_of, record_result

    def works() -> str:
        record_result("digest")
        raise httpx.ConnectError("refused")

    assert outcome_of(works) == "digest"
    assert "finished, but" in caplog.text


def test_a_server_that_is_lost_before_the_end_is_named(prefect_server):
    from flows.services.runs import outcome_of

    def works() -> str:
        raise httpx.ConnectError("refused")

    with pytest.raises(RuntimeError, match="Prefect's server is lost: refused"):
        outcome_of(works)


def test_half_a_note_of_a_process_that_is_gone_is_removed_and_of_a_live_one_kept(prefect_server, tmp_path):
    from flows.services.runs import report_dead

    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    folder = tmp_path / "runs"
    folder.mkdir()
    halves = [folder / f".{uuid4()}.json.{pid}.0123abcd.tmp" for pid in (gone.pid, os.getpid())]
    for half in halves:
        half.write_text("{")

    report_dead(tmp_path)

    assert [half.exists() for half in halves] == [False, True]
