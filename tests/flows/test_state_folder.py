"""Where a state folder may lie; and reading a root needs no right to write in it."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import avc_fixtures as shards
import pytest
from roots import write_clips

from flows.services.servers import free_port
from schemas import mounts
from schemas.identity import account

MCGURK = str(Path(sys.executable).with_name("mcgurk"))


def on_nfs(folder: Path, *arguments: str) -> subprocess.CompletedProcess:
    """A command for which the kernel's list says that `folder` is mounted from another machine."""
    text = (
        mounts.MOUNTS.read_text() + f"900 27 0:90 / {folder} rw,relatime - nfs4 filer:/export rw,vers=4.2\n"
    )
    (folder / "mountinfo").write_text(text)
    as_if = 'mount --bind "$0" /proc/$$/mountinfo && exec "$@"'
    return subprocess.run(
        ["unshare", "-rm", "sh", "-c", as_if, str(folder / "mountinfo"), MCGURK, *arguments],
        capture_output=True,
        text=True,
        timeout=120,
    )


@pytest.fixture
def own_mounts() -> None:
    """The right to mounts of one's own."""
    if subprocess.run(["unshare", "-rm", "true"], capture_output=True, check=False).returncode:
        pytest.skip("no right to mounts of one's own (unshare -rm)")


@pytest.mark.usefixtures("own_mounts")
def test_a_state_folder_on_a_network_file_system_is_refused_with_the_remedy(tmp_path):
    root = tmp_path / "root"
    root.mkdir()

    for verb in (("build", "--preset", "demo", "--source", "studio"), ("serve",)):
        done = on_nfs(tmp_path, *verb, "--root", str(root))
        assert done.returncode == 2, done.stderr
        assert f"mcgurk {verb[0]}: the state folder {root / 'state'} is on a network file system (nfs4)" in (
            done.stderr
        )
        assert "--state DIR" in done.stderr and "Traceback" not in done.stderr
        assert list(root.iterdir()) == []
    done = on_nfs(tmp_path, "doctor", "--state", str(root / "state"))
    assert done.returncode == 1
    assert "on a network file system (nfs4)" in done.stdout and "with --state" in done.stdout


@pytest.mark.usefixtures("own_mounts")
def test_a_state_folder_beside_a_network_file_system_will_do(tmp_path):
    (tmp_path / "nfs").mkdir()

    done = on_nfs(tmp_path / "nfs", "doctor", "--state", str(tmp_path / "state"))

    assert "ok     state folder" in done.stdout and "network" not in done.stdout


# The superuser may write anywhere: without these two rights, bits of permission bind it as anybody else.
BOUND = ("setpriv", "--bounding-set", "-dac_override,-dac_read_search", "--inh-caps", "-all")


def reading(*arguments: str, **environment: str) -> str:
    """What a command prints that may write only where bits of permission let it."""
    given = {
        name: value for name, value in os.environ.items() if not name.startswith(("PREFECT_", "MLFLOW_"))
    }
    prefix = BOUND if os.geteuid() == 0 else ()
    done = subprocess.run(
        [*prefix, MCGURK, *arguments],
        env={**given, **environment},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout + done.stderr


@contextmanager
def shown(root: Path) -> Iterator[set[Path]]:
    """Inside the block nobody may write under a root; what lies there must be the same after it."""
    there = {path for path in root.rglob("*")}
    folders = [root, *(path for path in there if path.is_dir())]
    for path in there - set(folders):
        path.chmod(0o444)
    for folder in folders:
        folder.chmod(0o555)
    try:
        yield there
    finally:
        for folder in folders:
            folder.chmod(0o755)
    assert {path for path in root.rglob("*")} == there


def test_reading_a_root_needs_no_right_to_write_there(tmp_path, mcgurk):
    root = tmp_path / "root"
    (listed,) = write_clips(tmp_path / "media", ["first", "second"])
    (tmp_path / "media" / "second.mp4").unlink()
    source = ("--source", f"folder:{tmp_path / 'media'}", "--segments", str(listed))
    mcgurk("build", "--root", str(root), "--preset", "demo", *source)

    with shown(root):
        assert json.loads(reading("status", "--root", str(root), "--json"))["in_shards"] == 1
        assert "nothing to do" in reading("plan", "--root", str(root))
        assert "every byte matches what was recorded" in reading("verify", "--root", str(root))
        (failure,) = json.loads(reading("failures", "--root", str(root), "--json"))
    assert failure["key"] == "second_0_2000"


def test_who_may_not_write_where_a_command_must_is_told_the_place_and_the_remedy(tmp_path):
    root = tmp_path / "root"
    (root / "state").mkdir(parents=True)
    with shown(root):
        prefix = BOUND if os.geteuid() == 0 else ()
        given = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
        # Where another server has a usual port, a line more says so.
        free = ("--port", str(free_port()), "--mlflow-port", str(free_port()))
        done = subprocess.run(
            [*prefix, MCGURK, "serve", "--root", str(root), *free],
            env=given,
            capture_output=True,
            text=True,
            check=False,
        )

    assert done.returncode == 1
    (sentence,) = done.stderr.splitlines()
    assert sentence.startswith(f"mcgurk serve: stopped: {root}/state/")
    assert f"Permission denied: give the account {account()} the right to it" in sentence
    assert sentence.endswith(", or name another state folder by --state")


def test_an_account_without_a_name_has_its_number(monkeypatch):
    for name in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("os.getuid", lambda: 4_000_123)

    assert account() == "4000123"


@pytest.mark.slow
def test_a_training_with_a_state_of_its_own_needs_no_right_to_write_under_the_root(tmp_path):
    root = tmp_path / "root"
    shards.write_dataset(root, shards.corresponding({"train": 12, "val": 6, "eval": 12}, num_kinds=3))
    state = tmp_path / "own"

    with shown(root):
        asked = ("--root", str(root), "--preset", "demo", "--state", str(state), "--set", "steps=2")
        told = reading("train", *asked)

    (report,) = state.glob("reports/*/report.html")
    assert f"report  {report}" in told and (state / "mlruns" / "mlflow.db").is_file()
