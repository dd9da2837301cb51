"""Hugging Face `datasets`: the published part of a root, in the same places, with its card at the top.

The shards stay WebDataset tars, which `datasets` and the hub read directly. So the result is a root, too: everything
that docs/shards.md says about reading a root applies. On the root's own disk, tars are linked, not copied: the bytes
behind a tar's name never change.
"""

import os
import shutil
from pathlib import Path

from schemas import layout
from schemas.files import write_json
from schemas.shard import (
    Version,
    croissant_path,
    duplicates_path,
    exclude_path,
    index_path,
    receipt_path,
    write_latest,
    write_listing,
)
from tasks.versions.card import card_of
from tasks.versions.croissant import croissant_of
from tasks.versions.unpacking import checked_tar, copy_whole, shards_in_turn

READ = 'datasets.load_dataset("{folder}", split="{split}")'


def write(root: Path, version: Version, folder: Path) -> None:
    """Writes card, records, lists and shards of the version."""
    digest = version.digest
    versions = folder / layout.VERSIONS
    versions.mkdir()
    (folder / layout.SHARDS).mkdir()
    for path in (
        root / layout.VERSIONS / f"{digest}.json",
        exclude_path(root, digest),
        duplicates_path(root, digest),
        receipt_path(root, digest),
    ):
        if path.is_file():  # a version may be older than lists and receipts
            copy_whole(path, versions / path.name)
    write_listing(folder, version)
    write_latest(folder, version)
    write_json(croissant_path(folder, digest), croissant_of(root, version))
    (folder / "README.md").write_text(card_of(root, version))
    for shard in shards_in_turn(version):
        sidecar = index_path(root, shard)
        with checked_tar(root, shard) as tar:
            _link(tar, folder / layout.SHARDS / f"{shard.name}.tar")
        copy_whole(sidecar, folder / layout.SHARDS / sidecar.name)


def _link(path: Path, target: Path) -> None:
    """Links the file under another name; copies it to another disk, or if there are no hard links."""
    try:
        os.link(path, target)
    except OSError:
        shutil.copyfile(path, target)
