"""Whether a version is enough to train on and to evaluate with, without loading anything that trains."""

from collections.abc import Mapping
from pathlib import Path

from schemas.feature import Profile
from schemas.manifest import read_part
from schemas.outcome import Outcome
from schemas.shard import Version, index_path, read_exclusions

LEAST_VIDEOS = {"train": 2, "val": 2, "eval": 3}  # to form pairs, and to leave some out of a probe's training
STEP_MS = 1000  # of sound around a frame: what models without special needs look at
REMEDIES = {
    "train": "more segments",
    "val": "more segments: a share of the training videos becomes val",
    "eval": "the list of an evaluation set (AudioSet's is eval_segments.csv), or more of it",
}
COLUMNS = ("key", "video_id", "outcome", "valid_ms")


def missing_to_train(root: Path, version: Version) -> str:
    """What `version` lacks for training and evaluation, with the remedy; empty if it is enough.

    Reads no more indexes of shards than it takes to find enough videos of each split.
    """
    excluded = read_exclusions(root, version.digest)
    found = {split: _num_videos(root, version, split, excluded) for split in LEAST_VIDEOS}
    return "; ".join(_shortage(split, found) for split, least in LEAST_VIDEOS.items() if found[split] < least)


def _num_videos(root: Path, version: Version, split: str, excluded: frozenset[str]) -> int:
    """How many videos of a split can be used; counts no further than are needed."""
    videos = set()
    shortest_ms = shortest_usable_ms(version.profile)
    for shard in version.of_split(split):
        videos |= {
            row["video_id"]
            for row in read_part(index_path(root, shard), COLUMNS)
            if row["outcome"] == Outcome.OK and row["key"] not in excluded and row["valid_ms"] >= shortest_ms
        }
        if len(videos) >= LEAST_VIDEOS[split]:
            break
    return len(videos)


def shortest_usable_ms(profile: Profile) -> float:
    """How long content must be to hold one frame with a step of sound around it."""
    times_ms = ((k + 0.5) * 1000 / profile.frame_rate_hz for k in range(profile.num_frames))
    return next((time + STEP_MS / 2 for time in times_ms if time >= STEP_MS / 2), float("inf"))


def _shortage(split: str, found: Mapping[str, int]) -> str:
    return f"{split} has {found[split]} of {LEAST_VIDEOS[split]} videos that are needed ({REMEDIES[split]})"
