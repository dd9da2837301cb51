"""What a failure does to a segment: its own fault is confirmed on other days, nobody else's charges it."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.outcome import BUG, ItemError, Outcome, Transient
from tasks.acquisition.retry_schedule import LADDER_DAYS, SETBACK_HOURS, after_failure, after_success
from tasks.transport.failure_classes import CLASSES, Fault, failure

MONDAY = datetime(2026, 1, 5, 12, tzinfo=UTC)
OWN = [name for name, one in CLASSES.items() if one.fault == Fault.VIDEO and one.sightings > 1]
OTHERS = [name for name, one in CLASSES.items() if one.fault not in (Fault.VIDEO, Fault.MACHINE)]


def failed(row, reason, days=0.0, is_vouched=True):
    return after_failure(row, failure(reason, ""), MONDAY + timedelta(days=days), is_vouched=is_vouched)


@pytest.mark.parametrize("reason", OWN)
def test_a_tombstone_needs_its_sightings_on_different_days(reason):
    row = {}
    outcomes = []
    for day in range(CLASSES[reason].sightings):
        row = failed(row, reason, day)
        outcomes.append(row["outcome"])

    assert outcomes == ["waiting"] * (CLASSES[reason].sightings - 1) + ["unavailable"]


@pytest.mark.parametrize("reason", OWN)
def test_many_failures_on_one_day_count_once(reason):
    row = {}
    for hour in range(10):
        row = failed(row, reason, hour / 24)

    assert (row["outcome"], row["attempts"]) == ("waiting", 1)


def test_the_ladder_ends_at_a_year_and_never_gives_up():
    row = {}
    days = 0.0
    pauses = []
    for _ in range(len(LADDER_DAYS) + 2):
        row = failed(row, "private", days)
        again = datetime.fromisoformat(row["next_attempt_at"]) - MONDAY
        pauses.append(again.days - days)
        days = again.days

    assert pauses == [*LADDER_DAYS, 365, 365]


@pytest.mark.parametrize("reason", OWN)
def test_without_a_witness_nothing_is_charged(reason):
    row = failed({}, reason, is_vouched=False)

    assert (row["outcome"], row["attempts"]) == ("waiting", 0)
    assert row["next_attempt_at"] == (MONDAY + timedelta(days=1)).isoformat()


@given(st.lists(st.sampled_from(OTHERS), min_size=1, max_size=30))
def test_what_is_not_its_own_fault_never_charges_a_segment(reasons):
    row = before = failed({}, "removed")
    for day, reason in enumerate(reasons, 1):
        row = failed(row, reason, day)

    assert (row["outcome"], row["attempts"]) == ("waiting", before["attempts"])
    assert row["charged_at"] == before["charged_at"]


def test_trouble_of_the_world_is_tried_again_at_once_then_within_hours():
    row = {}
    hours = []
    for _ in range(len(SETBACK_HOURS) + 1):
        row = failed(row, "network")
        hours.append((datetime.fromisoformat(row["next_attempt_at"]) - MONDAY) / timedelta(hours=1))

    assert hours == [*SETBACK_HOURS, SETBACK_HOURS[-1]]


def test_what_fails_after_a_success_is_confirmed_as_if_it_had_never_failed():
    row = failed(failed({}, "removed"), "removed", 1)

    row = failed({**row, **after_success()}, "removed", 1.1)

    assert (row["outcome"], row["attempts"], row["setbacks"]) == ("waiting", 1, 0)


@pytest.mark.parametrize("reason", [name for name in OWN if name != "removed"])
def test_what_is_wrong_with_a_local_file_counts_at_once(reason):
    row = after_failure({}, failure(reason, ""), MONDAY, is_vouched=True, is_local=True)

    assert (row["outcome"], row["next_attempt_at"]) == (Outcome.UNAVAILABLE.value, None)


def test_bytes_of_a_host_that_are_no_film_are_quarantined_when_another_day_brings_no_others():
    damaged = ItemError(Outcome.QUARANTINED, "decodable", "")

    first = after_failure({}, damaged, MONDAY, is_vouched=True)
    again = after_failure(first, damaged, MONDAY + timedelta(hours=2), is_vouched=True)
    later = after_failure(again, damaged, MONDAY + timedelta(days=1), is_vouched=True)

    assert [one["outcome"] for one in (first, again, later)] == ["waiting", "waiting", "quarantined"]
    assert later["next_attempt_at"] == (MONDAY + timedelta(days=8)).isoformat()


def test_what_our_own_code_fails_on_waits_for_other_code_not_for_another_day():
    row = after_failure({}, ItemError(Outcome.QUARANTINED, BUG, ""), MONDAY, is_vouched=True)

    assert (row["outcome"], row["next_attempt_at"]) == (Outcome.QUARANTINED.value, None)


def test_the_lanes_fault_leaves_a_segment_as_it_was():
    row = after_failure({}, Transient("rate_limited"), MONDAY, is_vouched=True)

    assert (row["outcome"], row["attempts"], row["setbacks"]) == ("waiting", 0, 0)
