"""A file system that loses its power: what may be on the disk after each of the recorded calls.

What POSIX promises, and no more: the bytes of a file are on the disk once the file was synced, a name (a file that was
made, renamed or removed, a folder) once the folder was that it stands in. What was not synced may be there or not, each
by itself; a file's bytes may also be there in part, or its size without them. A rename alone is one step: whoever looks
sees the old name or the new.
"""

import hashlib
import random
import re
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path, PurePosixPath

from file_calls import Call

from schemas.storage import TEMPORARY

NEWS = ("open", "rename", "unlink", "mkdir", "rmdir", "link", "symlink", "sync")  # a cut before each of these
NOTES = re.compile(r"/state/(logs|leases|runs|lanes/\w+\.lock)")
SHARE = 0.5  # of the changes that survive a draw
Node = int
Names = dict[tuple[Node, str], Node | None]  # (folder, name) -> what stands there


@dataclass
class _File:
    """The bytes of a file on the disk, and what was done to them since."""

    synced: bytes = b""
    later: list[Call] = field(default_factory=list)

    def sync(self) -> None:
        self.synced = self.whole()
        self.later = []

    def whole(self) -> bytes:
        return _written(self.synced, self.later)

    def lost(self) -> bytes:
        """Nothing of what came later; a file that was emptied is empty."""
        emptied = [call for call in self.later if call.kind == "truncate"]
        return _written(self.synced, emptied)

    def zeros(self) -> bytes:
        """The size of the whole, without the bytes that came later."""
        size = len(self.whole())
        return self.lost()[:size].ljust(size, b"\0")

    def torn(self) -> bytes:
        """Half of the bytes that came later."""
        kept = self.lost()
        whole = self.whole()
        return whole[: len(kept) + (len(whole) - len(kept)) // 2] if len(whole) > len(kept) else whole


Bytes = Callable[[_File], bytes]
FATES: dict[str, Bytes] = {
    "whole": _File.whole,
    "before": lambda file: file.synced,
    "lost": _File.lost,
    "zeros": _File.zeros,
    "torn": _File.torn,
}


def _written(content: bytes, calls: Sequence[Call]) -> bytes:
    made = bytearray(content)
    for call in calls:
        if call.kind == "truncate":
            made = made[: call.offset].ljust(call.offset, b"\0")
        else:
            at = len(made) if call.offset < 0 else call.offset
            made = made.ljust(at, b"\0")
            made[at : at + len(call.data)] = call.data
    return bytes(made)


@dataclass(frozen=True)
class Image:
    """What a disk holds after a power loss: files by their path, folders as None, and how it came to be."""

    after: int  # so many calls
    how: str
    files: Mapping[str, bytes | None]

    @property
    def digest(self) -> str:
        """Equal for images that no build can tell apart.

        Temporary files are nobody's, and nothing depends on the lines of a log or on whose a lease was.
        """
        told = hashlib.sha256()
        for path, content in sorted(self.files.items()):
            if not _is_nobodys(path):
                told.update(
                    f"{path} {'' if content is None else hashlib.sha256(content).hexdigest()}\n".encode()
                )
        return told.hexdigest()

    def write(self, folder: Path, instead_of: str) -> None:
        """Makes `folder` hold what the image has below `instead_of`."""
        shutil.rmtree(folder, ignore_errors=True)
        for path, content in sorted(self.files.items()):
            target = folder / PurePosixPath(path).relative_to(instead_of)
            if content is None:
                target.mkdir(parents=True)
            else:
                target.write_bytes(content)


class Disk:
    """Names and bytes, on the disk and not yet."""

    def __init__(self, folder: str) -> None:
        """The parent of the watched `folder` is there, and stays."""
        self._top = str(PurePosixPath(folder).parent)
        self._nodes = 1
        self._files: dict[Node, _File] = {}
        self._links: dict[Node, str] = {}
        self._live: Names = {}
        self._synced: Names = {}
        self._later: list[Names] = []  # changes of names that are not synced; what is in one is one step

    @staticmethod
    def of(folder: Path) -> "Disk":
        """A disk that holds `folder` as it is now."""
        disk = Disk(str(folder))
        for path in (folder, *sorted(folder.rglob("*"))):
            if path.is_dir():
                disk.apply(Call("mkdir", str(path)))
            else:
                disk.apply(Call("open", str(path)))
                disk.apply(Call("write", str(path), path.read_bytes()))
        disk._sync_all()
        return disk

    def apply(self, call: Call) -> None:
        """Does what a call did. Raises KeyError for one on what is not there."""
        getattr(self, f"_{call.kind}")(call)

    def survivors(
        self, keeps: Callable[[int], bool], fate: Callable[[Node], Bytes]
    ) -> dict[str, bytes | None]:
        """Path -> bytes (None for a folder) of what is on the disk.

        Where `keeps(number)`, that change of names is on it too; the bytes of a file are what its fate makes of it.
        """
        names = dict(self._synced)
        for number, change in enumerate(self._later):
            if keeps(number):
                names |= change
        return dict(self._walked(names, 0, self._top, fate))

    @property
    def num_later(self) -> int:
        """How many changes of names are not synced."""
        return len(self._later)

    def unsynced(self) -> list[str]:
        """What distinguishes the files with bytes that are not synced: their names, and what is not."""
        found = []
        for path, content in self.survivors(lambda _: True, lambda _: _File.whole).items():
            file = None if content is None else self._file(path)
            if file and file.later and not _is_nobodys(path):
                found.append(f"{path} {hashlib.sha256(file.whole()).hexdigest()}")
        return sorted(found)

    def _walked(
        self, names: Names, folder: Node, path: str, fate: Callable[[Node], Bytes]
    ) -> Iterator[tuple[str, bytes | None]]:
        for (parent, name), node in names.items():
            if parent != folder or node is None:
                continue
            here = f"{path}/{name}"
            if node in self._files:
                yield here, fate(node)(self._files[node])
            elif node not in self._links:
                yield here, None
                yield from self._walked(names, node, here, fate)

    def _open(self, call: Call) -> None:
        if self._found(call.path) is None:
            node = self._named(call.path)
            self._files[node] = _File()

    def _write(self, call: Call) -> None:
        self._file(call.path).later.append(call)

    def _truncate(self, call: Call) -> None:
        file = self._file(call.path)
        if file.whole():
            file.later.append(call)

    def _sync(self, call: Call) -> None:
        node = 0 if call.path == self._top else self._found(call.path)
        if node in self._files:
            self._files[node].sync()
            return
        for change in self._later:
            for place in [place for place in change if place[0] == node]:
                self._synced[place] = change.pop(place)
        self._later = [change for change in self._later if change]

    def _sync_all(self) -> None:
        self._synced = dict(self._live)
        self._later = []
        for file in self._files.values():
            file.sync()

    def _rename(self, call: Call) -> None:
        node = self._found(call.path)
        if node is None:  # from outside, as a file that is moved in
            raise ValueError(f"{call.path} comes from outside: its bytes were not seen")
        self._change({self._place(call.path): None, self._place(call.other): node})

    def _link(self, call: Call) -> None:
        self._change({self._place(call.other): self._found(call.path)})

    def _symlink(self, call: Call) -> None:
        self._links[self._named(call.other)] = call.path

    def _unlink(self, call: Call) -> None:
        self._change({self._place(call.path): None})

    _rmdir = _unlink

    def _mkdir(self, call: Call) -> None:
        self._named(call.path)

    def _change(self, names: Names) -> None:
        self._live |= names
        self._later.append(dict(names))

    def _named(self, path: str) -> Node:
        node = self._nodes
        self._nodes += 1
        self._change({self._place(path): node})
        return node

    def _file(self, path: str) -> _File:
        return self._files[self._live[self._place(path)]]

    def _place(self, path: str) -> tuple[Node, str]:
        parent = PurePosixPath(path).parent
        folder = 0 if str(parent) == self._top else self._live[self._place(str(parent))]
        return folder, PurePosixPath(path).name

    def _found(self, path: str) -> Node | None:
        return self._live.get(self._place(path))


def _is_nobodys(path: str) -> bool:
    return bool(TEMPORARY.fullmatch(PurePosixPath(path).name) or NOTES.search(path))


def images(calls: Sequence[Call], disk: Disk, seed: int) -> Iterator[Image]:
    """What may be on the disk after each prefix of the calls, from nothing to everything, each image once.

    One prefix gives: nothing that was not synced; all of it; where bytes are not synced, all names with these bytes
    lost, as zeros, or torn; and one draw of each change and each file by itself.
    """
    rng = random.Random(seed)
    seen = set()
    for image in _all_images(calls, disk, rng):
        if image.digest not in seen:
            seen.add(image.digest)
            yield image


def at_end(calls: Sequence[Call], disk: Disk, *, is_synced_only: bool) -> Image:
    """What is on the disk after all calls: only what was synced, or everything."""
    for call in calls:
        disk.apply(call)
    how = "before" if is_synced_only else "whole"
    return Image(len(calls), how, disk.survivors(lambda _: not is_synced_only, _fate(how)))


def _all_images(calls: Sequence[Call], disk: Disk, rng: random.Random) -> Iterator[Image]:
    damaged = set()
    for number, (call, following) in enumerate(pairwise([*calls, Call("sync", "")]), 1):
        disk.apply(call)
        if following.kind not in NEWS:
            continue  # a file that is being written is `torn` already
        yield Image(number, "nothing", disk.survivors(lambda _: False, _fate("before")))
        yield Image(number, "whole", disk.survivors(lambda _: True, _fate("whole")))
        for one in set(disk.unsynced()) - damaged:
            damaged.add(one)
            for how in ("lost", "zeros", "torn"):
                yield Image(number, how, disk.survivors(lambda _: True, _fate(how)))
        if disk.num_later > 1 and call.kind != "sync":
            kept = [rng.random() < SHARE for _ in range(disk.num_later)]
            yield Image(number, "drawn", disk.survivors(kept.__getitem__, _drawn(rng.random())))


def _fate(how: str) -> Callable[[Node], Bytes]:
    return lambda _: FATES[how]


def _drawn(seed: float) -> Callable[[Node], Bytes]:
    """One fate for each file, by itself."""
    return lambda node: random.Random(f"{seed} {node}").choice(list(FATES.values()))
