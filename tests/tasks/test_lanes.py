"""A lane holds its rate whoever asks, remembers what happened to it, and knows no secret."""

import multiprocessing
import random
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
from clocks import MONDAY_S, FakeClock
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.transport import lanes
from tasks.transport.lanes import DAY_S, HOUR_S, Clock, Lane, LaneClosed, LaneConfig, read_state

HOURLY = LaneConfig(requests_per_hour=360.0, videos_per_hour=36.0, patience_s=1e9)


def lane(state, config=HOURLY, clock=None, seed=0):
    return Lane(config, state, clock or FakeClock(), random.Random(seed))


def times_of(one, take, count):
    """When each of `count` permits was given."""
    times = []
    for _ in range(count):
        take()
        times.append(one.clock.now_s())
    return times


def test_the_rate_is_held_within_two_percent(tmp_path):
    one = lane(tmp_path)

    times = times_of(one, one.take_request, 721)

    assert (times[-1] - times[0]) / 720 == pytest.approx(10.0, rel=0.02)


@given(st.integers(0, 2**32), st.floats(0.0, 1.0), st.lists(st.floats(0, 40), min_size=30, max_size=60))
@settings(max_examples=20)
def test_no_window_ever_holds_more_than_the_rate_allows(tmp_path_factory, seed, jitter_share, pauses):
    config = replace(HOURLY, jitter_share=jitter_share)
    one = lane(tmp_path_factory.mktemp("state"), config, seed=seed)
    times = []
    for pause_s in pauses:
        one.take_request()
        times.append(one.clock.now_s())
        one.clock.advance(pause_s)

    for first in range(len(times)):
        for last in range(first + 1, len(times)):
            assert times[last] - times[first] >= (last - first - jitter_share) * 10.0 - 1e-3


def test_the_pauses_are_not_all_the_same(tmp_path):
    one = lane(tmp_path)

    times = times_of(one, one.take_request, 50)

    assert len({round(b - a, 3) for a, b in zip(times, times[1:], strict=False)}) > 20


def test_more_threads_never_raise_the_rate(tmp_path):
    one = lane(tmp_path)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: one.take_request(), range(80)))

    assert one.clock.now_s() - MONDAY_S >= 79 * 10.0


def _take(state, count):
    one = Lane(replace(HOURLY, requests_per_hour=3600 * 50.0), state)
    for _ in range(count):
        one.take_request()


def test_more_processes_never_raise_the_rate(tmp_path):
    clock = Clock()
    context = multiprocessing.get_context("spawn")
    started_s = clock.now_s()
    workers = [context.Process(target=_take, args=(tmp_path, 20)) for _ in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)

    assert [worker.exitcode for worker in workers] == [0, 0]
    assert clock.now_s() - started_s >= 39 / 50


def test_a_restart_forgets_nothing(tmp_path):
    clock = FakeClock()
    lane(tmp_path, clock=clock).take_video()

    again = lane(tmp_path, clock=clock)
    again.take_video()

    assert clock.now_s() - MONDAY_S >= 100.0


def test_a_lane_without_limits_waits_for_nothing_and_writes_nothing(tmp_path):
    one = lane(tmp_path, LaneConfig())

    one.take_video()
    one.take_request()

    assert one.clock.now_s() == MONDAY_S
    assert not list(tmp_path.rglob("*.json"))


def test_a_lane_that_is_limited_cools_down_and_comes_back_at_half_its_rate(tmp_path):
    one = lane(tmp_path, replace(HOURLY, patience_s=900.0))
    one.take_video()

    one.failed("rate_limited", "yt-dlp 1")

    with pytest.raises(LaneClosed) as closed:
        one.take_video()
    assert HOUR_S <= closed.value.until_s - one.clock.now_s() <= 1.5 * HOUR_S
    assert closed.value.why == "rate_limited"
    one.clock.sleep_until(closed.value.until_s)
    times = times_of(one, one.take_video, 11)
    assert (times[-1] - times[0]) / 10 == pytest.approx(200.0, rel=0.1)


def test_what_a_host_asks_for_is_waited_for(tmp_path):
    one = lane(tmp_path)

    one.failed("rate_limited", "", after_s=5 * HOUR_S)

    assert one.opens_s() - one.clock.now_s() == pytest.approx(5 * HOUR_S)


def test_a_lane_is_given_its_rate_back_after_a_good_day(tmp_path):
    one = lane(tmp_path)
    one.failed("rate_limited", "")
    one.clock.sleep_until(one.opens_s() + DAY_S)

    one.succeeded()

    assert read_state(tmp_path, "direct").slowdown == 1.0


def test_a_bot_check_opens_the_circuit_each_time_for_longer(tmp_path):
    one = lane(tmp_path)
    open_s = []
    for _ in range(6):
        one.failed("bot_check", "")
        open_s.append(one.opens_s() - one.clock.now_s())
        one.clock.sleep_until(one.opens_s())

    assert open_s == pytest.approx([6 * HOUR_S * 2**n for n in range(4)] + [lanes.MAX_BREAKER_S] * 2)


def test_one_refusal_may_be_the_videos_and_three_in_a_row_are_the_lanes(tmp_path):
    one = lane(tmp_path)
    seen = []
    for _ in range(3):
        one.failed("forbidden", "")
        seen.append(one.opens_s() > one.clock.now_s())

    assert seen == [False, False, True]


