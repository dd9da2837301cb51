"""What a hostile file does, it does to one media process; it costs that file and nothing else."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, replace
from pathlib import Path
from threading import Thread

import psutil
import pytest
import timecode
from real_servers import REPOSITORY
from small_roots import PROFILE, RECIPE, clip_rows, extract_all, fetch, indexed, key_of, media, passed

from schemas.manifest import read_manifest
from schemas.outcome import ItemError, Outcome
from tasks import extract, features
from tasks.media import sandbox
from tasks.media.probe import Probe
from tasks.media.sandbox import ProcessLimits
from tasks.processes import command_of

NAMES = list(features.of_profile(PROFILE))


def asked(path):
    """The arguments of `extract` for a clip."""
    return {
        "path": str(path),
        "span_s": (0.0, 2.0),
        "is_old": False,
        "profile": asdict(PROFILE),
        "names": NAMES,
    }


@pytest.fixture
def clip(tmp_path):
    return timecode.write(tmp_path / "clip.mp4", RECIPE)


@contextmanager
def endlessly(path: Path) -> Iterator[None]:
    os.mkfifo(path)
    writer = os.open(path, os.O_RDWR)
    try:
        yield
    finally:
        os.close(writer)


@pytest.fixture
def endless(tmp_path):
    """A file that never ends, and never goes on either."""
    path = tmp_path / "endless.mp4"
    with endlessly(path):
        yield path


@pytest.fixture(autouse=True)
def ended() -> Iterator[None]:
    yield
    sandbox.close()


def media_processes() -> list[psutil.Process]:
    children = psutil.Process().children(recursive=True)
    return [child for child in children if "tasks.media.sandbox" in command_of(child)]


def has_opened(process: psutil.Process, path: Path) -> bool:
    with suppress(psutil.NoSuchProcess, OSError):
        return any(link.readlink() == path for link in Path(f"/proc/{process.pid}/fd").iterdir())
    return False


@contextmanager
def killing(number: int, path: Path) -> Iterator[None]:
    """Sends every media process that reads `path` inside the block a signal, as a crash would end it."""
    is_over = []

    def kill() -> None:
        while not is_over:
            for process in media_processes():
                if has_opened(process, path):
                    with suppress(psutil.NoSuchProcess):
                        process.send_signal(number)

    thread = Thread(target=kill)
    thread.start()
    try:
        yield
    finally:
        is_over.append(True)
        thread.join()


def test_a_clip_gives_the_same_in_a_process_of_its_own(clip):
    facts, members = sandbox.call("extract", asked(clip))

    assert (facts, members) == extract.answer_extract(**asked(clip))


def test_a_process_serves_many_calls(clip):
    for _ in range(3):
        sandbox.call("probe", {"path": str(clip)})

    assert len(media_processes()) == 1


def test_a_file_that_crashes_the_decoder_is_quarantined_with_the_evidence(endless):
    with killing(signal.SIGSEGV, endless), pytest.raises(ItemError) as raised:
        sandbox.call("extract", asked(endless))

    assert (raised.value.outcome, raised.value.reason) == (Outcome.QUARANTINED, "decodable")
    assert raised.value.detail == "the media process was killed by SIGSEGV, twice"


def test_a_file_that_hangs_the_decoder_is_given_up_in_time(endless):
    with pytest.raises(ItemError, match="took over 1 s, twice"):
        sandbox.call("extract", asked(endless), ProcessLimits(seconds=1.0))

    assert not media_processes()


CALLER = """
import json, sys
from tasks.media import sandbox
sandbox.call("cut", json.loads(sys.argv[1]))
"""


def test_a_media_process_does_not_outlive_its_caller(endless, tmp_path):
    """As a Dask worker is killed while its media process reads on."""
    facts = asdict(Probe("mov", 0.0, 9.0, video_codec="h264"))
    asked = {"source": str(endless), "facts": facts, "segment_s": (0.0, 2.0), "target": str(tmp_path / "cut")}
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    with subprocess.Popen([sys.executable, "-c", CALLER, json.dumps(asked)], env=environment) as caller:
        while not (found := [p for p in _descendants(caller.pid) if has_opened(p, endless)]):
            assert caller.poll() is None
        caller.kill()
        _, alive = psutil.wait_procs(found, timeout=60)

    assert alive == []


def _descendants(pid: int) -> list[psutil.Process]:
    return psutil.Process(pid).children(recursive=True)


def test_a_file_that_wants_too_much_memory_is_quarantined(tmp_path, monkeypatch):
    monkeypatch.setattr(timecode, "WIDTH", 12 * 640)
    monkeypatch.setattr(timecode, "HEIGHT", 4320)
    vast = timecode.write(tmp_path / "vast.mkv", replace(RECIPE, seconds=0.4, video_codec="mpeg4"))

    with pytest.raises(ItemError) as raised:
        # Time too: without memory some codecs neither end nor fail.
        sandbox.call("extract", asked(vast), ProcessLimits(memory_bytes=500 << 20, seconds=5.0))

    assert raised.value.reason == "decodable"


def test_the_next_clip_is_served_after_a_crash(clip, endless):
    with pytest.raises(ItemError):
        sandbox.call("probe", {"path": str(endless)}, ProcessLimits(seconds=1.0))

    facts, _ = sandbox.call("probe", {"path": str(clip)}, ProcessLimits(seconds=1.0))

    assert facts["video_codec"] == "h264"


def test_a_media_process_has_no_credentials(clip, monkeypatch):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hush")
    monkeypatch.setenv("MCGURK_TOKEN", "hush")

    sandbox.call("probe", {"path": str(clip)})

    (process,) = media_processes()
    assert "hush" not in str(process.environ())
    assert set(process.environ()) <= {*sandbox.PASSED_ON, *sandbox.ONE_THREAD, "PYTHONPATH", "LC_CTYPE"}


def test_a_bug_of_ours_is_no_verdict_on_a_clip(clip):
    with pytest.raises(ItemError) as raised:
        sandbox.call("probe", {"path": str(clip), "colour": 1})

    assert (raised.value.outcome, raised.value.reason) == (Outcome.QUARANTINED, "bug")
    assert (
        "Traceback" in raised.value.detail and "unexpected keyword argument 'colour'" in raised.value.detail
    )


def test_a_poisoned_clip_costs_itself_and_its_part_is_complete(tmp_path):
    ids = ["first", "second", "third"]
    folder = media(tmp_path / "media", {video: RECIPE for video in ids})
    root = indexed(tmp_path / "root", ids)
    fetch(root, f"folder:{folder}")
    passed(root, "clips")
    poisoned = root / clip_rows(root)["second"]["path"]
    poisoned.unlink()

    def short(function, batches):
        return map(function, [replace(batch, limits=ProcessLimits(seconds=2.0)) for batch in batches])

    with endlessly(poisoned):
        extract.run(extract.stage(root, PROFILE), [0], PROFILE, short)

    rows = {row["key"]: row for _, row in read_manifest(root / "features")}
    outcomes = {key: (row["outcome"], row["reason"]) for key, row in rows.items()}
    assert outcomes == {
        key_of("first"): ("ok", ""),
        key_of("second"): ("quarantined", "decodable"),
        key_of("third"): ("ok", ""),
    }
    assert rows[key_of("second")]["detail"] == "the media process took over 2 s, twice"
    assert extract_all(root) == 0  # the verdict stands
