"""Media on disk: `folder:PATH`, files named by video id or segment, or listed in a CSV `video_id,file`.

A file whose name is not a valid id gets one that is derived from it: `files/folders.py`.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from schemas.outcome import ItemError, Outcome
from tasks.files.folders import Files, files_of, recorded, stem_of
from tasks.files.stamps import stamp_of
from tasks.files.stems import Stems
from tasks.sources import Fetch
from tasks.transport.policy import Access

FORM = "folder:PATH"
PIECES = "pieces"  # in the folder that a video is fetched into: links to the files of its segments


@contextmanager
def open_source(spec: str, state: Path, access: Access) -> Iterator[Fetch]:
    """Yields `fetch` over the files under PATH, or listed in PATH itself or in PATH/videos.csv."""
    del access
    files = files_of(spec, state)
    on_record = recorded(state)
    named = sorted((stem_of(name), place, name) for place, name in enumerate(files.walked.names))
    stems = Stems(len(named), lambda row: named[row][0])

    def fetch(video_id: str, folder: Path) -> Path:
        whole = files.by_id.get(video_id)
        if whole is not None and files.path(whole).is_file():
            return files.path(whole)  # the files are the user's own: they are read in place
        rows = {} if video_id in on_record else stems.of(video_id)
        # A file with this very name has another id here: the id stood for a file that is gone.
        found = {key: named[row][2] for key, row in rows.items() if named[row][0] != video_id}
        if not found:
            raise ItemError(Outcome.UNAVAILABLE, "removed", f"no file for {video_id} in {spec}")
        return _linked(found, files, folder / PIECES)

    yield fetch


def stamps(spec: str, state: Path) -> Callable[[str], str]:
    """Sizes and times of the files of a video or its segments."""
    files = files_of(spec, state)
    named = sorted((stem_of(name), name) for name in files.walked.names)
    stems = Stems(len(named), lambda row: named[row][0])

    def stamp(video_id: str) -> str:
        whole = files.by_id.get(video_id)
        names = [whole] if whole is not None else [named[row][1] for row in stems.of(video_id).values()]
        return stamp_of(files.path(name) for name in names)

    return stamp


def _linked(found: Mapping[str, str], files: Files, pieces: Path) -> Path:
    """A folder of links to files, each named by the segment or the video that it holds."""
    pieces.mkdir(exist_ok=True)
    for stem, name in found.items():
        link = pieces / f"{stem}{Path(name).suffix.lower()}"
        if not link.is_symlink():
            link.symlink_to(files.path(name).absolute())
    return pieces
