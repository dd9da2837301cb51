"""LitData: a folder for each split, and the members of each sample as bytes, under their suffixes."""

from pathlib import Path

from schemas.shard import Version
from tasks.versions.unpacking import not_installed, samples_of, splits_of

READ = 'litdata.StreamingDataset("{folder}/{split}")'
CHUNK = "64MB"  # as in LitData's own examples


def write(root: Path, version: Version, folder: Path) -> None:
    """Writes every sample of the version.

    Does not use `litdata.optimize`: its processes keep chunks in their own folder, where a kill would leave them.
    """
    try:
        from litdata.streaming import Cache  # pyright: ignore[reportMissingImports]  (an extra)
    except ImportError as error:
        raise not_installed("litdata", "litdata") from error
    for split in splits_of(version):
        (folder / split).mkdir()
        cache = Cache(str(folder / split), chunk_bytes=CHUNK)
        for number, (key, members) in enumerate(samples_of(root, version, split)):
            cache[number] = {"key": key, **members}
        cache.done()
        cache.merge(1)
