"""`python -m benchmarks.lanes`: the rate that one lane holds, and what a download costs beside curl.

The host is a process of its own on loopback; its log is the witness of the rate. About two minutes.
"""

import multiprocessing
import os
import platform
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

from tasks.sources import Fetch, open_source
from tasks.transport.lanes import HOUR_S, Lane, LaneConfig
from tasks.transport.policy import Access

REQUESTS_PER_HOUR = 36_000.0  # ten a second
REQUIRED_SHARE = 0.02
THREADS = 4
RATE_FILES = 300  # of two requests each: a minute
SIZE_BYTES = 4 << 20  # about what a video of 3 minutes has in the smallest sufficient format
FILES = 40
SMALL_BYTES = 1 << 16


def main() -> None:
    """Prints the conditions and both tables."""
    with tempfile.TemporaryDirectory() as name, hosting(Path(name)) as (address, requests):
        folder = Path(name)
        (folder / "small.mp4").write_bytes(os.urandom(SMALL_BYTES))
        (folder / "video.mp4").write_bytes(os.urandom(SIZE_BYTES))
        print(
            f"{platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}; host on loopback\n"
        )
        held = held_rate(address, folder, requests)
        off = abs(held / REQUESTS_PER_HOUR - 1)
        print("| one lane, four threads | requests an hour |\n|---|---:|")
        print(f"| configured | {REQUESTS_PER_HOUR:,.0f} |\n| held, by the host's log | {held:,.0f} |")
        print(f"| off by (required: {REQUIRED_SHARE:.0%}) | {off:.2%} |\n")
        print(f"| a file, median of {FILES} | wall | CPU of the client |\n|---|---:|---:|")
        with open_source(f"{address}/{{video_id}}.mp4", folder, Access()) as fetch:
            for size, video_id in ((SMALL_BYTES, "small"), (SIZE_BYTES, "video")):
                mine = costs(ours(fetch, video_id))
                curl = costs(curls(address, video_id))
                for who, (wall_s, cpu_s) in (("mcgurk", mine), ("curl", curl)):
                    print(f"| {who}, {size / 1e6:.2f} MB | {1e3 * wall_s:.1f} ms | {1e3 * cpu_s:.1f} ms |")
                print(f"| ratio | {mine[0] / curl[0]:.2f} | {mine[1] / curl[1]:.2f} |")
    if off > REQUIRED_SHARE:
        sys.exit(1)


def held_rate(address: str, folder: Path, requests: Callable[[], list[float]]) -> float:
    """Requests an hour that reach the host, where each fetch of a file makes two."""
    lane = Lane(LaneConfig("bench", requests_per_hour=REQUESTS_PER_HOUR), folder)
    with open_source(f"{address}/{{video_id}}.mp4", folder, Access(lane.take_request)) as fetch:
        requests()  # those so far
        with ThreadPoolExecutor(THREADS) as pool:
            for _ in pool.map(lambda _: ours(fetch, "small")(), range(RATE_FILES)):
                pass
    times = sorted(requests())
    return (len(times) - 1) / (times[-1] - times[0]) * HOUR_S


def ours(fetch: Fetch, video_id: str) -> Callable[[], None]:
    """One download as the stage does it, without what follows."""

    def get() -> None:
        with tempfile.TemporaryDirectory() as folder:
            fetch(video_id, Path(folder))

    return get


def curls(address: str, video_id: str) -> Callable[[], None]:
    """One download by a curl process, as shell scripts do it."""
    curl = shutil.which("curl")
    if curl is None:
        raise FileNotFoundError("no curl to compare with: apt-get install curl")

    def get() -> None:
        with tempfile.TemporaryDirectory() as folder:
            command = [curl, "-sf", "-o", f"{folder}/media.mp4", f"{address}/{video_id}.mp4"]
            subprocess.run(command, check=True)  # noqa: S603  (our own command)

    return get


def costs(get: Callable[[], None]) -> tuple[float, float]:
    """Median wall and CPU seconds of one download, after one that warms up."""
    get()
    walls = []
    cpus = []
    for _ in range(FILES):
        wall_s = time.perf_counter()
        cpu_s = used_s()
        get()
        walls.append(time.perf_counter() - wall_s)
        cpus.append(used_s() - cpu_s)
    return statistics.median(walls), statistics.median(cpus)


def used_s() -> float:
    """CPU seconds of this process and of the children that ended."""
    usage = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in usage)


@contextmanager
def hosting(folder: Path) -> Iterator[tuple[str, Callable[[], list[float]]]]:
    """The files of `folder` over HTTP by another process: its address, and what asks for its new log entries."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=host, args=(str(folder), theirs), daemon=True)
    process.start()

    def requests() -> list[float]:
        ours.send("log")
        return ours.recv()

    try:
        yield ours.recv(), requests
    finally:
        process.terminate()
        process.join()


class _Server(ThreadingHTTPServer):
    def handle_error(self, request, client_address) -> None:
        """Nothing: yt-dlp reads the head of a file, closes, and comes again."""


def host(folder: str, pipe) -> None:
    """Serves `folder`, and answers with when it was asked since it last said so."""
    times: list[float] = []

    class Handler(SimpleHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *arguments) -> None:
            times.append(time.monotonic())

    server = _Server(("127.0.0.1", 0), partial(Handler, directory=folder))
    Thread(target=server.serve_forever, daemon=True).start()
    pipe.send(f"http://127.0.0.1:{server.server_port}")
    while pipe.recv():
        pipe.send(times[:])
        times.clear()


if __name__ == "__main__":
    main()
