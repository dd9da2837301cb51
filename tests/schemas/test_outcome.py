"""The law of the funnel: nothing is lost, nothing is counted twice."""

import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.outcome import ItemError, Outcome, Transient, funnel

ROWS = st.lists(
    st.fixed_dictionaries(
        {
            "outcome": st.sampled_from([outcome.value for outcome in Outcome]),
            "reason": st.sampled_from(["", "removed", "has_audio", "network"]),
        }
    )
)
FATES = ("quarantined", "unavailable", "waiting")


@given(ROWS)
def test_every_segment_has_exactly_one_fate(rows):
    counts = funnel(rows)

    lost = sum(sum(counts[fate].values()) for fate in FATES)
    assert counts["segments"] == len(rows) == counts["in_shards"] + lost + counts["forgotten"]


@given(ROWS, st.randoms())
def test_the_order_of_rows_does_not_matter(rows, random):
    shuffled = random.sample(rows, len(rows))

    assert funnel(shuffled) == funnel(rows)
    assert all(list(funnel(rows)[fate]) == sorted(funnel(rows)[fate]) for fate in FATES)


def test_losses_are_counted_by_reason():
    rows = [("ok", ""), ("waiting", "removed"), ("waiting", "removed"), ("waiting", "network")]
    rows += [("quarantined", "has_audio"), ("unavailable", "removed"), ("forgotten", "request")]

    assert funnel({"outcome": outcome, "reason": reason} for outcome, reason in rows) == {
        "segments": 7,
        "in_shards": 1,
        "quarantined": {"has_audio": 1},
        "unavailable": {"removed": 1},
        "waiting": {"network": 1, "removed": 2},
        "forgotten": 1,
    }


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (
            ItemError(Outcome.UNAVAILABLE, "removed", "HTTP 404"),
            "unavailable (removed): HTTP 404",
        ),
        (Transient("network", "timed out"), "network: timed out"),
    ],
)
def test_errors_travel_between_processes_and_say_what_happened(error, text):
    arrived = pickle.loads(pickle.dumps(error))

    assert (str(arrived), arrived.reason, arrived.detail) == (text, error.reason, error.detail)
