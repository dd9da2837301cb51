"""The suites say what they ask for, take their numbers from the rules, and never fail in silence."""

from dataclasses import replace

import pandas as pd
import pytest

from schemas.expectations import check, suite
from schemas.feature import Profile
from schemas.rules import ClipRules, Rules
from tasks.features import member_suffixes

PROFILE = Profile()
MANIFESTS = ("segments", "clips", "features", "shards")


def clips(**columns):
    frame = {
        "key": ["a", "b"],
        "has_video": [True, True],
        "has_audio": [True, True],
        "width_px": [320, 320],
        "height_px": [240, 240],
        "frame_rate_hz": [25.0, 25.0],
        "sample_rate_hz": [16_000, 16_000],
        "size_bytes": [9, 9],
    }
    return pd.DataFrame({**frame, **columns})


def found(frame, rules=None):
    rules = rules or Rules()
    return {one.name: one for one in check(frame, suite("clips", rules, PROFILE), rules)}


@pytest.mark.parametrize("manifest", MANIFESTS)
def test_every_expectation_has_a_name_of_its_own_and_a_sentence(manifest):
    metas = [one.meta for one in suite(manifest, Rules(), PROFILE).expectations]

    assert len({meta["name"] for meta in metas}) == len(metas) > 1
    assert all(meta["why"] for meta in metas)
    assert metas[-1]["name"] == "unique_key"


def test_thresholds_come_from_the_rules():
    rules = Rules(clips=ClipRules(min_side_px=1000))

    rejected = {name for name, one in found(clips(), rules).items() if one.rejected}

    assert rejected == {"width", "height"}
    assert found(clips(), rules)["width"].why == "at least 1000 px wide"


def test_a_threshold_itself_passes():
    side = Rules().clips.min_side_px

    assert found(clips(width_px=[side, side - 1]))["width"].rejected == {"b": side - 1}


def test_what_is_unknown_is_not_rejected():
    assert not found(clips(frame_rate_hz=[25.0, None]))["frame_rate"].rejected


def test_observed_values_are_plain_python():
    observed = found(clips(frame_rate_hz=[1.5, 25.0], width_px=[8, 320]))

    assert type(observed["frame_rate"].rejected["a"]) is float
    assert type(observed["width"].rejected["a"]) is int


@pytest.mark.parametrize(("share", "is_broken"), [(0.5, False), (0.51, True)])
def test_a_rate_below_the_gate_breaks_the_run(share, is_broken):
    rules = replace(Rules(), min_pass_share=share, min_rows=2)

    assert found(clips(has_audio=[True, False]), rules)["has_audio"].is_broken is is_broken


def test_a_column_that_is_missing_is_an_error_and_no_verdict():
    with pytest.raises(RuntimeError, match="Great Expectations failed"):
        found(clips().drop(columns="width_px"))


def test_shards_must_hold_every_member():
    count = len(member_suffixes(PROFILE))
    frame = pd.DataFrame({"key": ["a", "b"], "num_members": [count, count - 1]})

    (members, unique) = check(frame, suite("shards", Rules(), PROFILE, member_suffixes(PROFILE)), Rules())

    assert members.rejected == {"b": count - 1}
    assert not unique.rejected
