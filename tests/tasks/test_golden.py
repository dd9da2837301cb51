"""Golden digests: output that changes without its VERSION would leave old parts up to date, and wrong.

Where one of these fails and the change is meant, raise the VERSION and renew the digest. All input is made of
integers, so that no codec and no rounding of a sine stands between this file and the digests.
"""

import hashlib

import numpy as np
import pytest

from schemas.feature import Profile
from schemas.files import digest_of
from schemas.manifest import digest_of_table
from tasks import extract, features, index, pack
from tasks.index import IndexConfig
from tasks.lists.formats import read_list
from tasks.media.colour import Picture
from tasks.media.decode import Decoded
from tasks.media.perceptual_hash import prints_of
from tasks.pack import PackConfig, describe
from tasks.shard_files import write_shard

PROFILES = {
    "jpeg": Profile("golden", length_ms=2000, frame_rate_hz=2.0, frame_short_side_px=64),
    "flac": Profile("golden", length_ms=2000, frame_rate_hz=2.0, frame_short_side_px=64, sound="flac"),
    "h264": Profile("golden", length_ms=2000, frame_rate_hz=10.0, frame_short_side_px=64, picture="h264"),
}
FEATURES = {
    ("frames", "jpeg"): (2, "bb288c86ce1cd6813f21e5eac9f3a4b50eea8feb0cfefcd2b461533d12818dac"),
    ("audio", "jpeg"): (2, "d2680fd55c48558415facbf40c7aa55083014477394557c7fe2c364de1bdb1be"),
    ("audio", "flac"): (2, "d49e7cbef7c8c45607f59360e983cab04d3d1c468f0ab3e87ac7d795f2a6ad98"),
    ("log_mel", "jpeg"): (1, "c55a7ffd3b79dd0e6b3dc1e9ef2c24b8fa75af9d621b23168e0ab2c2cc98f2ff"),
    ("video", "h264"): (1, "d98e892160fac68b6b9321bf10ca66b04b8823a0b46c38efd00fd4ebdb179ad1"),
}
PRINTS = (5, "7c120e492f2b960492e41feea57b4b0349624ef5247be48f00724371dbc599f9")
SHARD = (1, "8f39a5b9557b3a578a3481f912b38aadcea937d20ed6732fd6cf08b8d71912c4")
SLOTS = "9fcd1fb2c030e5a8525c8d0a9327f40db0818437e406ea43b30b6c322fdb3e45"
LIST = "".join(f'video{n:06d}, {n % 7}.000, {n % 7 + 10}.000, "/m/09x0r,/m/04rlf"\n' for n in range(300))


def decoded(profile: Profile) -> Decoded:
    """Blocks that move and steps that sound, by seed."""
    rng = np.random.default_rng(0)
    ground = np.repeat(np.repeat(rng.integers(0, 256, (8, 10), np.uint8), 8, axis=0), 8, axis=1)
    pictures = [
        Picture(np.roll(ground, 3 * n, axis=1), ground[::2, ::2].copy(), np.roll(ground[::2, ::2], n, axis=0))
        for n in range(profile.num_frames)
    ]
    steps = rng.integers(-9000, 9000, (profile.num_samples // 40, 1)).astype(np.int16)
    return Decoded(pictures, np.repeat(steps, 40, axis=0), profile.length_ms, 0.0, 0.0)


@pytest.mark.parametrize(("name", "kind"), sorted(FEATURES))
def test_a_feature_is_what_its_version_says(name, kind):
    module = features.modules()[name]
    profile = PROFILES[kind]
    members = module.members(decoded(profile), profile)

    digest = digest_of({suffix: hashlib.sha256(data).hexdigest() for suffix, data in members.items()})

    assert (module.VERSION, digest) == FEATURES[name, kind]


def test_prints_are_what_extracts_version_says():
    profile = PROFILES["jpeg"]
    prints = prints_of(decoded(profile), {"frozen_share": 0.0}, profile)

    assert any(prints["sound_print"]) and any(prints["picture_print"])
    assert (extract.VERSION, digest_of({name: data.hex() for name, data in prints.items()})) == PRINTS


def test_a_shard_is_what_its_version_says(tmp_path):
    facts = dict.fromkeys([*pack.SOURCE_FACTS, *pack.CHECKS])
    segment = {"video_id": "golden", "start_ms": 0, "end_ms": 2000, "split": "train", "labels": ["/m/09x0r"]}
    joined = {"segments/checked": segment, "clips/checked": facts}
    row = {"key": "golden_0_2000", "valid_ms": 2000, "joined": joined, **facts}
    described = describe(row, PackConfig(PROFILES["jpeg"], {"/m/09x0r": (0, "Speech")}))
    rows = [{"key": "golden_0_2000", "outcome": "ok", "split": "train", "video_id": "golden", "labels": []}]

    write_shard(tmp_path, 0, iter([("golden_0_2000", {"json": described.encode(), "wav": b"sound"})]), rows)

    assert (pack.VERSION, rows[0]["shard_sha256"]) == SHARD


def test_slots_are_dealt_as_ever(tmp_path):
    """There is no VERSION to raise: a slot that was given once stays."""
    (tmp_path / "list.csv").write_text(LIST)

    parts = index.deal(tmp_path, [read_list(tmp_path / "list.csv")], IndexConfig(part_size=64, val_share=0.1))

    assert digest_of([[part.part, digest_of_table(part.table)] for part in parts]) == SLOTS
