"""Alarms, by real servers and a loopback receiver: one when something begins to fail, and one when it works again."""

import json
import os
import re
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import avc_fixtures as shards
import pytest
from mlflow import MlflowClient
from real_servers import (
    REPOSITORY,
    Api,
    Host,
    answering,
    kept_processes,
    serving,
    started,
    text_of,
    wait_for,
)

from flows.commands.cli import main
from flows.run_experiment import REGISTERED
from flows.services.servers import addresses_of, free_port
from training.tracking.registry import CHAMPION

SILENT = "mcgurk: the canary is silent"
NOWHERE = "folder:/no/such/folder"  # with it a build fails
IDS = [f"clip{n:02d}" for n in range(6)]
FINAL = ("Completed", "Failed", "Crashed")
TOKEN = "s3cr3t-t0ken-of-the-receiver"  # in the URL, as such services have it
PING_TOKEN = "s3cr3t-t0ken-of-the-ping"
CLOSED = {"closed_until_s": 4e9, "why": "bot_check", "breaks": 1}


@dataclass
class Receiver:
    """What came to a loopback address: alarms, in order, and the number of pings."""

    address: str = ""
    alarms: list[dict] = field(default_factory=list)
    pings: int = 0
    status: int = 200

    @property
    def subjects(self) -> list[str]:
        return [one["title"].removeprefix("mcgurk: ") for one in self.alarms]


class _Handler(BaseHTTPRequestHandler):
    def __init__(self, receiver: Receiver, *arguments) -> None:
        self.receiver = receiver
        super().__init__(*arguments)

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.path.endswith(TOKEN) and self.receiver.status == 200:
            self.receiver.alarms.append(body)
        self._answer(self.receiver.status)

    def do_GET(self) -> None:
        self.receiver.pings += self.path.endswith(PING_TOKEN)
        self._answer(500)  # which harms nothing

    def _answer(self, status: int) -> None:
        self.send_response(status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *arguments) -> None:
        pass


@pytest.fixture(scope="module")
def receiver() -> Iterator[Receiver]:
    one = Receiver()
    with answering(partial(_Handler, one)) as one.address, pytest.MonkeyPatch.context() as patch:
        patch.setenv("MCGURK_TEST_ALARMS", f"{one.address}/{TOKEN}".replace("http://", "json://"))
        patch.setenv("MCGURK_TEST_PING", f"{one.address}/{PING_TOKEN}")
        yield one


@dataclass
class Builds:
    """Builds of a root by its deployment."""

    root: Path
    list: Path
    host: Host

    def begin(self, api: Api, **others) -> str:
        asked = {"root": str(self.root), "preset": "small", "segments": [str(self.list)]}
        asked |= {"source": f"{self.host.address}/{{video_id}}", **others}
        return api.begin("hourly", {"options": asked})

    def end(self, api: Api, **others) -> str:
        """The name of the state in which a build ends."""
        run = self.begin(api, **others)
        return wait_for(lambda: (name := api.state_of(run)[0]) in FINAL and name, "the build")

    def await_ping(self, api: Api, receiver: Receiver, count: int) -> None:
        """Builds once more if none comes: Prefect drops an event that it can't write to SQLite within a minute."""
        for _ in range(2):
            with suppress(AssertionError):
                wait_for(lambda: receiver.pings >= count, "the ping", within_s=90)
                return
            assert self.end(api) == "Completed"
        wait_for(lambda: receiver.pings >= count, "the ping")

    def kill(self, api: Api) -> None:
        """Begins a build, and kills its process while it waits for the host."""
        self.host.gate.clear()
        before = self.host.knocked.total()
        run = self.begin(api)
        wait_for(lambda: self.host.knocked.total() > before, "a download")
        note = json.loads((self.root / "state" / "runs" / f"{run}.json").read_text())
        os.kill(note["pid"], signal.SIGKILL)
        self.host.gate.set()
        wait_for(lambda: api.state_of(run)[0] == "Crashed", "its crash")


def keep_lane(root: Path, **state) -> None:
    """A lane beside the one that the build uses."""
    folder = root / "state" / "lanes"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "other.json").write_text(json.dumps(state))


@contextmanager
def alarming(root: Path, output: Path) -> Iterator[Api]:
    named = ("--notify", "env:MCGURK_TEST_ALARMS", "--ping", "env:MCGURK_TEST_PING")
    with serving(root, output, *named, *ports()) as (_, api):
        yield api


def ports() -> tuple[str, ...]:
    return "--port", str(free_port()), "--mlflow-port", str(free_port())


