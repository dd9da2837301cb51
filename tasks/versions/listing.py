"""Every version that a root knows of: existing ones, retired ones, and those of which only a date is left."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from schemas import layout
from schemas.errors import RequestError
from schemas.shard import Version, latest_digest, published, read_history, read_superseded, read_version

LATEST = "latest"
PREVIOUS = "previous"
MIN_DIGITS = 4  # of a digest that is given by its first digits
SHORT = 12  # characters of a digest that are shown to people
Standing = Literal["latest", "kept", "superseded", "dropped"]


@dataclass(frozen=True)
class Listed:
    """One version.

    Attributes:
        digest: in full.
        standing: the latest; kept beside it; superseded (its record is left); dropped (its date is left).
        published_at: ISO time of its last publication; None if it is older than the history.
        replaces: the version that it replaced when something was taken down or mended.
        samples, shards, size_bytes, profile: None if its record is gone; `size_bytes` is that of its tars.
    """

    digest: str
    standing: Standing
    published_at: str | None
    replaces: str | None
    samples: int | None = None
    shards: int | None = None
    size_bytes: int | None = None
    profile: str | None = None


def listed(root: Path) -> list[Listed]:
    """Every version, from the oldest publication to the latest; the existing ones come last, in their order."""
    standing = published(root)
    known = {version.digest: version for version in read_superseded(root)}
    lines = {line["digest"]: line for line in read_history(root)}  # the last of each
    latest = latest_digest(root)
    past = [digest for digest in dict.fromkeys([*known, *lines]) if digest not in standing]
    past.sort(key=lambda digest: lines[digest]["published_at"] if digest in lines else "")
    found = []
    for digest in (*past, *standing):
        line = lines.get(digest)
        version = read_version(root, digest) if digest in standing else known.get(digest)
        one = Listed(
            digest,
            LATEST
            if digest == latest
            else "kept"
            if digest in standing
            else "superseded"
            if version
            else "dropped",
            line["published_at"] if line else None,
            line["replaces"] if line else None,
        )
        found.append(_measured(one, version) if version else one)
    return found


def _measured(one: Listed, version: Version) -> Listed:
    size = sum(shard.size_bytes for shard in version.shards)
    facts = (version.num_samples, len(version.shards), size, version.profile.name)
    return Listed(one.digest, one.standing, one.published_at, one.replaces, *facts)


def find_version(root: Path, name: str) -> Version:
    """The version that a digest, its first digits, `latest` or `previous` name, retired or not.

    Raises RequestError if there is none or several, and if its record is gone.
    """
    every = listed(root)
    found = [one for one in every if one.digest == _digest_of(root, name)]
    if not found and len(name) >= MIN_DIGITS:
        found = [one for one in every if one.digest.startswith(name)]
    if len(found) == 1:
        return _read(root, found[0])
    problem = "matches several versions" if found else "is not a version here"
    shown = ", ".join(one.digest[:SHORT] for one in every) or "none"
    raise RequestError(f"{name!r} {problem}; there are, oldest first: {shown} ({root / layout.VERSIONS})")


def _digest_of(root: Path, name: str) -> str | None:
    """The digest that `latest` or `previous` stands for; None for other names, and if there is no such version."""
    standing = published(root)
    if name == PREVIOUS:
        return standing[-2] if len(standing) > 1 else None
    return latest_digest(root) if name == LATEST else None


def _read(root: Path, one: Listed) -> Version:
    if one.standing == "dropped":
        raise RequestError(
            f"version {one.digest[:SHORT]}: only its date is left, because `mcgurk prune` removed its record; "
            "compare versions that are listed with their samples"
        )
    if one.standing != "superseded":
        return read_version(root, one.digest)
    return next(version for version in read_superseded(root) if version.digest == one.digest)
