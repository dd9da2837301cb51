"""What a command and all of its processes do to files, as the kernel sees it: recorded by strace, call by call.

No library escapes: pyarrow, tarfile, libav and Python's own files end in the same system calls. Calls that would
escape, such as a shared mapping that is written to, fail the recording.
"""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

FILES = "openat,open,write,pwrite64,lseek,fsync,fdatasync,rename,renameat,renameat2,unlink,unlinkat,rmdir"
NAMES = "mkdir,mkdirat,ftruncate,link,linkat,symlink,symlinkat,dup,dup2,dup3,fcntl,close"
PROCESSES = "clone,clone3,fork,vfork"
# Nothing of ours writes by these: where something does, the model would not see its bytes.
ESCAPES = "mmap,writev,pwritev,pwritev2,sendfile,copy_file_range,splice,fallocate,io_uring_setup,syncfs,sync"
ESCAPES = f"{ESCAPES},truncate,creat"
CALLS = ",".join((FILES, NAMES, PROCESSES, ESCAPES))
MOST_BYTES = 100_000_000  # of one write that are shown
HEX = re.compile(r"(?:\\x[0-9a-f]{2})+")
LINE = re.compile(r"(\d+) +(?:(\w+)\((.*)|<\.\.\. (\w+) resumed>(.*))$", re.DOTALL)
RESULT = re.compile(r"\) += (-?\d+|0x[0-9a-f]+|\?)(?:<(.*)>)?(?: .*)?$", re.DOTALL)
OF_FILE = re.compile(r"(?:AT_FDCWD|(\d+))<([^<>]*)>(?:\(deleted\))?")


@dataclass(frozen=True)
class Call:
    """One change of files that succeeded, below the watched folder.

    `kind` is open, write, truncate, sync, rename, unlink, mkdir, rmdir, link or symlink; of `sync` it is what was
    synced, file or folder.
    """

    kind: str
    path: str
    data: bytes = b""  # of a write
    offset: int = 0  # of a write; -1 at the end; the size of a truncate
    other: str = ""  # the new name of a rename or link


@dataclass
class _Open:
    """An open file: where its next write goes."""

    path: str
    is_appending: bool
    at: int = 0


@dataclass
class _Reader:
    """Turns lines of strace into calls; descriptors are kept by process."""

    folder: str
    groups: dict[str, str] = field(default_factory=dict)  # thread -> the process whose descriptors it shares
    open: dict[tuple[str, str], _Open] = field(default_factory=dict)

    def calls(self, lines: Sequence[str]) -> Iterator[Call]:
        whole = list(_joined(lines))
        for thread, name, arguments in whole:
            if name in PROCESSES.split(",") and "CLONE_THREAD" in arguments:
                self.groups[_result(arguments)[0]] = thread
        for thread, name, arguments in whole:
            result, opened = _result(arguments)
            if result.startswith("-") or result == "?":
                continue
            yield from self._of(self._group(thread), name, arguments, (result, opened))

    def _group(self, thread: str) -> str:
        while thread in self.groups:
            thread = self.groups[thread]
        return thread

    def _of(self, group: str, name: str, arguments: str, made: tuple[str, str]) -> Iterator[Call]:
        name = {"open": "openat", "fdatasync": "fsync", "pwrite64": "write"}.get(name, name)
        method = getattr(self, f"_{name.removesuffix('2').removesuffix('at')}", None)
        if method is not None:
            yield from method(group, arguments, made)
        elif name in ESCAPES.split(",") and self.folder in arguments:
            is_read = name == "mmap" and not ("MAP_SHARED" in arguments and "PROT_WRITE" in arguments)
            if not is_read:
                raise ValueError(f"{name} is not understood: {arguments[:200]}")

    def _open(self, group: str, arguments: str, made: tuple[str, str]) -> Iterator[Call]:
        descriptor, path = made
        if not self._is_ours(path):
            self.open.pop((group, descriptor), None)
            return
        self.open[group, descriptor] = _Open(path, "O_APPEND" in arguments)
        if "O_TMPFILE" in arguments:
            raise ValueError(f"a file without a name is not understood: {arguments[:200]}")
        if "O_CREAT" in arguments:
            yield Call("open", path)
        if "O_TRUNC" in arguments:
            yield Call("truncate", path)

    def _write(self, group: str, arguments: str, made: tuple[str, str]) -> Iterator[Call]:
        found = self._descriptor(group, arguments)
        if found is None:
            return
        data = _bytes_of(arguments.split('"')[1])[: int(made[0])]
        if is_at := re.search(r", (\d+), (\d+)\) += ", arguments):
            yield Call("write", found.path, data, int(is_at[2]))
        elif found.is_appending:
            yield Call("write", found.path, data, -1)
        else:
            yield Call("write", found.path, data, found.at)
            found.at += len(data)

    def _lseek(self, group: str, arguments: str, made: tuple[str, str]) -> Iterator[Call]:
        if found := self._descriptor(group, arguments):
            found.at = int(made[0])
        yield from ()

    def _ftruncate(self, group: str, arguments: str, made: tuple[str, str]) -> Iterator[Call]:
        if found := self._descriptor(group, arguments):
            yield Call("truncate", found.path, offset=int(arguments.split(", ")[1].split(")")[0]))

    def _fsync(self, group: str, arguments: str, made: tuple[str, str]) -> Iterator[Call]:
        path = OF_FILE.match(arguments)[2]
        if self._is_ours(path) or path == str(Path(self.folder).parent):  # where its own name stands
            yield Call("sync", path)

    def _dup(self, group: str, arguments: str, made: tuple[str, str]) -> Iterator[Call]:
        if found := self._descriptor(group, arguments):
            self.open[group, made[0]] = found
        yield from ()

    _dup3 = _dup

    def _fcntl(self, group: str, arguments: str, made: tuple[str, str]) -> Iterator[Call]:
        return self._dup(group, arguments, made) if "F_DUPFD" in arguments else iter(())

    def _close(self, group: str, arguments: str, made: tuple[str, str]) -> Iterator[Call]:
        self.open.pop((group, arguments.split("<")[0].split(")")[0]), None)
        yield from ()

    def _rename(self, group: str, arguments: str, made: tuple[str, str]) -> Iterator[Call]:
        yield from self._of_two("rename", arguments)

    def _link(self, group: str, arguments: str, made: tuple[str, str]) -> Iterator[Call]:
        yield from self._of_two("link", arguments)

    def _symlink(self, group: str, arguments: str, made: tuple[str, str]) -> Iterator[Call]:
        yield from self._of_two("symlink", arguments)

    def _unlink(self, group: str, arguments: str, made: tuple[str, str]) -> Iterator[Call]:
        yield from self._of_one("rmdir" if "AT_REMOVEDIR" in arguments else "unlink", arguments)

    def _rmdir(self, group: str, arguments: str, made: tuple[str, str]) -> Iterator[Call]:
        yield from self._of_one("rmdir", arguments)

    def _mkdir(self, group: str, arguments: str, made: tuple[str, str]) -> Iterator[Call]:
        yield from self._of_one("mkdir", arguments)

    def _of_one(self, kind: str, arguments: str) -> Iterator[Call]:
        (path,) = _paths(arguments)
        if self._is_ours(path):
            yield Call(kind, path)

    def _of_two(self, kind: str, arguments: str) -> Iterator[Call]:
        paths = _paths(arguments)
        if len(paths) == 2 and any(map(self._is_ours, paths)):
            yield Call(kind, paths[0], other=paths[1])

    def _descriptor(self, group: str, arguments: str) -> _Open | None:
        """The open file of a call. Raises ValueError for one of ours that nobody opened."""
        found = OF_FILE.match(arguments)
        if found is None or not self._is_ours(found[2]) or "(deleted)" in arguments.split(",")[0]:
            return None
        known = self.open.get((group, found[1]))
        if known is None:
            raise ValueError(f"nobody opened descriptor {found[1]} of {found[2]}")
        known.path = found[2]  # by its name of now
        return known

    def _is_ours(self, path: str) -> bool:
        return path == self.folder or path.startswith(f"{self.folder}/")


