"""Doctor: what this machine has and lacks for downloading, with a remedy for each."""

import importlib.metadata
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import ffmpeg

from schemas.mounts import network_file_system
from tasks.media.streams import ffmpeg_path
from tasks.transport.hatches import provider_address, with_secrets
from tasks.transport.lanes import LaneConfig, clock_errors

LEAST_FREE_BYTES = 20 << 30  # scratch of a few long videos, and an hour's clips
TIMEOUT_S = 10.0
PROXY_PORTS = {"http": 80, "https": 443}  # socks has 1080
PROXY_FORM = "give it as http://user:password@host:port, its password percent-encoded"
RUNTIMES = {"deno": (2, 0), "node": (20, 0), "bun": (1, 0), "qjs": (0, 0)}  # oldest that yt-dlp takes
EARLIEST_S = 1_750_000_000  # this program is younger: a clock before it is wrong
COOKIES_HEAD = re.compile(r"#\s*(Netscape )?HTTP Cookie File", re.IGNORECASE)


@dataclass(frozen=True)
class Finding:
    """The result of one check; `remedy` is empty if all is well."""

    what: str
    found: str
    remedy: str = ""


def examine(lanes: Sequence[LaneConfig], state: Path, secret: Callable[[str], str]) -> list[Finding]:
    """The findings of all checks; none contains a secret."""
    found = [
        _runtime(),
        _solver(),
        _ffmpeg(),
        _clock(),
        _disk(state),
        _file_system(state),
        *_clock_errors(state, lanes),
    ]
    for lane in lanes:
        found += _lane(lane, secret)
    return found


def _runtime() -> Finding:
    folder = Path(sys.executable).parent
    for name, least in RUNTIMES.items():
        path = shutil.which(name) or shutil.which(name, path=str(folder))
        version = _version(path) if path else None
        if version and version >= least:
            return Finding("JavaScript runtime", f"{name} {version[0]}.{version[1]}")
    return Finding(
        "JavaScript runtime", "none that yt-dlp supports", "pip install deno  (only youtube needs it)"
    )


def _version(path: str) -> tuple[int, int] | None:
    try:
        done = subprocess.run([path, "--version"], capture_output=True, text=True, timeout=TIMEOUT_S)  # noqa: S603  (a found tool)
    except (OSError, subprocess.TimeoutExpired):
        return None
    match = re.search(r"(\d+)\.(\d+)", done.stdout)
    return (int(match[1]), int(match[2])) if match else None


def _solver() -> Finding:
    versions = []
    for name in ("yt-dlp", "yt-dlp-ejs"):
        try:
            versions.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            return Finding("yt-dlp and its solver", f"{name} is missing", 'pip install "yt-dlp[default]"')
    return Finding("yt-dlp and its solver", ", ".join(versions))


def _ffmpeg() -> Finding:
    """Whether the ffmpeg that yt-dlp merges with can merge picture and sound into one file."""
    try:
        path = ffmpeg_path()
    except FileNotFoundError:
        return Finding("ffmpeg", "none", "pip install imageio-ffmpeg, or apt-get install ffmpeg")
    picture = ffmpeg.input("color=s=64x64:d=0.2", f="lavfi")
    sound = ffmpeg.input("anullsrc=d=0.2", f="lavfi")
    merged = ffmpeg.output(picture, sound, "pipe:", f="matroska", vcodec="mpeg4", acodec="aac")
    try:
        said = _output_of([path, "-version"])
        _output_of(ffmpeg.compile(merged, cmd=path))
    except (OSError, subprocess.SubprocessError):
        return Finding("ffmpeg", f"{path} does not run", "pip install --force-reinstall imageio-ffmpeg")
    return Finding("ffmpeg", said.decode(errors="replace").split(" Copyright")[0])


def _output_of(command: Sequence[str]) -> bytes:
    """The output of a program of ours. Raises SubprocessError if it fails or is too slow, OSError if it is missing."""
    done = subprocess.run(  # noqa: S603  (our own command)
        command, stdin=subprocess.DEVNULL, capture_output=True, timeout=TIMEOUT_S, check=True
    )
    return done.stdout


def _clock() -> Finding:
    now = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime())
    if time.time() < EARLIEST_S:
        return Finding(
            "clock", now, "set the clock (timedatectl set-ntp true): schedules and TLS depend on it"
        )
    return Finding("clock", now)


