"""A shard, its offset index and the dataset version that lists them.

{key}.000.jpg ... {key}.0NN.jpg   frames; or {key}.mp4, one H.264 file with a key frame a second
{key}.wav or {key}.flac           s16 at the profile's rate; wav has a 44-byte header
{key}.log_mel.npy                 float16 (mels, frames), if the sound is mono at 16 kHz
{key}.json                        labels, times, valid_ms, provenance, checks
"""

import json
import shlex
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypedDict

import pyarrow as pa

from schemas import layout
from schemas.errors import DataError, RequestError
from schemas.feature import Profile, stored_profile
from schemas.files import (
    DIGEST,
    MEND,
    canonical_json,
    digest_of,
    read_json,
    read_text,
    write_json,
    write_text,
)
from schemas.manifest import ROW_FIELDS, Row
from schemas.outcome import Outcome
from schemas.storage import remove

VIDEO_SUFFIX = "mp4"
AUDIO_SUFFIX = "wav"
LOG_MEL_SUFFIX = "log_mel.npy"
JSON_SUFFIX = "json"
LATEST = "latest.json"  # in versions/: which is the newest
HISTORY = "history.jsonl"  # in versions/: what was published when
EMPTIED = "is_emptied"  # a fact of a version without samples: all were taken down
SUPERSEDED = "superseded"  # in versions/: the records of versions that were pruned or replaced
HISTORY_LINES = 1000  # the number of lines that are kept, besides those of existing versions

# The sidecar of a tar, and the rows of the manifest `shards`: one row per slot, with members only if it is ok.
SHARDS = pa.schema(
    [
        *ROW_FIELDS,
        ("shard", pa.string()),  # the stem of its tar
        ("shard_sha256", pa.string()),
        ("shard_size_bytes", pa.int64()),
        ("video_id", pa.string()),
        ("labels", pa.list_(pa.string())),
        ("split", pa.string()),
        ("valid_ms", pa.int64()),
        ("size_bytes", pa.int64()),  # of the sample's members
        # The position of each member in the tar: (suffix after the key and its dot, offset, size).
        (
            "members",
            pa.list_(
                pa.struct([("suffix", pa.string()), ("offset", pa.int64()), ("size_bytes", pa.int64())])
            ),
        ),
    ]
)


# The near-duplicates of a version: each row is a pair of clips of different videos, `first` < `second`.
DUPLICATES = pa.schema(
    [
        ("first", pa.string()),  # key
        ("second", pa.string()),
        ("first_split", pa.string()),
        ("second_split", pa.string()),
        ("kind", pa.string()),  # `sound_and_picture`, or `sound` if the pictures differ or show nothing
        ("sound_error", pa.float64()),  # share of differing bits: strangers have 0.39 and more
        ("picture_bits", pa.float64()),  # of 64, on average over the pictures; null if none shows anything
        ("late_ms", pa.int64()),  # how much later the second has the same content
        ("cluster", pa.int64()),  # of all near-duplicates connected by a chain of pairs; null for other kinds
    ]
)


def frame_suffix(index: int) -> str:
    """The member suffix of frame `index`, as `007.jpg`."""
    return f"{index:03d}.jpg"


def shard_name(split: str, part: int, sha256: str) -> str:
    """`{split}-{part:06d}-{sha256[:8]}`, the stem of a tar and of its sidecar."""
    return f"{split}-{part:06d}-{sha256[:8]}"


@dataclass(frozen=True)
class Shard:
    """One tar of a version; beside it is `{name}.parquet`, with one row per slot."""

    name: str
    split: str
    part: int
    sha256: str
    size_bytes: int
    num_samples: int


@dataclass(frozen=True)
class Version:
    """A finished set of shards: immutable, named by its digest."""

    digest: str
    profile: Profile
    fields: list[str]
    shards: list[Shard]

    @property
    def num_samples(self) -> int:
        """How many samples all its shards hold."""
        return sum(shard.num_samples for shard in self.shards)

    def of_split(self, split: str) -> list[Shard]:
        """The shards of one split, in part order."""
        return [shard for shard in self.shards if shard.split == split]


class Publication(TypedDict):
    """A line of `versions/history.jsonl`."""

    digest: str
    published_at: str  # ISO time
    replaces: str | None  # the digest of the version that it replaced


def make_version(profile: Profile, fields: Sequence[str], shards: Sequence[Shard]) -> Version:
    """The version of a set of shards whose samples have the member suffixes `fields`.

    Its digest depends on fields, profile and bytes, on nothing else.
    """
    digest = digest_of(list(fields), profile, sorted(shard.sha256 for shard in shards))
    return Version(digest, profile, list(fields), sorted(shards, key=lambda shard: shard.part))


def tar_path(root: Path, shard: Shard) -> Path:
    """The path of the tar of `shard` under `root`."""
    return root / layout.SHARDS / f"{shard.name}.tar"