def record(arguments: Sequence[str], folder: Path, environment: Mapping[str, str]) -> list[Call]:
    """Runs mcgurk as a user starts it; returns what it did to files below `folder`. Fails where it ends badly."""
    trace = folder.with_name(f"{folder.name}.strace")
    command = [str(Path(sys.executable).parent / "mcgurk"), *arguments]
    tracer = ["strace", "-f", "-y", "-qq", "-xx", "-s", str(MOST_BYTES), "--seccomp-bpf"]
    done = subprocess.run(
        [*tracer, "-o", str(trace), "-e", f"trace={CALLS}", *command],
        env={**os.environ, **environment}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, f"{done.stdout}{done.stderr}"
    calls = read_trace(trace, folder)
    trace.unlink()
    return calls


def read_trace(trace: Path, folder: Path) -> list[Call]:
    """The calls in the output of strace that change what is below `folder`, in the order in which they ended."""
    with trace.open(encoding="ascii") as lines:
        return list(_Reader(str(folder)).calls(list(lines)))


def can_record() -> bool:
    """Whether strace is here, and may trace."""
    found = shutil.which("strace")
    return found is not None and subprocess.run([found, "-qq", "true"], capture_output=True).returncode == 0


def _joined(lines: Sequence[str]) -> Iterator[tuple[str, str, str]]:
    """(thread, call, arguments and result), the two halves of an interrupted call as one, where it ended.

    A `close` where it began: before it is told to have ended, another thread may have been given the number.
    """
    begun: dict[str, str] = {}
    for line in lines:
        found = LINE.match(line.rstrip("\n"))
        if found is None:
            continue  # signals and ends
        thread, name, arguments, resumed, rest = found.groups()
        if name and arguments.endswith("<unfinished ...>"):
            begun[thread] = arguments.removesuffix("<unfinished ...>").rstrip()
            if name == "close":
                yield thread, name, _readable(f"{begun[thread]}) = 0")
            continue
        if resumed == "close":
            begun.pop(thread)
            continue
        text = arguments if name else begun.pop(thread) + rest
        yield thread, name or resumed, _readable(text)


def _readable(arguments: str) -> str:
    """Paths as text; bytes in quotation marks stay as they are."""
    parts = re.split(r"(<(?:\\x[0-9a-f]{2})+>)", arguments)
    return "".join(HEX.sub(lambda one: os.fsdecode(_bytes_of(one[0])), part) if n % 2 else part
                   for n, part in enumerate(parts))  # fmt: skip


def _bytes_of(text: str) -> bytes:
    return bytes.fromhex(text.replace("\\x", ""))


def _result(arguments: str) -> tuple[str, str]:
    found = RESULT.search(arguments[-5000:])
    return (found[1], found[2] or "") if found else ("?", "")


def _paths(arguments: str) -> list[str]:
    """The paths that a call names, each in full where it says in which folder it stands."""
    found = re.findall(r'(?:(?:AT_FDCWD|\d+)<([^<>]*)>, )?"((?:\\x[0-9a-f]{2})*)"', arguments)
    return [str(Path(base, os.fsdecode(_bytes_of(name)))) for base, name in found]