def test_a_success_between_refusals_clears_the_lane(tmp_path):
    one = lane(tmp_path)
    for _ in range(4):
        one.failed("forbidden", "")
        one.succeeded()

    assert one.opens_s() <= one.clock.now_s()


def test_a_broken_tool_closes_the_lane_until_it_is_another(tmp_path):
    one = lane(tmp_path)
    for _ in range(3):
        one.failed("extractor_broken", "yt-dlp 1")
    one.renewed("yt-dlp 1")
    assert one.opens_s() > one.clock.now_s()

    one.renewed("yt-dlp 2")

    assert one.opens_s() <= one.clock.now_s()
    assert read_state(tmp_path, "direct").slowdown == 1.0  # the rate had no part in it


def test_another_tool_opens_no_lane_that_closed_for_another_reason(tmp_path):
    one = lane(tmp_path)
    for _ in range(3):
        one.failed("extractor_broken", "yt-dlp 1")
    one.clock.sleep_until(one.opens_s())
    one.failed("bot_check", "yt-dlp 1")

    one.renewed("yt-dlp 2")

    assert one.opens_s() > one.clock.now_s()


def test_a_closed_lane_makes_no_request_in_the_middle_of_a_video(tmp_path):
    one = lane(tmp_path)
    one.failed("rate_limited", "")

    with pytest.raises(LaneClosed):
        one.take_request()


def test_a_day_has_its_cap(tmp_path):
    one = lane(tmp_path, LaneConfig(videos_per_day=3))
    for _ in range(3):
        one.take_video()

    with pytest.raises(LaneClosed) as closed:
        one.take_video()

    assert closed.value.until_s == MONDAY_S + DAY_S / 2
    one.clock.sleep_until(closed.value.until_s)
    one.take_video()


@pytest.mark.parametrize(
    ("hours", "hour", "opens_in_h"),
    [
        ((9, 17), 12, 0),
        ((9, 12), 12, 21),
        ((13, 17), 12, 1),
        ((22, 6), 23, 0),
        ((22, 6), 3, 0),
        ((22, 6), 12, 10),
    ],
)
def test_a_lane_keeps_its_hours(tmp_path, hours, hour, opens_in_h):
    clock = FakeClock(MONDAY_S + (hour - 12) * HOUR_S)

    one = lane(tmp_path, LaneConfig(hours=hours), clock)

    assert one.opens_s() - clock.now_s() == opens_in_h * HOUR_S


def test_a_witness_is_of_the_last_hour(tmp_path):
    one = lane(tmp_path)
    assert not one.has_witness()

    one.succeeded()

    assert one.has_witness()
    one.clock.advance(HOUR_S)
    assert not one.has_witness()


AHEAD_S = 28 * 365 * DAY_S


def test_what_a_wrong_clock_wrote_counts_as_now(tmp_path):
    wrong = lane(tmp_path, clock=FakeClock(MONDAY_S + AHEAD_S))
    wrong.succeeded()
    wrong.take_request()
    wrong.take_video()
    wrong.failed("bot_check", "yt-dlp 1")

    right = lane(tmp_path, replace(HOURLY, patience_s=900.0))

    assert right.opens_s() <= MONDAY_S
    assert not right.has_witness()
    right.take_video()
    right.take_request()
    assert right.clock.now_s() < MONDAY_S + HOUR_S
    right.succeeded()
    assert right.has_witness()
    assert read_state(tmp_path, "direct").witness_s == right.clock.now_s()


def test_the_longest_pauses_of_a_right_clock_are_kept(tmp_path):
    clock = FakeClock()
    one = lane(tmp_path, clock=clock)
    for _ in range(6):
        one.failed("bot_check", "yt-dlp 1")
        clock.advance(lanes.MAX_BREAKER_S)

    again = lane(
        tmp_path, clock=FakeClock(read_state(tmp_path, "direct").closed_until_s - lanes.MAX_BREAKER_S + 1)
    )

    assert again.opens_s() == read_state(tmp_path, "direct").closed_until_s
    slow = LaneConfig(videos_per_hour=0.1, patience_s=0.0)
    (tmp_path / "slow").mkdir()
    lane(tmp_path / "slow", slow).take_video()
    with pytest.raises(LaneClosed):
        lane(tmp_path / "slow", slow).take_video()


class MovingClock(FakeClock):
    """It moves between two looks, as real ones do."""

    def now_s(self) -> float:
        self.advance(1e-3)
        return super().now_s()


def test_a_lane_without_limits_lets_videos_through_though_the_clock_was_set_back(tmp_path):
    lane(tmp_path, LaneConfig(), MovingClock()).take_video()
    an_hour_back = MovingClock(MONDAY_S - HOUR_S)

    lane(tmp_path, LaneConfig(), an_hour_back).take_video()

    assert an_hour_back.now_s() < MONDAY_S - HOUR_S + 1.0


def test_a_sleeper_wakes_though_the_clock_is_set_back():
    class SetBack(Clock):
        reads = 0

        def now_s(self):
            self.reads += 1
            return MONDAY_S - (HOUR_S if self.reads > 1 else 0.0)

    SetBack().sleep_until(MONDAY_S + 0.05)
