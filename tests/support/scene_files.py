"""Generated scenes as somebody's own files, named so that windows of them make every split."""

from pathlib import Path

import pyarrow as pa

from flows.builds.pipeline import OF_OWN_FILES
from tasks.index import hashes
from tasks.sources.scenes.corpus import CorpusConfig, media_path, render_scene

NUM_VIDEOS = {"train": 6, "val": 3, "eval": 4}


def write_scenes(folder: Path) -> Path:
    """A folder with a scene of 10 s for each of NUM_VIDEOS."""
    corpus = CorpusConfig(sum(NUM_VIDEOS.values()), seed=5)
    names = iter(f"video{number:04d}" for number in range(10_000))
    for index, split in enumerate(split for split, count in NUM_VIDEOS.items() for _ in range(count)):
        render_scene(folder, corpus, index)
        name = next(name for name in names if split_of(name) == split)
        media_path(folder, corpus, index).rename(folder / f"{name}.mp4")
    (folder / "media").rmdir()
    return folder


def split_of(video_id: str) -> str:
    """The split that the index gives a video of a folder, by the law of `tasks/index.py`."""
    (place,) = (hashes(pa.chunked_array([[video_id]])) & 0xFFFFFFFF) / 2**32
    if place < OF_OWN_FILES["val_share"]:
        return "val"
    return "eval" if place >= 1 - OF_OWN_FILES["eval_share"] else "train"
