"""The embedded default: generated scenes, served by a loopback HTTP host and downloaded like any other media.

It is the only source that imports another: it is the source `http` with a host of its own, so that a demo really
downloads. The corpus (media, lists, ground truth) is in the state folder; `render` makes what is missing, also after a
kill.
"""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

from schemas.errors import RequestError
from schemas.files import canonical_json, read_kept, write_text
from schemas.layout import STUDIO
from tasks.files.stamps import stamp_of
from tasks.progress import MapItems, tracked
from tasks.sources import Fetch, http
from tasks.sources.scenes.corpus import CorpusConfig, render_scene, scene_ids, write_lists, write_truth
from tasks.transport.hatches import YTDLP
from tasks.transport.lanes import LaneConfig
from tasks.transport.policy import Access

log = logging.getLogger(__name__)

FORM = "studio"
# One lane fetches through pages and lists of fragments, so that each demo exercises that path.
LANES = (LaneConfig(), LaneConfig("yt-dlp", through=YTDLP))
CONFIG = "corpus.json"
KEPT_EVERY = 200  # scenes: at most this many are lost by a kill


def folder_of(state: Path) -> Path:
    """The folder of the corpus."""
    return state / STUDIO


def truth_of(state: Path) -> Path:
    """The ground truth, keyed by video id; it never travels inside the media."""
    return folder_of(state) / "truth.parquet"


def render(state: Path, config: CorpusConfig, map_items: MapItems) -> list[Path]:
    """Renders the scenes that are missing, writes lists and truth; returns the lists for the index."""
    folder = folder_of(state)
    known = _known_truth(state, config)
    missing = [
        n
        for n, video in enumerate(scene_ids(config))
        if video not in known or not _media(folder, video).is_file()
    ]
    rendered = map_items(partial(render_scene, folder, config), missing) if missing else ()
    for done, row in enumerate(tracked(rendered, len(missing), "studio", log), 1):
        known[row["video_id"]] = row
        if done % KEPT_EVERY == 0 or done == len(missing):
            write_truth(folder, list(known.values()))
            write_text(folder / CONFIG, canonical_json(config))
    return lists(folder, config)


def lists(folder: Path, config: CorpusConfig) -> list[Path]:
    """Writes the segment lists (and, beside them, the label table) into `folder`."""
    return [path for path in write_lists(folder, config) if path.stem.endswith("segments")]


def _known_truth(state: Path, config: CorpusConfig) -> dict[str, dict]:
    """The rows of scenes that were rendered with this configuration."""
    stored = folder_of(state) / CONFIG
    path = truth_of(state)
    truth = read_kept(path)
    if truth is None or not stored.is_file() or stored.read_text() != canonical_json(config):
        return {}
    return {row["video_id"]: row for row in truth.to_pylist()}


def _media(folder: Path, video_id: str) -> Path:
    return folder / "media" / f"{video_id}.mp4"


def stamps(spec: str, state: Path) -> Callable[[str], str]:
    """Size and time of a scene's file."""
    del spec
    return lambda video_id: stamp_of([_media(folder_of(state), video_id)])


@contextmanager
def open_source(spec: str, state: Path, access: Access) -> Iterator[Fetch]:
    """Yields `fetch` for scenes that `render` has made, through a loopback HTTP host."""
    media = folder_of(state) / "media"
    if not media.is_dir():
        raise RequestError(
            f"--source {spec}: no scenes in {folder_of(state)}; the preset `demo` renders them"
        )
    with serving(media) as address, http.open_source(f"{address}/{{video_id}}.mp4", state, access) as fetch:
        yield fetch


@contextmanager
def serving(folder: Path) -> Iterator[str]:
    """The files of `folder` over HTTP on a free loopback port; yields the address."""
    host = _Host(("127.0.0.1", 0), partial(_Quiet, directory=str(folder)))
    thread = Thread(target=host.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{host.server_port}"
    finally:
        host.shutdown()
        host.server_close()
        thread.join()


class _Host(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        log.debug("a client left early", exc_info=True)  # yt-dlp reads the head of a file, then reconnects


class _Quiet(SimpleHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args) -> None:
        log.debug(format, *args)
