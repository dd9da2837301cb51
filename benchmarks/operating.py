"""`python -m benchmarks.operating`: how soon commands end, how soon a crash is known, and which outages are survived.

Over 14 clips of a host on loopback that answers when it is told to: a build that waits for it is in the middle.
"""

import argparse
import os
import platform
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "support"))

from real_servers import Api, Host, hosting, kept_processes, serving, started, wait_for
from roots import write_clips

from flows.services.servers import free_port, running

Row = tuple[str, str]
IDS = [f"clip{n:02d}" for n in range(14)]
FINAL = ("Completed", "Failed", "Crashed", "Cancelled", "Skipped")
AWAY_S = (30.0, 100.0, 300.0)
SLOW_S = 45.0  # to an answer: a host that says nothing for a minute is given up


class Bench:
    """A folder for roots, a list of clips, and the host that has them."""

    def __init__(self, folder: Path, host: Host) -> None:
        self.folder = folder
        self.host = host
        (self.list,) = write_clips(folder / "media", IDS)
        host.files |= {video_id: folder / "media" / f"{video_id}.mp4" for video_id in IDS}

    def build(self, root: Path) -> tuple[str, ...]:
        """The command that builds a root."""
        source = f"{self.host.address}/{{video_id}}"
        return (
            "build",
            "--root",
            str(root),
            "--preset",
            "demo",
            "--segments",
            str(self.list),
            "--source",
            source,
        )

    @contextmanager
    def in_mid_build(self, root: Path, **environment: str) -> Iterator[subprocess.Popen]:
        """A build that waits for the host."""
        self.host.gate.clear()
        before = self.host.knocked.total()
        with started(*self.build(root), output=self.folder / "output", **environment) as process:
            wait_for(lambda: self.host.knocked.total() > before, "a download")
            yield process
            self.host.gate.set()


def ending(bench: Bench) -> Iterator[Row]:
    """From a signal to the end of the command and of all that it started."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        root = bench.folder / f"ending{number}"
        with bench.in_mid_build(root) as process:
            began = time.monotonic()
            process.send_signal(number)
            process.wait()
            took_s = time.monotonic() - began
            wait_for(lambda root=root: not kept_processes(root), "the end of its servers")
            yield f"{number.name} to the end of a build", f"{took_s:.1f} s"
            yield f"{number.name} to the end of its last process", f"{time.monotonic() - began:.1f} s"


def serving_ends(bench: Bench) -> Iterator[Row]:
    """Start of `serve`; from a signal to its end, with a build under way."""
    root = bench.folder / "served"
    with bench.in_mid_build(root) as process:
        process.terminate()
        process.wait()
    bench.host.gate.clear()
    began = time.monotonic()
    with serving(root, bench.folder / "serve.out") as (serve, api):
        yield "start of serve", f"{time.monotonic() - began:.1f} s"
        _begun(api, root)
        began = time.monotonic()
        serve.send_signal(signal.SIGTERM)
        serve.wait()
        yield "SIGTERM to the end of serve, a build under way", f"{time.monotonic() - began:.1f} s"
        wait_for(lambda: not kept_processes(root), "the end of its servers")
        yield "SIGTERM to the end of its last process", f"{time.monotonic() - began:.1f} s"


def crash(bench: Bench) -> Iterator[Row]:
    """kill -9 of a flow and all of `serve`, and a new `serve`."""
    root = bench.folder / "served"
    bench.host.gate.clear()
    with serving(root, bench.folder / "serve.out") as (serve, api):
        run = _begun(api, root)
        for victim in (*serve.children(recursive=True), serve, *kept_processes(root)):
            victim.kill()
        began = time.monotonic()
    bench.host.gate.set()
    with serving(root, bench.folder / "serve.out") as (_, api):
        wait_for(lambda: api.state_of(run)[0] == "Crashed", "the report")
        yield (
            "kill -9 of everything to `Crashed`, the start of serve included",
            f"{time.monotonic() - began:.1f} s",
        )
        again = api.begin("hourly")
        wait_for(lambda: api.state_of(again)[0] in FINAL, "the next build")
        yield f"and to the next build's end ({api.state_of(again)[0]})", f"{time.monotonic() - began:.1f} s"


def outages(bench: Bench) -> Iterator[Row]:
    """A server of the user's own that is away in the middle of a build, whose host answers slowly meanwhile."""
    bench.host.patience_s = SLOW_S
    home = bench.folder / "own"
    port = free_port()
    address = f"http://127.0.0.1:{port}/api"
    command = [sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port)]
    os.environ |= {"PREFECT_HOME": str(home), "PREFECT_SERVER_ANALYTICS_ENABLED": "false"}
    started_here = partial(running, command, bench.folder / "own.log", f"{address}/health")
    for away_s in AWAY_S:
        root = bench.folder / f"away{away_s:.0f}"
        with started_here() as process, bench.in_mid_build(root, PREFECT_API_URL=address) as build:
            process.kill()
            process.wait()
            time.sleep(away_s)
            with started_here():
                bench.host.gate.set()
                code = build.wait()
                yield (
                    f"server away for {away_s:.0f} s in mid-build",
                    f"exit {code}, run {_last_state(address)}",
                )


def _last_state(address: str) -> str:
    api = Api(address, "")
    latest = max(api.ask("/flow_runs/filter", {}), key=lambda run: run["created"])
    wait_for(lambda: api.state_of(latest["id"])[0] in FINAL, "the end of the run")
    return api.state_of(latest["id"])[0]


def _begun(api: Api, root: Path) -> str:
    run = api.begin("hourly")
    wait_for(lambda: (root / "state" / "runs" / f"{run}.json").is_file(), "a build")
    return run


PARTS = {"ending": ending, "serve": serving_ends, "crash": crash, "outages": outages}


def main() -> None:
    """Prints the conditions and the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    asked = parser.parse_args()
    print(f"{platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}\n")
    print("| what | measured |\n|---|---:|")
    with tempfile.TemporaryDirectory() as folder, hosting({}) as host:
        bench = Bench(Path(folder), host)
        for part in asked.parts:
            for name, value in PARTS[part](bench):
                print(f"| {name} | {value} |", flush=True)


if __name__ == "__main__":
    main()
