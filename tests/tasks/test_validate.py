"""What an expectation rejects is quarantined with the reason, and comes back when the rule changes."""

import json
import re
from dataclasses import replace

import pytest
from small_roots import PROFILE

from schemas.clip import CLIPS
from schemas.feature import FEATURES
from schemas.manifest import PartHeader, part_numbers, part_path, read_manifest, write_part
from schemas.rules import ClipRules, FeatureRules, Rules
from tasks import validate
from tasks.parts import plan_stage
from tasks.validate import GateError

GOOD_CLIP = {
    "size_bytes": 1000,
    "has_video": True,
    "has_audio": True,
    "width_px": 320,
    "height_px": 240,
    "frame_rate_hz": 25.0,
    "sample_rate_hz": 44_100,
}
GOOD_FEATURE = {
    "length_s": 2.0,
    "valid_ms": 2000,
    "num_frames": PROFILE.num_frames,
    "num_samples": PROFILE.num_samples,
    "rms_db": -20.0,
    "luma_max": 200.0,
    "frozen_share": 0.0,
    "clipped_share": 0.0,
    "start_skew_ms": 0.0,
}
MANIFESTS = {"clips": (CLIPS, GOOD_CLIP), "features": (FEATURES, GOOD_FEATURE)}


def write(root, manifest, changes, part=0):
    """A part with one good row for each key, changed as told."""
    schema, good = MANIFESTS[manifest]
    rows = [
        {**dict.fromkeys(schema.names), "key": key, "outcome": "ok", "reason": "", "detail": ""}
        | {"digest": "d", "fingerprint": "", **good, **change}
        for key, change in changes.items()
    ]
    write_part(part_path(root / manifest, part), rows, schema, PartHeader("x", "", {}))


def check(root, manifest, rules=None):
    rules = rules or Rules()
    stage = validate.stage(root, manifest, rules, PROFILE)
    validate.run(stage, plan_stage(stage).due(), rules, PROFILE)


def verdicts(root, manifest):
    return {
        row["key"]: (row["outcome"], row["reason"], row["detail"])
        for _, row in read_manifest(root / manifest / "checked")
    }


@pytest.mark.parametrize(
    ("manifest", "change", "reason", "observed"),
    [
        ("clips", {"has_audio": False}, "has_audio", "False"),
        ("clips", {"has_video": False}, "has_video", "False"),
        ("clips", {"width_px": 32}, "width", "32"),
        ("clips", {"sample_rate_hz": 4000}, "sample_rate", "4000"),
        ("clips", {"frame_rate_hz": 1.0}, "frame_rate", "1"),
        ("clips", {"size_bytes": 0}, "not_empty", "0"),
        ("features", {"rms_db": -75.5}, "not_silent", "-75.5"),
        ("features", {"luma_max": 16.0}, "not_black", "16"),
        ("features", {"frozen_share": 1.0}, "not_frozen", "1"),
        ("features", {"clipped_share": 0.25}, "not_clipped", "0.25"),
        ("features", {"valid_ms": 1000}, "covers_segment", "0.5"),
        ("features", {"start_skew_ms": -1500.0}, "starts_together", "-1500"),
        ("features", {"num_frames": 3}, "exact_frames", "3"),
        ("features", {"num_samples": 7}, "exact_samples", "7"),
    ],
)
def test_a_rejected_row_tells_the_expectation_and_the_value(tmp_path, manifest, change, reason, observed):
    write(tmp_path, manifest, {"good": {}, "bad": change})

    check(tmp_path, manifest)

    found = verdicts(tmp_path, manifest)
    assert found["good"] == ("ok", "", "")
    assert found["bad"] == ("quarantined", reason, f"{reason}: observed {observed}")


def test_the_first_expectation_is_the_reason_and_all_are_told(tmp_path):
    write(tmp_path, "clips", {"good": {}, "bad": {"height_px": 8, "has_audio": False}})

    check(tmp_path, "clips")

    assert verdicts(tmp_path, "clips")["bad"] == (
        "quarantined",
        "has_audio",
        "has_audio: observed False; height: observed 8",
    )


def test_a_row_comes_back_when_the_rule_changes(tmp_path):
    write(tmp_path, "clips", {"small": {"width_px": 48}, "large": {}})
    check(tmp_path, "clips")
    before = verdicts(tmp_path, "clips")["small"]

    check(tmp_path, "clips", Rules(clips=ClipRules(min_side_px=32)))

    assert before == ("quarantined", "width", "width: observed 48")
    assert verdicts(tmp_path, "clips")["small"] == ("ok", "", "")