@pytest.mark.slow
def test_each_alarm_comes_once_when_it_begins_and_once_when_it_ends(receiver, host, tmp_path):
    """A crash by kill -9, failures, a restart of all servers, a gate, and a lane: told in order, and no more."""
    builds = Builds(tmp_path / "root", *host)
    with alarming(builds.root, tmp_path / "first") as api:
        builds.kill(api)
        wait_for(lambda: receiver.subjects == ["build-dataset/hourly fails"], "the first alarm")
        assert builds.end(api, source=NOWHERE) == "Failed"
    crashed = receiver.alarms[0]["message"]
    assert "is Crashed" in crashed and "Evidence: " in crashed and f"--root {builds.root}" in crashed
    assert "/runs/flow-run/" in crashed or "/flow-runs/flow-run/" in crashed, crashed

    # Nothing is named this time: what was set stays, and what was told is not told again.
    with serving(builds.root, tmp_path / "second", *ports()) as (_, api):
        assert builds.end(api, source=NOWHERE) == "Failed"
        keep_lane(builds.root, **CLOSED)
        assert builds.end(api) == "Completed"
        told = ["build-dataset/hourly fails", "lane other fails", "build-dataset/hourly works again"]
        wait_for(lambda: sorted(receiver.subjects[1:]) == sorted(told[1:]), "what changed")
        builds.await_ping(api, receiver, 1)
        keep_lane(builds.root, witness_s=time.time() + 60)
        nowhere = tmp_path / "nowhere"
        nowhere.mkdir()
        asked = {"root": str(tmp_path / "empty"), "source": f"folder:{nowhere}"}
        assert builds.end(api, **asked) == "Failed"
        wait_for(lambda: len(receiver.alarms) == 4, "the alarm of the gate")
        assert receiver.subjects[3] == "build-dataset/hourly fails"
        assert "publish: no sample, so no version" in receiver.alarms[3]["message"]
        assert builds.end(api) == "Completed"
        wait_for(lambda: len(receiver.alarms) == 6, "what works again")
        assert sorted(receiver.subjects[4:]) == ["build-dataset/hourly works again", "lane other works again"]
        builds.await_ping(api, receiver, 2)

        receiver.status = 500
        try:
            assert builds.end(api, source=NOWHERE) == "Failed"
            log = builds.root / "state" / "logs" / "prefect.log"
            wait_for(lambda: "Notification failed" in text_of(log), "a line about the alarm that was lost")
            assert builds.end(api) == "Completed"
        finally:
            receiver.status = 200
        seen = [
            api.ask(f"/{kind}/filter", {})
            for kind in ("flow_runs", "deployments", "artifacts", "automations")
        ]

    assert TOKEN not in json.dumps(seen) and PING_TOKEN not in json.dumps(seen)
    wait_for(lambda: not kept_processes(builds.root), "the end of its servers")
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    holders = [
        path for path in files if any(one.encode() in path.read_bytes() for one in (TOKEN, PING_TOKEN))
    ]
    assert holders == []


@pytest.mark.slow
def test_a_canary_that_is_silent_is_told_once_and_once_more_when_it_works_again(receiver, tmp_path):
    """The alarm as it is registered waits 2 hours: it is looked at, then shortened to what the server allows at least.

    Nothing else is changed: runs of the deployment as it is shipped, and the server's own clock.
    """
    receiver.alarms.clear()
    with alarming(tmp_path / "root", tmp_path / "output") as api:
        silent = next(one for one in api.ask("/automations/filter", {}) if one["name"] == SILENT)
        assert silent["trigger"]["within"] == 7200.0 and silent["trigger"]["posture"] == "Proactive"
        assert silent["enabled"]
        silent["trigger"]["within"] = 10
        kept = {name: silent[name] for name in ("name", "description", "enabled", "trigger", "actions")}
        api.send("PUT", f"/automations/{silent['id']}", kept)

        assert canary_ends(api) == "Completed"
        wait_for(lambda: receiver.subjects == ["the canary is silent"], "the alarm")
        assert canary_ends(api) == "Completed"

        wait_for(lambda: len(receiver.subjects) > 1, "what works again")
        assert receiver.subjects[1] == "the canary works again"


def canary_ends(api: Api) -> str:
    run = api.begin("canary/hourly")
    return wait_for(lambda: (name := api.state_of(run)[0]) in FINAL and name, "the canary")


