"""What is missing to train is told as training itself would find it."""

from dataclasses import replace

import pytest

from flows.experiments.trainable import LEAST_VIDEOS, missing_to_train, shortest_usable_ms
from schemas.feature import PROFILES, Profile
from schemas.manifest import PartHeader, write_part
from schemas.shard import SHARDS, Shard, exclude_path, index_path, make_version
from tasks.features import member_suffixes
from training.evaluation.correspondence import MIN_VIDEOS
from training.reading.sampling import View, valid_steps


def version_of(root, splits: dict[str, list[str]], valid_ms: int = 10_000, profile: Profile | None = None):
    """A version whose indexes list these videos; it has no tars."""
    shards = []
    for part, (split, videos) in enumerate(splits.items()):
        shard = Shard(f"{split}-{part:06d}-00000000", split, part, f"{part:064x}", 1, len(videos))
        rows = [
            {"key": f"{v}_{n}_0", "video_id": v, "outcome": "ok", "valid_ms": valid_ms, "split": split}
            for n, v in enumerate(videos)
        ]
        write_part(index_path(root, shard), rows, SHARDS, PartHeader("pack", "", {}))
        shards.append(shard)
    return make_version(profile or Profile(), member_suffixes(profile or Profile()), shards)


ENOUGH = {"train": ["a", "b"], "val": ["c", "d"], "eval": ["e", "f", "g"]}


def test_enough_is_enough(tmp_path):
    assert missing_to_train(tmp_path, version_of(tmp_path, ENOUGH)) == ""
    assert LEAST_VIDEOS["eval"] == MIN_VIDEOS


@pytest.mark.parametrize("split", ENOUGH)
def test_a_split_that_lacks_videos_is_named_with_what_to_do(tmp_path, split):
    fewer = {**ENOUGH, split: [ENOUGH[split][0]] * 3}  # clips of one video: they can't be paired

    told = missing_to_train(tmp_path, version_of(tmp_path, fewer))

    assert told.startswith(f"{split} has 1 of {len(ENOUGH[split])} videos that are needed (")
    assert ";" not in told
    del fewer[split]
    assert f"{split} has 0 of" in missing_to_train(tmp_path, version_of(tmp_path, fewer))


def test_clips_that_are_too_short_or_excluded_do_not_count(tmp_path):
    short = version_of(tmp_path, ENOUGH, valid_ms=900)
    assert missing_to_train(tmp_path, short).count(" has 0 of ") == 3

    version = version_of(tmp_path, ENOUGH)
    exclude_path(tmp_path, version.digest).parent.mkdir()
    exclude_path(tmp_path, version.digest).write_text("e_0_0\n")
    assert missing_to_train(tmp_path, version).startswith("eval has 2 of 3")


@pytest.mark.parametrize("profile", [p for p in PROFILES.values() if p.has_log_mel], ids=lambda p: p.name)
def test_the_shortest_usable_clip_is_what_a_sampler_finds_a_step_in(profile):
    least_ms = shortest_usable_ms(profile)

    assert len(valid_steps(profile, int(least_ms), View())) > 0
    assert len(valid_steps(profile, int(least_ms) - 1, View())) == 0
    assert shortest_usable_ms(replace(profile, length_ms=400)) == float("inf")
