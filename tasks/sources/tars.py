"""Media in tars: `tars:PATH`, a folder or pattern of tars in WebDataset's layout, as copies of AudioSet circulate.

A member is identified by its name: `files/stems.py`. The headers of a tar are read once, and the state folder keeps the
position of each member: a video costs one seek per member. A gzipped tar is unpacked once, to index it.
"""

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

import pyarrow as pa

from schemas.manifest import digest_of
from schemas.outcome import ItemError, Outcome
from tasks.files.archives import members
from tasks.files.bytes_at import BytesAt, Gzipped, is_gzipped, opened
from tasks.files.packed import NAMED, Packed, found, index_of, kept, named
from tasks.files.stamps import stamp_of
from tasks.sources import Fetch
from tasks.transport.failure_classes import failure
from tasks.transport.policy import Access

log = logging.getLogger(__name__)

FORM = "tars:PATH"
SUFFIXES = (".tar", ".tar.gz", ".tgz")
CHUNK_BYTES = 16 << 20  # most members are read at once
INDEX = pa.schema([*NAMED, ("offset", pa.int64()), ("size_bytes", pa.int64())])


@contextmanager
def open_source(spec: str, state: Path, access: Access) -> Iterator[Fetch]:
    """Yields `fetch`, which returns a folder of a video's media in the tars. Raises RequestError if there are none."""
    tars = found(spec, SUFFIXES, "tar")
    table = index_of(tars, state, partial(_rows_of, state), INDEX)
    with ExitStack() as stack:
        files = [stack.enter_context(opened(tar, _bytes_index(tar, state))) for tar in tars]
        yield partial(Packed(spec, table, access.limits.size_bytes).fetch, partial(_copy, files))


def stamps(spec: str, state: Path) -> Callable[[str], str]:
    """Sizes and times of all files: any of them may hold what a video is cut from."""
    del state
    stamp = digest_of(stamp_of(found(spec, SUFFIXES, "tar")))
    return lambda video_id: stamp


def _bytes_index(tar: Path, state: Path) -> Path | None:
    """The index of a gzipped tar; None for another tar."""
    index = kept(tar, state).with_suffix(".gzidx")
    return index if index.is_file() and is_gzipped(tar) else None


def _rows_of(state: Path, tar: Path) -> list[dict]:
    rows = []
    index = kept(tar, state).with_suffix(".gzidx")
    index.unlink(missing_ok=True)
    with opened(tar) as file:
        try:
            for member in members(file):
                if name := named(member.name):
                    rows.append({**name, "offset": member.offset, "size_bytes": member.size_bytes})
        except ValueError as error:
            log.warning("tars: %s; what comes before that is used", error)
        if isinstance(file, Gzipped):
            file.keep_index(index)
    return rows


def _copy(tars: Sequence[BytesAt], row: dict, target: Path) -> None:
    tar = tars[row["file"]]
    offset = row["offset"]
    left = row["size_bytes"]
    with target.open("wb") as copy:
        try:
            while left and (chunk := tar.read_at(offset, min(CHUNK_BYTES, left))):
                copy.write(chunk)
                offset += len(chunk)
                left -= len(chunk)
        except ValueError as error:
            raise failure("not_media", str(error)) from None
    if left:
        raise ItemError(Outcome.UNAVAILABLE, "removed", f"{tar.path.name} has become shorter")