@pytest.mark.slow
def test_a_gate_that_refuses_a_model_is_told_once_and_once_more_when_it_promotes(receiver, tmp_path):
    """The same training, again and again: it does not beat its twin. Who has no champion any more gets one."""
    receiver.alarms.clear()
    root = tmp_path / "root"
    shards.write_dataset(root, shards.corresponding({"train": 8, "val": 4, "eval": 12}, num_kinds=3))
    asked = {"options": {"root": str(root), "preset": "tiny", "steps": 2}}

    def train(api: Api) -> str:
        run = api.begin("on-new-version", asked)
        return wait_for(lambda: (name := api.state_of(run)[0]) in FINAL and name, "the training")

    with alarming(root, tmp_path / "output") as api:
        assert [train(api) for _ in range(3)] == ["Completed"] * 3
        wait_for(lambda: receiver.subjects == ["promotion to champion fails"], "the alarm")
        refused = receiver.alarms[0]["message"]
        assert "Evidence: not promoted: " in refused and "does not beat the champion's" in refused
        (report,) = re.findall(r"\((/.+?)\)", refused)
        assert Path(report).is_file() and f"--root {root}" in refused

        address = addresses_of(root / "state")["MLflow"]
        mlflow = MlflowClient(
            address, address
        )  # by default the registry is that of the last test in this process
        mlflow.delete_registered_model_alias(REGISTERED, CHAMPION)
        assert train(api) == "Completed"
        wait_for(lambda: len(receiver.subjects) > 1, "what works again")
    assert receiver.subjects[1:] == ["promotion to champion works again"]


@pytest.mark.slow
def test_alarms_can_be_taken_away_and_come_from_a_block(receiver, tmp_path):
    receiver.alarms.clear()
    root = tmp_path / "root"
    with alarming(root, tmp_path / "output") as api:
        given = {"PREFECT_API_URL": api.address, "PREFECT_API_AUTH_STRING": api.login}

        def deploy(code: int, *arguments: str) -> str:
            output = tmp_path / "deploy"
            output.unlink(missing_ok=True)
            with started("deploy", "--root", str(root), *arguments, output=output, **given) as process:
                assert process.wait(120) == code, output.read_text()
            return output.read_text()

        def names() -> set[str]:
            return {
                one["name"]
                for one in api.ask("/automations/filter", {})
                if one["name"].startswith("mcgurk: ")
            }

        assert len(names()) == 6
        deploy(0, "--notify", "none", "--ping", "none")
        assert names() == {"mcgurk: crash runs without a sign of life"}
        assert "Prefect has no Secret or notification block nothing" in deploy(2, "--notify", "block:nothing")
        (secret,) = api.ask("/block_types/filter", {"block_types": {"slug": {"any_": ["secret"]}}})
        (schema, *_) = api.ask(
            "/block_schemas/filter", {"block_schemas": {"block_type_id": {"any_": [secret["id"]]}}}
        )
        value = os.environ["MCGURK_TEST_ALARMS"]
        api.ask(
            "/block_documents/",
            {
                "name": "told",
                "data": {"value": value},
                "block_schema_id": schema["id"],
                "block_type_id": secret["id"],
            },
        )
        deploy(0, "--notify", "block:told")
        assert len(names()) == 5
        builds = Builds(root, tmp_path / "nothing.csv", Host("http://127.0.0.1:9"))
        assert builds.end(api) == "Failed"
        wait_for(lambda: receiver.subjects == ["build-dataset/hourly fails"], "the alarm")


def test_every_deployment_is_watched():
    from flows.services.alarms import CANARY, WATCHED

    entrypoints = re.findall(r"entrypoint: flows\.\w+\.(\w+)", (REPOSITORY / "prefect.yaml").read_text())

    assert len(entrypoints) > 1
    assert {name.replace("_", "-") for name in entrypoints} <= {*WATCHED, CANARY}


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (
            ("--notify", f"json://127.0.0.1/{TOKEN}"),
            "--notify takes no URL, because others can read a command line",
        ),
        (("--notify", "env:NOBODY_SET_THIS"), "the environment has no NOBODY_SET_THIS"),
        (
            ("--notify", "env:MCGURK_TEST_PING"),
            "--notify env:MCGURK_TEST_PING: it holds no URL that Apprise",
        ),
        (
            ("--ping", f"ftp://127.0.0.1/{TOKEN}"),
            "--ping takes an address that begins with http:// or https://",
        ),
        (("--ping", "env:NOBODY_SET_THIS"), "the environment has no NOBODY_SET_THIS"),
    ],
)
def test_a_receiver_that_is_none_is_refused_before_anything_starts(
    receiver, tmp_path, capsys, arguments, told
):
    assert main(["serve", "--root", str(tmp_path), *arguments]) == 2

    output = "".join(capsys.readouterr())
    assert told in output
    assert TOKEN not in output and PING_TOKEN not in output
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]
