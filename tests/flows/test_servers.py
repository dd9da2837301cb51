"""Servers that a command starts end with it, however it ends."""

import signal
import subprocess
import sys
import time

import psutil

WAITS = """
import sys
from pathlib import Path
from flows.servers import running
with running([sys.executable, "-c", "import time; time.sleep(600)"], Path(sys.argv[1])) as process:
    print(process.pid, flush=True)
    process.wait()
"""
PATIENCE_S = 30.0


def test_a_server_ends_when_its_command_is_killed(tmp_path):
    command = [sys.executable, "-c", WAITS, str(tmp_path / "server.log")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as starter:
        assert starter.stdout is not None
        server = psutil.Process(int(starter.stdout.readline()))
        starter.send_signal(signal.SIGKILL)

    ends = time.monotonic() + PATIENCE_S
    while server.is_running() and server.status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < ends, "the server outlives its command"
        time.sleep(0.05)
