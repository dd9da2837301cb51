"""What status says beside the funnel: classes, labels, pace, forecast and what is due."""

from datetime import UTC, datetime, timedelta

import pytest

from schemas.clip import CLIPS
from schemas.manifest import PartHeader, part_path, write_part
from schemas.segment import SEGMENTS
from tasks.acquisition.availability import availability
from tasks.funnel import measure_funnel

NOW = datetime(2026, 1, 5, 12, tzinfo=UTC)


def at(**ago):
    return (NOW - timedelta(**ago)).isoformat()


def root_of(path, clips, num_segments):
    """A root of one part with these clips, and a second part that nobody tried yet."""
    header = PartHeader("test", "", {})
    for part, first, last in ((0, 0, len(clips)), (1, len(clips), num_segments)):
        rows = [
            {"key": f"v{n}", "outcome": "ok", "reason": "", "row": n, "labels": ["/m/a", "/m/b"][: 1 + n % 2]}
            for n in range(first, last)
        ]
        write_part(part_path(path / "segments", part), rows, SEGMENTS, header)
    rows = [{"key": f"v{n}", **row} for n, row in enumerate(clips)]
    write_part(part_path(path / "clips", 0), rows, CLIPS, header)
    return path


@pytest.fixture
def told(tmp_path):
    clips = [
        {"outcome": "ok", "reason": "", "tried_at": at(hours=1)},
        {"outcome": "ok", "reason": "", "tried_at": at(days=40)},
        {
            "outcome": "unavailable",
            "reason": "private",
            "tried_at": at(days=2),
            "next_attempt_at": at(days=-28),
        },
        {"outcome": "waiting", "reason": "network", "tried_at": at(hours=2), "next_attempt_at": at(hours=2)},
        {"outcome": "waiting", "reason": "queued", "tried_at": None, "next_attempt_at": at(hours=1)},
    ]
    return availability(root_of(tmp_path, clips, 8), NOW)


def test_classes_are_counted_with_their_dates(told):
    assert told["classes"]["ok"] == {"segments": 2, "first": at(days=40), "last": at(hours=1)}
    assert told["classes"]["private"] == {"segments": 1, "first": at(days=2), "last": at(days=2)}
    assert told["classes"]["queued"]["last"] is None


def test_labels_say_how_many_of_those_tried_could_be_had(told):
    assert told["labels"] == {"/m/a": {"tried": 4, "available": 2}, "/m/b": {"tried": 2, "available": 1}}


def test_what_is_due_is_counted_by_horizon(told):
    assert told["due"] == {
        "now": 2, "within 1 day": 2, "within 7 days": 2, "within 30 days": 3, "within 365 days": 3,
    }  # fmt: skip
    assert told["next_attempt_at"] == at(hours=2)


def test_the_backlog_ends_at_the_rate_of_the_last_day(told):
    assert told["backlog"] == 5  # three in a part that nobody tried, one queued, one due again
    assert told["tried_per_hour"] == pytest.approx(2 / 24, abs=0.01)
    assert told["backlog_ends_at"] == (NOW + timedelta(hours=60)).isoformat()


def test_a_part_of_an_older_version_lacks_columns_and_is_read(tmp_path):
    old = CLIPS.remove(CLIPS.get_field_index("tried_at"))
    root = root_of(tmp_path, [{"outcome": "ok", "reason": ""}], 1)
    write_part(
        part_path(root / "clips", 0), [{"key": "v0", "outcome": "ok"}], old, PartHeader("test", "", {})
    )

    assert availability(root, NOW)["classes"]["ok"]["last"] is None


def test_the_funnel_counts_what_no_stage_has_reached_as_pending(tmp_path):
    root = root_of(tmp_path, [{"outcome": "waiting", "reason": "queued"}], 3)

    assert measure_funnel(root)["waiting"] == {"pending": 2, "queued": 1}
