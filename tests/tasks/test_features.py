"""A feature is one file: what every one has, that a new one reaches the shards, and that it makes nothing stale."""

import json
import tarfile

import pytest
from plugin_copies import copied_with, run_in
from roots import PROFILE, Root, write_clips

from schemas import plugins
from schemas.errors import InternalError, RequestError
from schemas.feature import FEATURES, PROFILES, ExtendedProfile, Profile, stored_profile
from schemas.files import canonical_json, digest_of
from tasks import features
from tasks.media.decode import decode

RMS = '''
"""`rms.npy`: float32 (seconds,), the loudness of each second."""

import io

import numpy as np
import pyarrow as pa

VERSION = 1
COLUMNS = {"loudest": pa.float64()}


def settings(profile):
    return [profile.length_ms]


def suffixes(profile):
    return ["rms.npy"]


def _rms(decoded, profile):
    wave = decoded.wave[:, 0].astype(np.float32).reshape(profile.length_ms // 1000, -1)
    return np.sqrt((wave**2).mean(axis=1))


def members(decoded, profile):
    buffer = io.BytesIO()
    np.save(buffer, _rms(decoded, profile))
    return {"rms.npy": buffer.getvalue()}


def measures(decoded, profile):
    return {"loudest": float(_rms(decoded, profile).max())}
'''
BUILD = """
import sys
from pathlib import Path
from roots import PROFILE, Root
import dataclasses
import tasks.features
from schemas.feature import ExtendedProfile
from schemas.manifest import read_part
assert tasks.features.__file__.startswith(sys.argv[1])
held = {**dataclasses.asdict(PROFILE), "name": "loud", "more_features": ("rms",)}
root = Root(Path(sys.argv[2]), sys.argv[3], [Path(sys.argv[4])], profile=ExtendedProfile(**held))
root.build()
for name in ("features", "features/checked"):
    assert all(row["loudest"] > 0 for row in read_part(root.path / name / "000000.parquet"))
"""
PLAN = """
import json, sys
from pathlib import Path
from roots import Root
import tasks.features
from tasks.parts import plan_stage
assert "rms" in tasks.features.modules()
root = Root(Path(sys.argv[1]), sys.argv[2], [])
names = ("validate-segments", "download", "validate-clips", "extract", "validate-features", "pack")
print(json.dumps({name: plan_stage(root.stage(name)).counts() for name in names}))
"""


@pytest.fixture(scope="module")
def with_rms(tmp_path_factory):
    return copied_with(tmp_path_factory.mktemp("copy"), {"tasks/features/rms.py": RMS})


@pytest.mark.parametrize("name", features.modules())
def test_every_feature_declares_what_it_gives(name):
    module = features.modules()[name]
    profiles = [profile for profile in PROFILES.values() if name in profile.features]

    assert module.__doc__ and module.VERSION >= 1
    assert profiles, f"no stock profile has {name}"
    for profile in profiles:
        assert features.of_profile(profile)[name] is module
        assert json.loads(canonical_json(module.settings(profile))) is not None
        assert set(module.suffixes(profile)) <= set(features.member_suffixes(profile))
        assert not set(getattr(module, "COLUMNS", ())) & set(FEATURES.names)


@pytest.mark.parametrize("name", features.modules())
def test_every_feature_gives_the_members_and_columns_that_it_declares(name, tmp_path):
    module = features.modules()[name]
    profile = next(
        profile
        for profile in (Profile(length_ms=2000), Profile(length_ms=2000, picture="h264"))
        if name in profile.features
    )
    write_clips(tmp_path, ["one"])
    made = decode(tmp_path / "one.mp4", 0.0, 2.0, profile)

    assert set(module.members(made, profile)) == set(module.suffixes(profile))
    assert set(features.measures(made, profile)) == set(features.manifest_schema(profile).names) - set(
        FEATURES.names
    )


def test_a_new_feature_is_one_file_and_a_profile_that_names_it(with_rms, tmp_path):
    (listed,) = write_clips(tmp_path / "videos", ["one", "two"])
    root = tmp_path / "root"

    run_in(with_rms, BUILD, with_rms, root, f"folder:{tmp_path}/videos", listed)

    (tar,) = (root / "shards").glob("*.tar")
    with tarfile.open(tar) as file:
        members = {info.name: info.size for info in file}
    assert members["one_0_2000.rms.npy"] == members["two_0_2000.rms.npy"] == 128 + 2 * 4
    (version,) = (root / "versions").glob("?" * 64 + ".json")
    assert "rms.npy" in json.loads(version.read_text())["fields"]


def test_a_new_file_makes_no_root_stale(with_rms, tmp_path):
    root = Root(tmp_path / "root", f"folder:{tmp_path}/videos", write_clips(tmp_path / "videos", ["one"]))
    root.build()

    planned = json.loads(run_in(with_rms, PLAN, root.path, root.source))

    done = {"done": 1, "stale": 0, "failed": 0, "missing": 0}
    assert planned == dict.fromkeys(planned, done)


def test_a_file_that_is_no_feature_is_refused_by_name(tmp_path):
    copy = copied_with(tmp_path, {"tasks/features/loudness.py": '"""Helpers."""\n\nVERSION = 1\n'})
    script = (
        "from tasks import features\n"
        "from schemas.errors import InternalError\n"
        "try:\n    features.modules()\n"
        "except InternalError as error:\n    print(error)\n"
    )

    told = run_in(copy, script)

    assert f"{copy}/tasks/features/loudness.py is not a plug-in of tasks.features" in told
    assert "it lacks settings, suffixes, members" in told


def test_the_loader_names_the_file_and_what_it_lacks():
    with pytest.raises(
        InternalError, match=r"frames.py is not a plug-in of tasks.features: it lacks fetch\."
    ):
        plugins.load_plugin(features, "frames", ("VERSION", "fetch"))


def test_a_profile_names_only_features_that_exist_and_that_it_can_have():
    unknown = ExtendedProfile(more_features=("rms",))
    with pytest.raises(
        RequestError, match=r"names the feature 'rms': use some of audio, frames, log_mel, video"
    ):
        features.of_profile(unknown)

    stereo = ExtendedProfile(channels=2, more_features=("log_mel",))
    with pytest.raises(
        RequestError, match=r"can't have the feature 'log_mel': it needs mono sound at 16,000 Hz"
    ):
        features.of_profile(stereo)

    both = ExtendedProfile(more_features=("video",))
    with pytest.raises(RequestError, match="it needs pictures as H.264"):
        features.of_profile(both)


def test_a_profile_with_more_features_comes_back_and_has_a_digest_of_its_own():
    plain = Profile("mine")
    more = ExtendedProfile("mine", more_features=("rms",))

    assert stored_profile(json.loads(canonical_json(plain))) == plain
    assert stored_profile(json.loads(canonical_json(more))) == more
    assert digest_of(plain) != digest_of(more)
    assert more.features == ("audio", "frames", "log_mel", "rms")
    assert PROFILE.features == ("audio", "frames", "log_mel")
