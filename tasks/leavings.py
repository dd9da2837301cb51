"""What writers leave behind when they are killed: temporary names, scratch folders, fragments of features."""

from pathlib import Path

from schemas.storage import sweep
from tasks.feature_files import all_fragments
from tasks.leases import NAMES

# Whoever holds the lease is the only writer in these folders.
FOLDERS = {
    "segments": ("segments", "segments/checked"),
    "clips": ("clips", "clips/checked", "clips/media/*"),
    "features": ("", "features", "features/*", "shards", "versions"),
    "tars": (),
    "pages": ("reports/*",),
}


def remove_leavings(root: Path, *names: str) -> None:
    """Removes what was left in the folders of the leases `names`, which the caller holds."""
    for name in sorted(names, key=NAMES.index):
        for pattern in FOLDERS[name]:
            for folder in root.glob(pattern) if pattern.endswith("*") else [root / pattern]:
                sweep(folder)
    if "features" in names:
        for fragment in all_fragments(root):
            fragment.unlink()
