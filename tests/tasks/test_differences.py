"""Two receipts are compared segment by segment: each that differs has its cause, and its evidence."""

from dataclasses import replace

import pyarrow as pa
import pytest

from schemas.feature import Profile
from schemas.receipt import RECEIPT, Receipt, Settings, mark_of
from schemas.rules import Rules
from schemas.shard import Shard, make_version
from tasks.versions.differences import differences

PROFILE = Profile()
SHARDS = [Shard(f"train-{part:06d}-0", "train", part, f"{part:064x}", 1, 3) for part in (0, 1)]
MADE_BY = "extract 4 (audio 1, frames 2); av 17.0, numpy 2.4.0"


def digest(text):
    return text.encode().ljust(16, b"\0")


def slot(video_id, **changed):
    """A row of a receipt, in which everything went well."""
    features = [{"name": name, "digest": digest(f"{video_id}/{name}")} for name in ("audio", "frames")]
    row = {
        **dict.fromkeys(RECEIPT.names), "video_id": video_id, "start_ms": 0, "end_ms": 2000, "split": "train",
        "labels": ["/m/1"], "outcome": "ok", "reason": "", "packets": digest(f"{video_id}/packets"),
        "features": features, "sample": digest(f"{video_id}/sample"), "made_by": MADE_BY, "is_excluded": False,
    }  # fmt: skip
    return {**row, **changed}


def receipt(rows, shards=SHARDS, settings=None):
    placed = [{**row, "part": 0, "row": n} for n, row in enumerate(rows)]
    settings = settings or Settings(PROFILE, labels={"/m/1": (0, "Speech")})
    version = make_version(settings.profile, ["json"], shards)
    return Receipt(version, settings, pa.Table.from_pylist(placed, RECEIPT))


OTHER = {"sample": digest("other")}
OTHER_FRAMES = [{"name": "audio", "digest": digest("a/audio")}, {"name": "frames", "digest": digest("other")}]


@pytest.mark.parametrize(
    ("before", "after", "cause", "detail"),
    [
        ({}, {"outcome": "unavailable", "reason": "private", "sample": None}, "gone", "private"),
        ({}, {"outcome": "waiting", "reason": "removed", "sample": None}, "gone", "removed, to be confirmed"),
        ({}, {"outcome": "waiting", "reason": "network", "sample": None}, "waiting", "network"),
        ({}, {**OTHER, "packets": digest("other")}, "re_encoded", ""),
        ({}, {"outcome": "quarantined", "reason": "not_silent", "packets": digest("other"), "sample": None},
         "re_encoded", "ok -> quarantined (not_silent)"),
        ({}, {"outcome": "quarantined", "reason": "not_silent", "sample": None}, "rejected",
         "ok -> quarantined (not_silent)"),
        ({}, {"outcome": "quarantined", "reason": "not_silent", "sample": None, "made_by": None}, "rejected",
         "ok -> quarantined (not_silent)"),
        ({}, {"outcome": "quarantined", "reason": "not_silent", "sample": None,
              "made_by": MADE_BY.replace("2.4.0", "2.5.0")}, "another_tool", "ok -> quarantined (not_silent)"),
        ({}, OTHER, "repackaged", ""),
        ({}, {**OTHER, "features": OTHER_FRAMES, "made_by": MADE_BY.replace("frames 2", "frames 3")}, "another_tool",
         "frames: frames 2 -> frames 3"),
        ({}, {**OTHER, "features": OTHER_FRAMES, "made_by": MADE_BY.replace("2.4.0", "2.5.0")}, "another_tool",
         "frames: numpy 2.4.0 -> numpy 2.5.0"),
        ({}, {**OTHER, "made_by": MADE_BY.replace("extract 4", "extract 5")}, "another_tool",
         "its JSON: extract 4 -> extract 5"),
        ({}, {**OTHER, "features": OTHER_FRAMES}, "unexplained", "frames"),
        ({}, {**OTHER, "labels": ["/m/1", "/m/2"]}, "relabelled", "/m/1 -> /m/1, /m/2"),
        ({"packets": None}, OTHER, "unknown", ""),
        ({"outcome": "unavailable", "reason": "removed", "sample": None}, {}, "returned",
         "unavailable (removed) -> ok"),
        ({"outcome": "waiting", "reason": "network", "sample": None},
         {"outcome": "unavailable", "reason": "private", "sample": None}, "gone_otherwise",
         "waiting (network) -> unavailable (private)"),
        ({"outcome": "waiting", "reason": "network", "sample": None},
         {"outcome": "waiting", "reason": "network", "sample": None, "labels": ["/m/2"]}, "relabelled",
         "/m/1 -> /m/2"),
    ],
)  # fmt: skip
def test_each_cause_has_its_evidence(before, after, cause, detail):
    found = differences(receipt([slot("a", **before), slot("b")]), receipt([slot("a", **after), slot("b")]))

    (one,) = found.segments
    assert (one.key, one.cause, one.detail) == (
        "a_0_2000",
        cause,
        detail,
    )
    assert found.num_same == 1 and found.counts == {cause: 1}