def index_path(root: Path, shard: Shard) -> Path:
    """The path of the sidecar of `shard` under `root`."""
    return root / layout.SHARDS / f"{shard.name}.parquet"


def duplicates_path(root: Path, digest: str) -> Path:
    """The path of the near-duplicates of a version: a Parquet table of pairs, for people."""
    return root / layout.VERSIONS / f"{digest}.duplicates.parquet"


def receipt_path(root: Path, digest: str) -> Path:
    """The path of the receipt of a version: all that is known of it but its media."""
    return root / layout.VERSIONS / f"{digest}.receipt.parquet"


def exclude_path(root: Path, digest: str) -> Path:
    """The path of the exclusion list of a version: keys not to train on, one per line."""
    return root / layout.VERSIONS / f"{digest}.exclude.txt"


def croissant_path(root: Path, digest: str) -> Path:
    """The path of the Croissant file of a version, for catalogues and loaders."""
    return root / layout.VERSIONS / f"{digest}.croissant.json"


def read_exclusions(root: Path, digest: str) -> frozenset[str]:
    """The keys of a version's exclusion list; empty if it has no list."""
    path = exclude_path(root, digest)
    return frozenset(read_text(path).split()) if path.is_file() else frozenset()


def write_version(
    root: Path, version: Version, facts: dict[str, Any], *, replaces: str | None = None
) -> Path:
    """Writes `versions/{digest}.json`, its list of tars and its line of the history; returns the JSON.

    `latest.*` point at it, unless it `replaces` a version that was not the latest. `facts` are stored with the version
    for people (counts, funnel); they are not part of the digest.
    """
    path = root / layout.VERSIONS / f"{version.digest}.json"
    if not path.is_file():
        write_listing(root, version)
        write_json(path, {**asdict(version), "facts": facts})
    _record(root, version.digest, replaces)
    if replaces in (None, latest_digest(root)):
        write_latest(root, version)
    return path


def write_listing(root: Path, version: Version, name: str = "") -> None:
    """Writes a version's list of tars, one per line, for other readers, as `versions/{name or digest}.txt`."""
    listing = "".join(f"../{layout.SHARDS}/{shard.name}.tar\n" for shard in version.shards)
    write_text(root / layout.VERSIONS / f"{name or version.digest}.txt", listing)


def write_latest(root: Path, version: Version) -> None:
    """Makes `latest.*` point at a version."""
    write_listing(root, version, "latest")
    write_json(root / layout.VERSIONS / LATEST, {"digest": version.digest})


def read_facts(root: Path, digest: str) -> dict[str, Any]:
    """The facts of a version for people, as passed to `write_version`."""
    return read_json(root / layout.VERSIONS / f"{digest}.json", MEND)["facts"]


def read_recorded_facts(root: Path, digest: str) -> dict[str, Any]:
    """The facts of a version, retired or not; empty if its record is gone."""
    folder = root / layout.VERSIONS
    paths = (folder / f"{digest}.json", folder / SUPERSEDED / f"{digest}.json")
    path = next((path for path in paths if path.is_file()), None)
    return read_json(path, MEND).get("facts", {}) if path else {}


def read_version(root: Path, digest: str | None = None) -> Version:
    """The version `digest` under `root`, or the latest. Raises RequestError if there is none."""
    folder = root / layout.VERSIONS
    digest = digest or latest_digest(root)
    path = folder / f"{digest}.json"
    if digest is None or not path.is_file():
        named = f"version {digest}" if digest else "version"
        raise RequestError(
            f"no dataset {named} under {root} (there: {', '.join(published(root)) or 'none'}); "
            f"build one with `{shlex.join(['mcgurk', 'build', '--root', str(root)])}`"
        )
    return _parsed(path)


def _parsed(path: Path) -> Version:
    stored = read_json(path, MEND)
    try:
        profile = stored_profile(stored["profile"])
        shards = [Shard(**shard) for shard in stored["shards"]]
        return Version(stored["digest"], profile, stored["fields"], shards)
    except (KeyError, TypeError) as error:
        raise DataError(f"{path} is damaged: it does not describe a version ({error}); {MEND}") from error


def without_forgotten(rows: Sequence[Row]) -> list[Row]:
    """The rows of an index as published: what was taken down keeps its slot, without a name."""
    return [
        {**row, "key": "", "video_id": None} if row["outcome"] == Outcome.FORGOTTEN else row for row in rows
    ]


def latest_digest(root: Path) -> str | None:
    """The digest of the newest version under `root`, or None. Raises DataError if a file names none."""
    path = root / layout.VERSIONS / LATEST
    if not path.is_file():
        return None
    stored = read_json(path, MEND)
    digest = stored.get("digest") if isinstance(stored, dict) else None
    if not isinstance(digest, str):
        raise DataError(f"{path} is damaged: it names no version; {MEND}")
    return digest


