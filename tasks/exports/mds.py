"""MosaicML streaming's MDS: a folder for each split, and the members of each sample as bytes, under their suffixes."""

from pathlib import Path

from schemas.shard import Version
from tasks.versions.unpacking import not_installed, samples_of, splits_of

READ = 'streaming.StreamingDataset(local="{folder}", split="{split}", batch_size=1)'


def write(root: Path, version: Version, folder: Path) -> None:
    """Writes every sample of the version."""
    try:
        from streaming import MDSWriter  # pyright: ignore[reportMissingImports]  (an extra)
    except ImportError as error:
        raise not_installed("mds", "mosaicml-streaming") from error
    columns = {"key": "str", **dict.fromkeys(version.fields, "bytes")}
    for split in splits_of(version):
        with MDSWriter(out=str(folder / split), columns=columns) as writer:
            for key, members in samples_of(root, version, split):
                writer.write({"key": key, **members})
