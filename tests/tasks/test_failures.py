"""Every failure has one class, and the class says whose fault it is."""

import errno
from collections import Counter

import pytest
from ytdlp_messages import MESSAGES

from schemas.outcome import ItemError, Outcome, Transient
from tasks.transport.failure_classes import CLASSES, MAX_DETAIL, Fault, class_of, failure


@pytest.mark.parametrize(("expected", "origin", "message"), MESSAGES)
def test_a_real_message_gets_its_class(expected, origin, message):
    assert class_of(message) == expected, origin


@pytest.mark.parametrize("message", [f"ERROR: [youtube] dQw4w9WgXcQ: {one[2].upper()}" for one in MESSAGES])
def test_what_stands_around_a_message_does_not_change_its_class(message):
    assert class_of(message) != "unknown"


def test_the_table_is_large_distinct_and_leaves_less_than_one_in_a_hundred_unknown():
    counts = Counter(class_of(message) for _, _, message in MESSAGES)

    assert len({message for _, _, message in MESSAGES}) == len(MESSAGES) >= 80
    assert counts["unknown"] < 0.01 * len(MESSAGES)
    assert set(counts) == set(CLASSES) - {"unknown", "too_short", "empty", "policy_reject"}  # which we find


def test_what_nobody_has_seen_is_unknown_and_waits():
    assert class_of("Zorp!") == "unknown"
    assert isinstance(failure("unknown", "Zorp!"), Transient)


@pytest.mark.parametrize("reason", CLASSES)
def test_the_class_decides_who_is_charged(reason):
    error = failure(reason, "said", 418)

    if CLASSES[reason].fault == Fault.VIDEO:
        assert isinstance(error, ItemError)
        assert (error.outcome, error.reason, error.status) == (Outcome.UNAVAILABLE, reason, 418)
        assert CLASSES[reason].sightings >= 1
    elif CLASSES[reason].fault == Fault.MACHINE:
        assert isinstance(error, OSError) and error.errno == errno.ENOSPC
    else:
        assert isinstance(error, Transient)
        assert (error.reason, error.detail, error.status) == (reason, "said", 418)


def test_evidence_is_kept_but_not_a_page_of_it():
    assert len(failure("removed", "x" * 10_000).detail) == MAX_DETAIL
