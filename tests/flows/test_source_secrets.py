"""No secret of a source stands anywhere under root and state but in one file that only this account can read."""

import os
import stat
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import timecode
from real_servers import hosting
from timecode import Recipe

from schemas.manifest import read_manifest
from tasks.transport.templates import FILE

LOGIN = "me:s3cr3tLogin"
TOKEN = "s3cr3tToken"
PLACE = "s3cr3tPlace"
SECRETS = (LOGIN.partition(":")[2], TOKEN, PLACE)


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """(root, state, outputs, host) of builds by a template with secrets, with a server of our own."""
    folder = tmp_path_factory.mktemp("secrets")
    clip = timecode.write(folder / "clip.mp4", Recipe(seconds=2, frame_rate=10))
    (folder / "page.html").write_text("<html><title>no media</title></html>")
    ids = ("there", "page", "gone")
    (folder / "list.csv").write_text("".join(f'{one}, 0.000, 2.000, "/m/1"\n' for one in ids))
    root = folder / "root"
    state = folder / "state"
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}

    def run(verb: str, *options: str) -> str:
        command = [Path(sys.executable).parent / "mcgurk", verb, "--root", root, *options]
        given = {**environment, "PLACE": PLACE}
        done = subprocess.run(command, env=given, capture_output=True, text=True, timeout=180)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr

    with hosting({"there": clip, "page": folder / "page.html"}) as host:
        at = host.address.removeprefix("http://")
        source = f"http://{LOGIN}@{at}/{{video_id}}.{{env:PLACE}}.mp4?token={TOKEN}&again={{video_id}}"
        asked = ("--state", str(state), "--segments", str(folder / "list.csv"), "--source", source)
        outputs = [run("plan", *asked), run("build", *asked, "--compute", "threads")]
        outputs += [run("plan"), run("build", "--from", "download", "--compute", "threads"), run("status")]
        yield root, state, outputs, host


def test_a_template_with_secrets_fetches_by_them(built):
    root, _, outputs, host = built

    assert f"/there.{PLACE}.mp4?token={TOKEN}&again=there" in host.knocked
    outcomes = {row["video_id"]: (row["outcome"], row["reason"]) for _, row in read_manifest(root / "clips")}
    assert outcomes == {"there": ("ok", ""), "page": ("waiting", "not_media"), "gone": ("waiting", "removed")}
    assert "@{kept:login}" not in outputs[2] and "http://{kept:login}@" in outputs[2]
    assert "?token={kept:token}&again={video_id}" in outputs[2]


def test_no_output_tells_a_secret(built):
    for output in built[2]:
        assert not [secret for secret in SECRETS if secret in output]


def test_no_file_holds_a_secret_but_the_one_that_is_ours_alone(built):
    root, state, *_ = built
    files = [path for folder in (root, state) for path in folder.rglob("*") if path.is_file()]

    holding = {path for path in files if any(secret in text_of(path) for secret in SECRETS)}

    assert holding == {state / FILE}
    assert stat.S_IMODE((state / FILE).stat().st_mode) == 0o600
    assert PLACE not in (state / FILE).read_text()
    assert {".db", ".parquet", ".json", ".jsonl", ".log", ".html"} <= {path.suffix for path in files}


def text_of(path: Path) -> str:
    """All that a file says: Parquet as its rows, because its pages are compressed."""
    if path.suffix == ".parquet":
        table = pq.read_table(path)
        return f"{table.schema.metadata} {table.to_pylist()}"
    return path.read_bytes().decode("latin-1")
