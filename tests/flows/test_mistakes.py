"""A mistake is one sentence, before anything starts; what stopped a run is one too, and its trace is in the log."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from real_servers import run_mcgurk
from roots import write_clips

from flows.builds.checks import checked
from flows.builds.options import BuildOptions
from flows.commands.cli import main
from flows.commands.logs import LOG
from flows.services.servers import free_port
from schemas.errors import RequestError
from schemas.storage import naming

SENTENCES = {
    ("--parts", "abc"): "--parts abc: write numbers and ranges as 3,7-9",
    ("--parts", "0,7"): "--parts 0,7: ",  # the root has one part
    ("--window", "0"): "--window 0: it must be a length in seconds above 0",
    ("--compute", "gpu"): "--compute gpu: use threads, local or the address of a scheduler (tcp://host:8786)",
    (
        "--compute",
        "tcp://host",
    ): "--compute tcp://host: use threads, local or the address of a scheduler (tcp://host:8786)",
    ("--preset", "large"): "unknown preset 'large': use one of",
    ("--from", "shard"): "unknown stage 'shard': use one of",
    (
        "--from",
        "pack",
        "--refetch",
    ): "--refetch: --from pack begins after the download, which would fetch them",
}


@pytest.fixture
def build(tmp_path):
    """Runs `build` on two clips as a user would who has no server: (root, run)."""
    (path,) = write_clips(tmp_path / "videos", ["one", "two"])
    root = tmp_path / "my root"
    source = f"folder:{tmp_path}/videos"

    def run(*options: str) -> subprocess.CompletedProcess:
        command = [Path(sys.executable).parent / "mcgurk", "build", "--root", root, "--segments", path]
        environment = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
        asked = [*command, "--source", source, *options]
        return subprocess.run(asked, env=environment, capture_output=True, text=True, timeout=120)

    return root, run


@pytest.fixture
def one_video(tmp_path) -> list[str]:
    """The options of a root of one video."""
    (path,) = write_clips(tmp_path / "videos", ["one"])
    return ["--root", f"{tmp_path}/root", "--segments", str(path), "--source", f"folder:{tmp_path}/videos"]


@pytest.mark.parametrize("options", SENTENCES, ids=" ".join)
def test_a_mistake_is_one_sentence_before_anything_starts(options, one_video, tmp_path, mcgurk):
    told = mcgurk("build", *one_video, *options, code=2)

    assert told.splitlines()[-1].startswith(f"mcgurk build: {SENTENCES[options]}")
    assert "Traceback" not in told
    assert not (tmp_path / "root").exists()


@pytest.mark.parametrize("options", [("--parts", "abc"), ("--parts", "0,7"), ("--window", "0")], ids=" ".join)
def test_what_a_build_refuses_is_refused_by_its_plan_too(options, one_video, mcgurk):
    for more in ((), ("--json",)):
        told = mcgurk("plan", *one_video, *options, *more, code=2)

        assert told.splitlines()[-1].startswith(f"mcgurk plan: {SENTENCES[options]}")


def test_a_part_that_is_not_there_is_named_with_those_that_are(one_video, tmp_path, mcgurk):
    assert f"{tmp_path}/root has no part 7: its parts are 0 to 0" in mcgurk(
        "plan", *one_video, "--parts", "0,7", code=2
    )


def test_a_deployed_run_refuses_it_too(one_video, tmp_path):
    _, root, _, segments, _, source = one_video

    with pytest.raises(RequestError, match="has no part 7: its parts are 0 to 0"):
        checked(BuildOptions(root, segments=(segments,), source=source, parts="0,7"))
    assert not (tmp_path / "root").exists()


@pytest.mark.parametrize(
    ("verb", "option", "place"),
    [
        ("build", "--root", "file/root"),
        ("demo", "--root", "file"),
        ("build", "--state", "link"),
        ("serve", "--state", "file"),
    ],
)
def test_a_place_that_is_no_folder_is_told_before_anything_starts(verb, option, place, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    (tmp_path / "link").symlink_to("nowhere")
    (tmp_path / "root").mkdir()
    others = {"--root": str(tmp_path / "root")} | ({"--preset": "tiny"} if verb == "build" else {})
    asked = {**others, option: str(tmp_path / place)}

    code = main([verb, *(word for pair in asked.items() for word in pair)])

    assert code == 2
    told = capsys.readouterr().err.splitlines()[-1]
    first = tmp_path / place.partition("/")[0]
    assert told == f"mcgurk {verb}: {option} {tmp_path / place}: {first} is not a folder: name another place"
    assert list((tmp_path / "root").iterdir()) == []


def test_a_scheduler_that_does_not_answer_is_found_before_anything_starts(build):
    root, run = build
    address = f"tcp://127.0.0.1:{free_port()}"

    done = run("--compute", address)

    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith(
        f"mcgurk build: stopped: --compute {address}: no scheduler answers"
    )
    assert "Traceback" not in done.stderr
    assert not (root / "segments").exists()


def test_what_stops_a_run_is_one_sentence_and_its_trace_is_in_the_log(build):
    root, run = build
    attempts = root / "state" / "attempts"
    attempts.mkdir(parents=True)
    (attempts / "000000.jsonl").symlink_to("/dev/full")  # as a full disk answers

    done = run("--compute", "threads")

    assert done.returncode == 1
    assert "Traceback" not in done.stderr and "ERROR" not in done.stderr, done.stderr
    trace, sentence = done.stderr.splitlines()[-2:]
    log = root / "state" / "logs" / LOG
    assert trace == f"trace: {log}"
    assert sentence.startswith(f"mcgurk build: stopped: the disk of {attempts}/000000.jsonl is full: ")
    assert ", and the 2 segments that have no sample yet need about 3 MB. Make room, or move root" in sentence
    assert "OSError: [Errno 28] No space left on device" in log.read_text()
    assert "ERROR prefect" in log.read_text()

    (attempts / "000000.jsonl").unlink()
    done = run("--compute", "threads")
    assert done.returncode == 0, done.stderr
    assert f"\ncard {root}/versions/" in done.stdout


def test_a_build_with_nothing_to_do_starts_no_server_and_no_cluster(build):
    root, run = build
    assert run("--compute", "threads").returncode == 0
    log = root / "state" / "logs" / "prefect.log"
    before = log.stat()

    done = run()

    assert done.returncode == 0, done.stderr
    assert "nothing to do" in done.stdout and f"\ncard {root}/versions/" in done.stdout
    assert log.stat() == before and not done.stderr, "neither server nor cluster has said anything"


def test_a_mistake_on_a_root_that_is_there_leaves_its_trace_in_the_log(tmp_path, prefect_server):
    state = tmp_path / "state"
    state.mkdir()

    told = run_mcgurk("build", "--root", str(tmp_path), code=2)

    assert "has no segments yet: name a list with --segments" in told and "Traceback" not in told
    log = (state / "logs" / LOG).read_text()
    assert f"mcgurk build --root {tmp_path}\nTraceback" in log and "RequestError: " in log


def test_an_error_of_writing_names_the_file(tmp_path):
    with (
        pytest.raises(OSError, match="No space left") as told,
        naming(tmp_path / "part"),
        Path("/dev/full").open("w") as file,
    ):
        file.write("x")
        file.flush()

    assert told.value.filename == str(tmp_path / "part")