def test_another_manifests_rule_makes_nothing_stale(tmp_path):
    write(tmp_path, "clips", {"a": {}})
    check(tmp_path, "clips")

    rules = Rules(features=FeatureRules(min_rms_db=-30.0))

    assert plan_stage(validate.stage(tmp_path, "clips", rules, PROFILE)).due() == []


def test_what_failed_before_keeps_its_verdict_and_is_not_judged(tmp_path):
    gone = {"outcome": "waiting", "reason": "removed", "detail": "HTTP 404", "digest": "", "has_audio": None}
    write(tmp_path, "clips", {"good": {}, "gone": gone})

    check(tmp_path, "clips")

    assert verdicts(tmp_path, "clips")["gone"] == ("waiting", "removed", "HTTP 404")


def test_a_manifest_in_which_nothing_is_ok_passes(tmp_path):
    write(tmp_path, "clips", {"gone": {"outcome": "waiting", "reason": "removed", "digest": ""}})

    check(tmp_path, "clips")

    assert verdicts(tmp_path, "clips")["gone"][:2] == ("waiting", "removed")


def test_where_most_rows_fail_the_run_stops_without_verdicts(tmp_path):
    rules = Rules()
    bad = {f"bad{n}": {"has_audio": False} for n in range(rules.min_rows)}
    write(tmp_path, "clips", {**bad, "good": {}})

    with pytest.raises(GateError, match="has_audio fails for 20 of 21 rows"):
        check(tmp_path, "clips", rules)

    assert part_numbers(tmp_path / "clips" / "checked") == []
    report = json.loads((tmp_path / "reports" / "validation" / "clips.json").read_text())
    assert [one["name"] for one in report["expectations"] if one["is_broken"]] == ["has_audio"]


def test_a_few_rows_say_nothing_about_the_run(tmp_path):
    write(tmp_path, "clips", {f"bad{n}": {"has_audio": False} for n in range(Rules().min_rows - 1)})

    check(tmp_path, "clips")

    assert {verdict[:2] for verdict in verdicts(tmp_path, "clips").values()} == {("quarantined", "has_audio")}


def test_exactly_the_share_that_must_pass_passes(tmp_path):
    rows = {f"row{n}": {"has_audio": n % 2 == 0} for n in range(20)}
    write(tmp_path, "clips", rows)

    check(tmp_path, "clips", replace(Rules(), min_pass_share=0.5))

    assert sum(verdict[0] == "ok" for verdict in verdicts(tmp_path, "clips").values()) == 10


def test_a_whole_manifest_is_judged_and_only_due_parts_are_written(tmp_path):
    write(tmp_path, "clips", {"a": {}}, part=0)
    check(tmp_path, "clips")
    before = part_path(tmp_path / "clips" / "checked", 0).stat().st_mtime_ns

    write(tmp_path, "clips", {"b": {"has_audio": False}}, part=1)
    check(tmp_path, "clips")

    assert part_path(tmp_path / "clips" / "checked", 0).stat().st_mtime_ns == before
    assert verdicts(tmp_path, "clips")["b"][1] == "has_audio"
    report = json.loads((tmp_path / "reports" / "validation" / "clips.json").read_text())
    assert report["rows"] == 2


def test_a_segment_that_stands_twice_stops_nothing_but_is_rejected(tmp_path):
    write(tmp_path, "clips", {"a": {}, "b": {}}, part=0)
    write(tmp_path, "clips", {"a": {}}, part=1)

    check(tmp_path, "clips")

    assert verdicts(tmp_path, "clips")["a"][:2] == ("quarantined", "unique_key")
    assert verdicts(tmp_path, "clips")["b"][0] == "ok"


def test_the_report_page_is_of_this_machine_only_and_escapes_what_is_foreign(tmp_path):
    hostile = '<script src="//evil.example/x.js"></script>'
    write(tmp_path, "clips", {hostile: {"has_audio": False}, "good": {}})

    check(tmp_path, "clips")

    page = (tmp_path / "reports" / "validation" / "index.html").read_text()
    assert "&lt;script src=&#34;//evil.example/x.js&#34;&gt;" in page
    assert "<script" not in page
    assert not re.findall(r"""(?:src|href)\s*=|url\(|@import|https?://""", page.replace("src=&#34;", ""))


def test_the_report_counts_what_each_expectation_found(tmp_path):
    write(tmp_path, "clips", {"bad": {"width_px": 8}, "good": {}})

    check(tmp_path, "clips")

    report = json.loads((tmp_path / "reports" / "validation" / "clips.json").read_text())
    (width,) = [one for one in report["expectations"] if one["name"] == "width"]
    assert (width["checked"], width["rejected"], width["examples"]) == (2, 1, {"bad": 8})
    assert width["why"] == "at least 64 px wide"