def test_a_label_that_only_one_has_renames_no_other():
    """A list of new labels makes no sample of before another."""
    before = receipt([slot("a"), slot("b")], settings=Settings(PROFILE, labels={"/m/1": (0, "Speech")}))
    more = Settings(PROFILE, labels={"/m/1": (0, "Speech"), "/m/2": (1, "Dog")})
    after = receipt([slot("a", **OTHER), slot("b"), slot("c", labels=["/m/2"])], settings=more)

    found = differences(before, after)

    assert found.settings == [] and {one.key: one.cause for one in found.segments} == {
        "a_0_2000": "repackaged",
        "c_0_2000": "added",
    }


def test_a_label_that_is_renamed_explains_those_who_have_it():
    rows = [slot("a"), slot("b", labels=["/m/2"])]
    others = [slot("a", **OTHER), slot("b", labels=["/m/2"], sample=digest("others"))]
    names = {"/m/1": (0, "Speech"), "/m/2": (1, "Dog")}
    before = receipt(rows, settings=Settings(PROFILE, labels=names))

    found = differences(
        before, receipt(others, settings=Settings(PROFILE, labels={**names, "/m/2": (1, "Bark")}))
    )

    assert found.settings == ["names of labels"] and {one.key: one.cause for one in found.segments} == {
        "a_0_2000": "repackaged",
        "b_0_2000": "relabelled",
    }


def test_equal_receipts_do_not_differ():
    rows = [slot("a"), slot("b", outcome="waiting", reason="network", sample=None)]

    found = differences(receipt(rows), receipt(rows))

    assert (found.segments, found.num_same, found.num_same_shards, found.settings) == ([], 1, 2, [])
    assert found.before == found.after


def test_a_video_that_the_other_hides_was_taken_down():
    mark = mark_of("a", bytes(8))
    gone = {
        **dict.fromkeys(RECEIPT.names),
        "split": "train",
        "outcome": "forgotten",
        "reason": "",
        "mark": mark,
    }
    gone["is_excluded"] = False

    found = differences(receipt([slot("a"), slot("b")]), receipt([gone, slot("b")]))
    back = differences(receipt([gone, slot("b")]), receipt([slot("a"), slot("b")]))
    both = differences(receipt([gone, slot("b")]), receipt([gone, slot("b")]))

    assert [(one.key, one.cause) for one in found.segments] == [("a_0_2000", "taken_down")]
    assert [(one.key, one.cause) for one in back.segments] == [
        ("a_0_2000", "taken_down")
    ] and back.num_hidden == 1
    assert both.segments == [] and both.num_hidden == 1


def test_segments_that_only_one_has_are_added_or_left_out():
    found = differences(receipt([slot("a"), slot("b")]), receipt([slot("b"), slot("c")]))

    assert {(one.key, one.cause) for one in found.segments} == {
        ("a_0_2000", "left_out"),
        ("c_0_2000", "added"),
    }


def test_a_profile_that_changes_only_the_json_of_a_sample_explains_it():
    named = replace(receipt([]).settings, profile=replace(PROFILE, name="another"))

    (one,) = differences(receipt([slot("a")]), receipt([slot("a", **OTHER)], settings=named)).segments

    assert (one.cause, one.detail) == ("another_profile", "its JSON")


def test_settings_explain_what_they_change():
    other = Settings(Profile("dense", frame_rate_hz=4.0), labels={"/m/1": (0, "Speech")})
    strict = replace(receipt([]).settings, rules=Rules(min_rows=3))
    named = replace(receipt([]).settings, labels={"/m/1": (0, "Talk")})
    before = receipt([slot("a")])
    rejected = slot("a", outcome="quarantined", reason="not_black", sample=None)

    profile = differences(before, receipt([slot("a", **OTHER, features=OTHER_FRAMES)], settings=other))
    rules = differences(before, receipt([rejected], settings=strict))
    labels = differences(before, receipt([slot("a", **OTHER)], settings=named))

    assert (profile.settings, profile.counts) == (["profile"], {"another_profile": 1})
    assert (rules.settings, rules.counts) == (["rules"], {"another_rule": 1})
    assert (labels.settings, labels.segments[0].detail) == (["names of labels"], "their names")


def test_shards_and_lists_of_what_not_to_train_on_are_compared():
    changed = [SHARDS[0], replace(SHARDS[1], sha256="f" * 64)]
    before = receipt([slot("a", is_excluded=True), slot("b")])

    found = differences(before, receipt([slot("a"), slot("b", is_excluded=True)], changed))

    assert (found.num_same_shards, found.num_shards) == (1, 2)
    assert (found.excluded, found.included) == (["b_0_2000"], ["a_0_2000"])