def _clock_errors(state: Path, lanes: Sequence[LaneConfig]) -> Iterator[Finding]:
    """What a run under a wrong clock has left behind."""
    for name, at_s in clock_errors(state, lanes, time.time()).items():
        shown = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(at_s))
        yield Finding(
            f"lane {name}: clock",
            f"its state says {shown}: a run wrote that while the clock was ahead",
            "check the clock (timedatectl); a time in the future counts as now, and the next run replaces it",
        )


def _disk(state: Path) -> Finding:
    folder = next(path for path in (state, *state.parents) if path.is_dir())
    free_bytes = shutil.disk_usage(folder).free
    found = f"{free_bytes / 1e9:,.1f} GB free under {folder}"
    if free_bytes < LEAST_FREE_BYTES:
        return Finding(
            "disk", found, f"free {LEAST_FREE_BYTES / 1e9:.0f} GB, or choose another folder with --state"
        )
    return Finding("disk", found)


def _file_system(state: Path) -> Finding:
    """Whether locks and databases work in the state folder."""
    if kind := network_file_system(state):
        remedy = "choose a folder on a disk of this machine with --state"
        return Finding("state folder", f"on a network file system ({kind})", remedy)
    return Finding("state folder", "on a disk of this machine")


def _lane(lane: LaneConfig, secret: Callable[[str], str]) -> Iterator[Finding]:
    for kind, name, look in (("proxy", lane.proxy, _proxy), ("cookies", lane.cookies, _cookies)):
        if name:
            what = f"lane {lane.name}: {kind}"
            try:
                yield look(what, secret(name))
            except ValueError as error:
                yield Finding(what, str(error), f"set what {name} names, or remove it from lanes.json")
    yield from _hatches(lane, secret)


def _hatches(lane: LaneConfig, secret: Callable[[str], str]) -> Iterator[Finding]:
    """What the lane's escape hatches need on this machine."""
    what = f"lane {lane.name}: "
    try:
        if lane.extractor_args:
            with_secrets(lane.extractor_args, secret)
            yield Finding(f"{what}extractor_args", "taken by yt-dlp")
    except ValueError as error:
        yield Finding(
            f"{what}extractor_args", str(error), "set what they name, or remove them from lanes.json"
        )
    if lane.po_token_provider:
        yield _proxy(f"{what}po_token_provider", provider_address(lane.po_token_provider))
    if lane.impersonate or lane.cookies_from_browser:
        from tasks.transport import ytdlp_hatches  # a second of yt-dlp

        checks = (
            ("impersonate", ytdlp_hatches.target_of),
            ("cookies_from_browser", ytdlp_hatches.browser_of),
        )
        for name, look in checks:
            if named := getattr(lane, name):
                try:
                    look(named)
                    yield Finding(f"{what}{name}", f"{named} is available")
                except ValueError as error:
                    yield Finding(f"{what}{name}", str(error), "fix that, or remove it from lanes.json")


def _cookies(what: str, text: str) -> Finding:
    if COOKIES_HEAD.match(text.lstrip()) is None:
        return Finding(
            what, "not the text of a cookies file", "export it from a private window in Netscape's format"
        )
    lines = [line.split("\t") for line in text.splitlines() if line.count("\t") == 6]
    stale = [one for one in lines if one[4].isdecimal() and 0 < int(one[4]) < time.time()]
    if not lines or len(stale) == len(lines):
        return Finding(
            what,
            f"{len(lines)} cookie(s), none of them still valid",
            "export them again, then close the window",
        )
    return Finding(what, f"{len(lines)} cookie(s), {len(stale)} expired")


def _proxy(what: str, address: str) -> Finding:
    try:
        parts = urlsplit(address)
        host = parts.hostname
        port = parts.port or PROXY_PORTS.get(parts.scheme, 1080)
    except ValueError:  # not shown: it quotes the port, which may be a piece of the password
        return Finding(what, "not a URL", PROXY_FORM)
    if not host or "@" in parts.path + parts.query + parts.fragment:  # it may hold part of the password
        return Finding(what, "not a URL", PROXY_FORM)
    where = f"{host}:{port}"
    try:
        socket.create_connection((host, port), TIMEOUT_S).close()
    except OSError as error:
        return Finding(what, f"{where} does not answer: {error}", "start it, or correct its address")
    return Finding(what, f"{where} answers")
