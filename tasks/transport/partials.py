"""Partial downloads: what a killed or failed download fetched of a file, and how a later run continues it.

A download is continued only if the host confirms that the file is the same (RFC 9110, If-Range): a mixture of two files
would look like a damaged video, and count against it. A download from before the machine's last start is not continued
either: after a power failure, a file may have its size without its bytes.
"""

import hashlib
import json
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from schemas.files import write_text
from schemas.identity import Identity
from schemas.layout import SCRATCH
from schemas.storage import make_folder
from tasks.transport.failure_classes import failure

VALIDATORS = "validators.json"
PART = ".part"  # yt-dlp's suffix for incomplete files
FRAGMENT = ".part-Frag"  # and for one fragment of a list
BOOT = "#boot"  # among the validators: not the name of an entity
KEPT_S = 2 * 86_400.0  # trouble of the world is tried again within a day


@contextmanager
def scratch_of(state: Path, video_id: str) -> Iterator[Path]:
    """The folder of one video's media. After the block, only downloads that can be continued are left in it."""
    folder = state / SCRATCH / video_id
    make_folder(folder)
    try:
        yield folder
    finally:
        _keep_partials(folder)


def sweep_scratch(state: Path) -> None:
    """Removes what killed runs left in the state folder, except recent downloads that can be continued."""
    now_s = time.time()  # of the files, whatever the run considers as today
    for folder in (state / SCRATCH).glob("*"):
        if now_s - max((path.stat().st_mtime for path in folder.glob("*")), default=0.0) < KEPT_S:
            _keep_partials(folder)
        else:
            drop(folder)


def drop(folder: Path) -> None:
    """Removes the folder of a video whose download will not be continued."""
    shutil.rmtree(folder, ignore_errors=True)


def _keep_partials(folder: Path) -> None:
    """Keeps partial files with their validators. Lists of fragments are removed: nothing identifies their parts."""
    names = {path.name for path in folder.glob("*")}
    whole = {name for name in names if name.endswith(PART) and FRAGMENT not in name}
    parts = {name for name in whole if name.removesuffix(PART) + ".ytdl" not in names}
    if VALIDATORS not in names or not parts:
        drop(folder)
        return
    for path in folder.iterdir():
        if path.name not in {*parts, VALIDATORS}:
            path.unlink() if path.is_file() else shutil.rmtree(path)


@dataclass
class Validators:
    """The validator of each file in `folder` (ETag, else Last-Modified), written to disk before the file's bytes."""

    folder: Path
    _seen: set[str] = field(default_factory=set, init=False)  # requested since this was made
    _old: list[Path] = field(init=False)  # parts of earlier tries

    def __post_init__(self) -> None:
        self._old = self._parts()

    def put_into(self, headers: Any, url: str) -> None:
        """Makes a request for the rest of a file conditional: if the file has changed, the host sends all of it."""
        entity = _entity(url)
        if "Range" not in headers or headers["Range"].startswith("bytes=0-"):
            return
        if known := self._known().get(entity):
            headers["If-Range"] = known
        elif self._old and entity not in self._seen:
            del headers["Range"]  # for a part from an earlier run that nothing vouches for

    def keep(self, url: str, headers: Mapping[str, str], *, is_rest: bool = False) -> None:
        """Records the validator in an answer for `url`; parts of a different file are removed.

        Raises Transient if it is part of a different file than requested.
        """
        entity = _entity(url)
        etag = headers.get("ETag", "")
        known = self._known()
        self._seen.add(entity)
        validator = "" if etag.startswith("W/") else etag or headers.get("Last-Modified", "")
        if known.get(entity) == validator or (is_rest and not validator):
            return
        # First: the validator of the new file must never lie beside a part of the old one.
        is_mixed = is_rest and entity in known
        for part in self._parts() if is_mixed else self._old:
            part.unlink(missing_ok=True)
        if validator:
            vouched = {**known, entity: validator, BOOT: Identity.own().boot}
            write_text(self.folder / VALIDATORS, json.dumps(vouched))
        if is_mixed:
            raise failure("network", "the host sent part of a different file than requested")

    def _parts(self) -> list[Path]:
        return list(self.folder.glob(f"*{PART}"))

    def _known(self) -> dict[str, str]:
        try:
            known = json.loads((self.folder / VALIDATORS).read_text())
        except (FileNotFoundError, ValueError):
            return {}
        return known if known.pop(BOOT, None) == Identity.own().boot else {}


def _entity(url: str) -> str:
    """Equal for all addresses of one file: signatures and hosts change from run to run, and are private."""
    parts = urlsplit(url)
    formats = parse_qs(parts.query).get("itag", [])  # YouTube's name for a format
    return hashlib.sha256(json.dumps([parts.path, formats]).encode()).hexdigest()
