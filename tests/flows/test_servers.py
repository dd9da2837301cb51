"""Servers that a command starts end with it, however it ends."""

import signal
import subprocess
import sys

import psutil
from real_servers import wait_for

WAITS = """
import sys
from pathlib import Path
from flows.servers import running
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