def published(root: Path) -> list[str]:
    """The digests of the existing versions, from the oldest publication to the latest.

    A version that was built again counts by the last time; one that replaced another takes its place.
    """
    order: list[str] = []
    for line in read_history(root):
        digest = line["digest"]
        replaced = line["replaces"]
        if replaced is None:
            order = [*(one for one in order if one != digest), digest]
        elif digest in order:
            order = [one for one in order if one != replaced]
        else:
            order = [digest if one == replaced else one for one in order]
    standing = standing_digests(root)
    unrecorded = sorted(standing - set(order))  # from before there was a history
    return [*unrecorded, *(digest for digest in order if digest in standing)]


def standing_digests(root: Path) -> set[str]:
    """The digests whose records exist, readable or not."""
    names = {path.name for path in (root / layout.VERSIONS).glob("*.json")} - {LATEST}
    # A Croissant file has another suffix before its last.
    return {stem for name in names if "." not in (stem := name.removesuffix(".json"))}


def read_history(root: Path) -> list[Publication]:
    """Every publication in order: digest, time, and the version that it replaced (usually None)."""
    path = root / layout.VERSIONS / HISTORY
    if not path.is_file():
        return []
    try:
        return [parsed_line(line) for line in path.read_bytes().splitlines()]
    except ValueError as error:
        raise DataError(f"{path} is damaged: a line of it is {error}; {MEND}") from error


def parsed_line(line: bytes) -> Publication:
    """A line of the history. Raises ValueError if it is not one, or was changed."""
    try:
        stored = json.loads(line)
        digest = stored.pop(DIGEST, None)
        publication = Publication(**{name: stored[name] for name in Publication.__annotations__})
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"no publication ({error})") from error
    if digest not in (None, digest_of(publication)):
        raise ValueError("not what was written")
    return publication


def write_history(root: Path, lines: Sequence[Publication]) -> None:
    """Writes the history, each line with its digest."""
    text = "".join(canonical_json({**one, DIGEST: digest_of(one)}) + "\n" for one in lines)
    write_text(root / layout.VERSIONS / HISTORY, text)


def _record(root: Path, digest: str, replaces: str | None) -> None:
    """Adds a line to the history unless it is there: dates are not part of an immutable version."""
    lines = read_history(root)
    is_known = lines and lines[-1]["digest"] == digest
    if replaces is not None:
        is_known = any((line["digest"], line["replaces"]) == (digest, replaces) for line in lines)
    if is_known:
        return
    now = datetime.now(UTC).isoformat()
    line: Publication = {"digest": digest, "published_at": now, "replaces": replaces}
    write_history(root, [*lines, line])


def shorten_history(root: Path, most: int = HISTORY_LINES) -> None:
    """Keeps the last `most` publications, and the earlier ones that determine the order of the existing versions."""
    lines = read_history(root)
    needed: set[str | None] = set(published(root))
    kept = []
    for number, line in reversed(list(enumerate(lines))):
        names = {line["digest"], line["replaces"]} - {None}  # the version, and the one it replaced
        if number >= len(lines) - most or names & needed:
            kept.append(line)
            needed |= names
    if len(kept) < len(lines):
        write_history(root, kept[::-1])


def retire(root: Path, digest: str) -> None:
    """Retires a version: its JSON moves to `versions/superseded/`, its pages and lists are removed.

    What remains records which shards a model was trained on, and names no sample.
    """
    path = root / layout.VERSIONS / f"{digest}.json"
    pages = [path.with_suffix(suffix) for suffix in (".txt", ".md", ".html")]
    lists = [of(root, digest) for of in (duplicates_path, exclude_path, croissant_path, receipt_path)]
    if path.is_file():
        write_text(root / layout.VERSIONS / SUPERSEDED / path.name, path.read_text())
    remove(*pages, *lists, path)


def read_superseded(root: Path) -> list[Version]:
    """The retired versions; their tars may no longer exist."""
    return [_parsed(path) for path in _superseded(root)]


def read_successors(root: Path, digest: str) -> list[Version]:
    """The versions that replaced a version, and the ones that replaced those, in order, as far as records are left."""
    standing = published(root)
    retired = {version.digest: version for version in read_superseded(root)}
    replaced = {line["replaces"]: line["digest"] for line in read_history(root) if line["replaces"]}
    found = []
    seen = {digest}
    while (digest := replaced.get(digest, "")) and digest not in seen:
        seen.add(digest)
        version = read_version(root, digest) if digest in standing else retired.get(digest)
        found += [version] if version else []
    return found


def drop_superseded(root: Path, needed: Collection[str]) -> list[str]:
    """Removes the records of retired versions except the digests `needed`; returns the digests of those removed."""
    old = [path for path in _superseded(root) if path.stem not in needed]
    remove(*old)
    return [path.stem for path in old]


def _superseded(root: Path) -> list[Path]:
    return sorted((root / layout.VERSIONS / SUPERSEDED).glob("*.json"))
