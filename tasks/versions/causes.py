"""Why a sample has other bytes than in an earlier version, based on the contents of both tars."""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from schemas.errors import DataError
from schemas.files import MEND
from schemas.manifest import Row
from schemas.shard import JSON_SUFFIX, Shard, tar_path
from schemas.storage import as_local, is_whole

NO_TAR = "a tar is gone"
FEATURES = "other features of the same clip"
LABEL_FIELDS = ("labels", "label_indices", "tag", "text")
MEASURED = ("source", "checks")


@dataclass(frozen=True)
class Held:
    """One sample in a version."""

    shard: Shard
    row: Row  # of its sidecar

    def is_there(self, root: Path) -> bool:
        """Whether its tar exists."""
        return is_whole(tar_path(root, self.shard), self.shard.size_bytes)

    @property
    def members(self) -> dict[str, tuple[int, int]]:
        """Offset and size of each member in the tar, by suffix."""
        return {one["suffix"]: (one["offset"], one["size_bytes"]) for one in self.row["members"]}

    def read(self, root: Path, suffix: str) -> bytes:
        """The bytes of a member."""
        offset, size = self.members[suffix]
        with as_local(tar_path(root, self.shard)) as path:
            file = os.open(path, os.O_RDONLY)
            try:
                return os.pread(file, size, offset)
            finally:
                os.close(file)

    def description(self, root: Path) -> dict[str, Any]:
        """Its JSON. Raises DataError if it is damaged."""
        try:
            return json.loads(self.read(root, JSON_SUFFIX))
        except ValueError as error:
            where = f"{tar_path(root, self.shard)} is damaged: {self.row['key']}.{JSON_SUFFIX}"
            raise DataError(f"{where} is not JSON: {error}; {MEND}") from error


def why_changed(root: Path, old: Held, new: Held) -> tuple[str, str]:
    """Why the bytes of a sample differ under the same profile: a cause of `differences`, and evidence.

    Raises DataError if a member that is read is damaged.
    """
    labels = f"{', '.join(old.row['labels'])} -> {', '.join(new.row['labels'])}"
    has_other_labels = old.row["labels"] != new.row["labels"]
    if not (old.is_there(root) and new.is_there(root)):
        return ("relabelled", labels) if has_other_labels else ("unknown", NO_TAR)
    before = old.description(root)
    after = new.description(root)
    if before["source"].get("sha256") != after["source"].get("sha256"):
        return "other_media", ""
    if _features_differ(root, old, new):
        return "another_tool", FEATURES
    if any(before.get(name) != after.get(name) for name in LABEL_FIELDS):
        return "relabelled", labels if has_other_labels else "their names"
    return "another_tool", f"its JSON: {_names_of(before, after)}"


def _features_differ(root: Path, old: Held, new: Held) -> bool:
    olds = old.members
    news = new.members
    names = sorted(olds.keys() - {JSON_SUFFIX})
    if names != sorted(news.keys() - {JSON_SUFFIX}) or any(olds[name][1] != news[name][1] for name in names):
        return True
    return any(old.read(root, name) != new.read(root, name) for name in names)


def _names_of(before: Mapping[str, Any], after: Mapping[str, Any]) -> str:
    """The fields of a sample's JSON that differ; for measurements, the names of those that differ."""
    found = []
    for name in sorted({*before, *after}):
        one = before.get(name) or {}
        other = after.get(name) or {}
        if one != other and name in MEASURED:
            found += [f"{name}.{part}" for part in sorted({*one, *other}) if one.get(part) != other.get(part)]
        elif one != other:
            found.append(name)
    return ", ".join(found)
