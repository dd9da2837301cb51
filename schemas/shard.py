"""A shard, its offset index and the dataset version that lists them.

{key}.000.jpg ... {key}.0NN.jpg   frames; or {key}.mp4, one H.264 file with a key frame a second
{key}.wav or {key}.flac           s16 at the profile's rate; wav has a 44-byte header
{key}.log_mel.npy                 float16 (mels, frames), where the sound is mono at 16 kHz
{key}.json                        labels, times, valid_ms, provenance, checks
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from schemas.feature import Profile
from schemas.manifest import ROW_FIELDS, canonical_json, digest_of, write_text

VIDEO_SUFFIX = "mp4"
AUDIO_SUFFIX = "wav"
LOG_MEL_SUFFIX = "log_mel.npy"
JSON_SUFFIX = "json"

# The sidecar of a tar, and the rows of the manifest `shards`: one row a slot; members only where it is ok.
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
        # Where each member's bytes stand in the tar: (suffix after the key and its dot, offset, size).
        (
            "members",
            pa.list_(
                pa.struct([("suffix", pa.string()), ("offset", pa.int64()), ("size_bytes", pa.int64())])
            ),
        ),
    ]
)


def frame_suffix(index: int) -> str:
    """The member suffix of frame `index`, as `007.jpg`."""
    return f"{index:03d}.jpg"


def member_suffixes(profile: Profile) -> list[str]:
    """The suffixes of every sample of a version with `profile`, sorted as they stand in the tar."""
    frames = [frame_suffix(k) for k in range(profile.num_frames)]
    pictures = frames if profile.picture == "jpeg" else [VIDEO_SUFFIX]
    log_mel = [LOG_MEL_SUFFIX] if profile.has_log_mel else []
    return sorted([*pictures, JSON_SUFFIX, *log_mel, profile.sound])


def shard_name(split: str, part: int, sha256: str) -> str:
    """`{split}-{part:06d}-{sha256[:8]}`, the stem of a tar and of its sidecar."""
    return f"{split}-{part:06d}-{sha256[:8]}"


@dataclass(frozen=True)
class Shard:
    """One tar of a version; beside it lies `{name}.parquet`, one row a slot."""

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

    def of_split(self, split: str) -> list[Shard]:
        """The shards of one split, in part order."""
        return [shard for shard in self.shards if shard.split == split]


def make_version(profile: Profile, shards: list[Shard]) -> Version:
    """The version of a set of shards: its digest knows fields, configuration and bytes, nothing else."""
    fields = member_suffixes(profile)
    digest = digest_of(fields, profile, sorted(shard.sha256 for shard in shards))
    return Version(digest, profile, fields, sorted(shards, key=lambda shard: shard.part))


def tar_path(root: Path, shard: Shard) -> Path:
    """Where the tar of `shard` lies under `root`."""
    return root / "shards" / f"{shard.name}.tar"


def index_path(root: Path, shard: Shard) -> Path:
    """Where the sidecar of `shard` lies under `root`."""
    return root / "shards" / f"{shard.name}.parquet"


def write_version(root: Path, version: Version, facts: dict[str, Any]) -> Path:
    """Writes `versions/{digest}.json`, its list of tars, and points `latest.*` at them; returns the JSON.

    `facts` stand beside the version for people (counts, funnel); they are no part of the digest.
    """
    path = root / "versions" / f"{version.digest}.json"
    listing = "".join(f"../shards/{shard.name}.tar\n" for shard in version.shards)
    if not path.exists():
        write_text(path.with_suffix(".txt"), listing)
        write_text(path, canonical_json({**asdict(version), "facts": facts}) + "\n")
    write_text(root / "versions" / "latest.txt", listing)
    write_text(root / "versions" / "latest.json", canonical_json({"digest": version.digest}) + "\n")
    return path


def read_version(root: Path, digest: str | None = None) -> Version:
    """The version `digest` under `root`, or the latest. Raises ValueError where there is none."""
    folder = root / "versions"
    digest = digest or latest_digest(root)
    path = folder / f"{digest}.json"
    if digest is None or not path.is_file():
        known = sorted(p.stem for p in folder.glob("*.json") if p.stem != "latest")
        raise ValueError(
            f"no dataset version {digest or ''} under {root} (there: {', '.join(known) or 'none'}); "
            f"build one with `mcgurk build --root {root}`"
        )
    stored = json.loads(path.read_text())
    profile, shards = Profile(**stored["profile"]), [Shard(**shard) for shard in stored["shards"]]
    return Version(stored["digest"], profile, stored["fields"], shards)


def latest_digest(root: Path) -> str | None:
    """The digest of the newest version under `root`, or None."""
    path = root / "versions" / "latest.json"
    return json.loads(path.read_text())["digest"] if path.is_file() else None
