"""Why samples differ between versions without receipts: each cause planted by itself, in shards as pack writes them."""

import json

import pytest

from schemas.feature import Profile
from schemas.outcome import Outcome
from schemas.shard import Shard, make_version, read_superseded, retire, write_version
from tasks.shard_files import write_shard
from tasks.versions.sidecars import differences_of_shards

PROFILE = Profile("tiny", length_ms=2000)
OF_BEFORE = {"labels": ["/m/1"], "tag": ["Speech"], "source": {"sha256": "a"}, "checks": {"peak": 0.5}}
KEYS = ("one_0_2000", "two_0_2000")


def packed(root, part, samples):
    """A shard: each slot is the JSON and the sound of a sample, or (outcome, reason)."""
    rows = []
    members = {}
    for key, sample in zip(KEYS, samples, strict=False):
        outcome, reason = sample if isinstance(sample, tuple) and isinstance(sample[0], str) else ("ok", "")
        row = {
            "key": key,
            "outcome": outcome,
            "reason": reason,
            "detail": "",
            "digest": "",
            "fingerprint": "",
        }
        row |= {"video_id": key[:3], "labels": ["/m/1"], "split": "train", "valid_ms": 2000}
        if outcome == Outcome.OK:
            description, sound = sample
            row["labels"] = description["labels"]
            members[key] = {"json": json.dumps(description).encode(), "wav": sound}
        rows.append(row)
    write_shard(root / "shards", part, iter(members.items()), rows)
    one = rows[0]
    num_ok = sum(row["outcome"] == Outcome.OK for row in rows)
    return Shard(one["shard"], "train", part, one["shard_sha256"], one["shard_size_bytes"], num_ok)


def version(root, *shards, rules="r"):
    made = make_version(PROFILE, ["json", "wav"], shards)
    write_version(root, made, {"rules": rules, "funnel": {"segments": 2}})
    return made


def told(root, before, after):
    found = differences_of_shards(root, before, after)
    return [(one.key, one.cause, one.detail) for one in found.segments], found


def sample(sound=b"sound", **changes):
    return {**OF_BEFORE, **changes}, sound


@pytest.mark.parametrize(
    ("after", "cause", "detail"),
    [
        (sample(b"other", source={"sha256": "b"}), "other_media", ""),
        (sample(b"other"), "another_tool", "other features of the same clip"),
        (sample(b"longer sound"), "another_tool", "other features of the same clip"),
        (sample(labels=["/m/2"]), "relabelled", "/m/1 -> /m/2"),
        (sample(tag=["Voice"]), "relabelled", "their names"),
        (sample(checks={"peak": 0.6}), "another_tool", "its JSON: checks.peak"),
        (("quarantined", "silent"), "rejected", "quarantined (silent)"),
        (("unavailable", "removed"), "gone", "removed"),
        (("waiting", "network"), "waiting", "network"),
    ],
)
def test_each_cause_is_told(tmp_path, after, cause, detail):
    before = version(tmp_path, packed(tmp_path, 0, [sample(), sample()]))
    later = version(tmp_path, packed(tmp_path, 0, [sample(), after]))

    found, whole = told(tmp_path, before, later)

    assert found == [(KEYS[1], cause, detail)]
    assert whole.num_same == 1


def test_what_is_rejected_by_other_rules_is_told_so(tmp_path):
    before = version(tmp_path, packed(tmp_path, 0, [sample(), sample()]))
    later = version(tmp_path, packed(tmp_path, 0, [sample(), ("quarantined", "silent")]), rules="s")

    found, whole = told(tmp_path, before, later)

    assert found == [(KEYS[1], "another_rule", "quarantined (silent)")] and whole.settings == ["rules"]
    assert told(tmp_path, later, before)[0] == [(KEYS[1], "returned", "quarantined (silent) -> ok")]


def test_without_the_older_tar_only_the_sidecars_tell(tmp_path):
    old = packed(tmp_path, 0, [sample(), sample()])
    before = version(tmp_path, old)
    later = version(tmp_path, packed(tmp_path, 0, [sample(b"other"), sample(labels=["/m/2"])]))
    (tmp_path / "shards" / f"{old.name}.tar").unlink()

    found, _ = told(tmp_path, before, later)

    assert found == [(KEYS[1], "relabelled", "/m/1 -> /m/2"), (KEYS[0], "unknown", "a tar is gone")]


def test_retired_versions_are_compared_by_what_is_left(tmp_path):
    before = version(tmp_path, packed(tmp_path, 0, [sample(), sample()]))
    later = version(tmp_path, packed(tmp_path, 0, [sample(), sample(b"other")]))
    retire(tmp_path, before.digest)

    (retired,) = read_superseded(tmp_path)

    assert told(tmp_path, retired, later)[0] == [(KEYS[1], "another_tool", "other features of the same clip")]
