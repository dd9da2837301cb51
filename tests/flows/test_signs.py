"""Signs of trouble that a build finds: told once when they begin, once when they end, and not again after a restart."""

import json
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from flows.builds.signs import news, verdict_news
from schemas.clip import CLIPS
from schemas.manifest import PartHeader, part_path, write_part

NOW = datetime(2026, 11, 28, 21, 17, tzinfo=UTC)


def lane(state: Path, **facts) -> None:
    (state / "lanes").mkdir(parents=True, exist_ok=True)
    (state / "lanes" / "direct.json").write_text(json.dumps(facts))


def subjects(root: Path, state: Path) -> list[str]:
    return [one.subject for one in news(root, state, NOW)]


def test_a_lane_is_told_when_its_breaker_opens_and_when_a_video_came_through_again(tmp_path):
    lane(tmp_path, closed_until_s=time.time() + 3600, why="bot_check")
    (first,) = news(tmp_path, tmp_path, NOW)
    again = subjects(tmp_path, tmp_path)
    lane(tmp_path, closed_until_s=time.time() - 60, why="bot_check", witness_s=1.0)
    still = subjects(tmp_path, tmp_path)
    lane(tmp_path, closed_until_s=time.time() - 60, why="bot_check", witness_s=NOW.timestamp() + 1e9)

    assert first.subject == "mcgurk: lane direct fails"
    assert "bot_check, closed until 20" in first.body and "in lanes.json may help" in first.body
    assert again == [] and still == []
    assert subjects(tmp_path, tmp_path) == ["mcgurk: lane direct works again"]
    assert subjects(tmp_path, tmp_path) == []


@pytest.mark.parametrize("why", ["rate_limited", "its hours"])
def test_a_lane_that_comes_back_by_itself_is_no_alarm(tmp_path, why):
    lane(tmp_path, closed_until_s=time.time() + 3600, why=why)

    assert subjects(tmp_path, tmp_path) == []


def clips(root: Path, **counts: int) -> None:
    """Videos by what became of them, `old_` ones two days ago and `new_` ones within the last day."""
    rows = []
    for kind, count in counts.items():
        age, fate = kind.split("_", 1)
        tried = NOW - timedelta(days=2 if age == "old" else 0.1)
        facts = {"ok": ("ok", "", 0), "gone": ("waiting", "removed", 1), "again": ("waiting", "removed", 2)}
        facts["broken"] = ("waiting", "network", 0)
        outcome, reason, attempts = facts[fate]
        for number in range(count):
            row = dict.fromkeys(CLIPS.names) | {"key": f"{kind}{number}_0_1000", "detail": "", "digest": ""}
            row |= {"outcome": outcome, "reason": reason, "attempts": attempts, "fingerprint": ""}
            rows.append({**row, "tried_at": tried.isoformat()})
    path = part_path(root / "clips", 0)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_part(path, rows, CLIPS, PartHeader("download", "of a test", {}))


def test_a_drop_of_availability_is_told_once_and_so_is_its_end(tmp_path):
    clips(tmp_path, old_ok=85, old_gone=15, new_ok=8, new_gone=22)
    (first,) = news(tmp_path, tmp_path, NOW)
    again = subjects(tmp_path, tmp_path)
    clips(tmp_path, old_ok=85, old_gone=15, new_ok=15, new_gone=15)  # neither
    between = subjects(tmp_path, tmp_path)
    clips(tmp_path, old_ok=85, old_gone=15, new_ok=27, new_gone=3)

    assert first.subject == "mcgurk: availability fails"
    assert "27% of 30 videos first tried in the last day came through; 85% before" in first.body
    assert again == [] and between == []
    assert subjects(tmp_path, tmp_path) == ["mcgurk: availability works again"]


@pytest.mark.parametrize(
    "counts",
    [
        {"old_ok": 85, "old_gone": 15, "new_ok": 25, "new_gone": 5},  # as ever
        {"old_ok": 85, "old_gone": 15, "new_ok": 1, "new_gone": 9},  # too few to say
        {"new_ok": 5, "new_gone": 95},  # the first day: there is no usual share
        {"old_ok": 85, "old_gone": 15, "new_again": 40},  # tried again, as the ladder wants it
        {"old_ok": 85, "old_gone": 15, "new_broken": 40},  # the world's fault
    ],
)
def test_what_is_no_drop_is_not_told(tmp_path, counts):
    clips(tmp_path, **counts)

    assert subjects(tmp_path, tmp_path) == []


def test_a_gate_that_refuses_is_told_once_and_so_is_the_next_champion(tmp_path):
    lane(tmp_path, closed_until_s=time.time() + 3600, why="bot_check")
    refusal = "not promoted: 0.6 does not beat the champion's 0.7 (/reports/r/index.html)"
    verdicts = ["", refusal, refusal, "", ""]

    told = [verdict_news(tmp_path, tmp_path, NOW, verdict) for verdict in verdicts]

    assert [[one.subject for one in some] for some in told] == [
        [], ["mcgurk: promotion to champion fails"], [], ["mcgurk: promotion to champion works again"], []
    ]  # fmt: skip
    assert f"Evidence: {refusal}" in told[1][0].body
    assert subjects(tmp_path, tmp_path) == ["mcgurk: lane direct fails"]
    assert verdict_news(tmp_path, tmp_path, NOW, refusal) and subjects(tmp_path, tmp_path) == []
