"""Logs stay within their bound while a process appends to them, and lose nothing on the way."""

import subprocess
import sys

from real_servers import wait_for

from flows.services.rotation import MOST_BYTES as MOST
from flows.services.rotation import NUM_OLD, rotate, rotate_all

WRITER = """
import sys, time
for n in range(int(sys.argv[1])):
    sys.stdout.write(f"{n}\\n")
    sys.stdout.flush()
    time.sleep(0.0005)
"""
LINES = 2000
MOST_BYTES = 2000


def test_a_log_that_a_process_holds_open_is_rotated_and_loses_no_line(tmp_path):
    path = tmp_path / "server.log"
    with path.open("ab") as file:
        process = subprocess.Popen([sys.executable, "-c", WRITER, str(LINES)], stdout=file)
    rotated = [wait_for(lambda: rotate(path, MOST_BYTES), "a long log") for _ in range(NUM_OLD)]
    assert process.wait(60) == 0

    files = [path, *(tmp_path / f"server.log.{n}" for n in range(1, NUM_OLD + 1))]
    lines = [int(line) for one in reversed(files) for line in one.read_text().splitlines()]
    assert all(rotated) and lines == list(range(LINES))


def test_only_a_few_old_ones_are_kept(tmp_path):
    path = tmp_path / "server.log"
    for n in range(NUM_OLD + 2):
        path.write_text(f"{n}" * 9)
        assert rotate(path, 8)

    kept = {one.name: one.read_text() for one in tmp_path.iterdir()}
    assert kept == {
        "server.log": "",
        "server.log.1": "4" * 9,
        "server.log.2": "3" * 9,
        "server.log.3": "2" * 9,
    }


def test_a_short_log_and_one_that_is_not_there_stay_as_they_are(tmp_path):
    path = tmp_path / "server.log"
    path.write_text("short")

    rotate_all([path, tmp_path / "other.log"])

    assert [one.name for one in tmp_path.iterdir()] == ["server.log"] and path.read_text() == "short"


def test_one_that_can_t_be_rotated_is_told_and_left(tmp_path, caplog):
    path = tmp_path / "server.log"
    path.write_bytes(b"x" * (MOST + 1))
    (tmp_path / "server.log.1").mkdir()

    rotate_all([path])

    assert "could not be rotated" in caplog.text and path.stat().st_size == MOST + 1
