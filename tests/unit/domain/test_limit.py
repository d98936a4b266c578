"""What a rate limit means: how many starts a window of time can see, whoever asks when and comes back how late."""

from __future__ import annotations

import heapq
from bisect import bisect_left

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agentflow.domain.limit import LATENESS_SECONDS, RateLimit
from tests.gcra import Rate

MINUTE = 60.0


def _starts(limit: RateLimit, asks: list[float], lateness: list[float]) -> list[tuple[int, float]]:
    """Let everybody ask at his time, and come back some seconds after that of his ticket; returns who started when."""
    rate = Rate(limit.interval_seconds, limit.burst)
    coming: list[tuple[float, int, float | None]] = [(at, who, None) for who, at in enumerate(asks)]
    heapq.heapify(coming)
    starts = []
    turns = iter(range(10**9))
    while coming:
        now, who, ticket = heapq.heappop(coming)
        later = rate.ask(now, ticket)
        if later is None:
            starts.append((who, now))
        else:
            delay = lateness[next(turns) % len(lateness)]
            heapq.heappush(coming, (later + delay, who, later))
    return starts


def _most_in_a_minute(starts: list[tuple[int, float]]) -> int:
    times = sorted(at for _, at in starts)
    return max(bisect_left(times, at + MINUTE) - place for place, at in enumerate(times))


limits = st.builds(
    RateLimit, limit=st.integers(1, 200), per_seconds=st.sampled_from([60, 60, 60, 120]), burst=st.integers(1, 20)
)
seconds = st.floats(0, 90, allow_nan=False)
unhurried = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])


@unhurried
@given(limits, st.lists(seconds, min_size=1, max_size=250), st.lists(st.floats(0, LATENESS_SECONDS), min_size=1))
def test_no_minute_sees_more_than_the_limit_and_the_burst(
    limit: RateLimit, asks: list[float], lateness: list[float]
) -> None:
    starts = _starts(limit, asks, lateness)

    assert len(starts) == len(asks)
    assert _most_in_a_minute(starts) <= limit.limit * MINUTE / limit.per_seconds + limit.burst


@unhurried
@given(limits, st.lists(seconds, min_size=1, max_size=120), st.lists(st.floats(0, 30), min_size=1))
def test_who_comes_too_late_takes_a_new_ticket_and_no_minute_sees_more(
    limit: RateLimit, asks: list[float], lateness: list[float]
) -> None:
    starts = _starts(limit, asks, [*lateness, 0.0])

    assert _most_in_a_minute(starts) <= limit.limit * MINUTE / limit.per_seconds + limit.burst


@unhurried
@given(limits, st.lists(seconds, min_size=1, max_size=120, unique=True))
def test_who_asks_first_starts_first(limit: RateLimit, asks: list[float]) -> None:
    asks.sort()

    starts = _starts(limit, asks, [0.0])

    # A ticket that is just about for now is used a little early, which a start on time may follow.
    assert all(
        earlier[1] <= later[1] + 0.011 for earlier, later in zip(sorted(starts), sorted(starts)[1:], strict=False)
    )


@pytest.mark.parametrize("limit", [RateLimit(limit=60, per_seconds=60), RateLimit(limit=600, per_seconds=60, burst=5)])
def test_under_demand_a_minute_sees_nearly_the_limit(limit: RateLimit) -> None:
    starts = sorted(at for _, at in _starts(limit, [0.0] * (limit.limit * 2), [0.0, 0.1, 0.3, 0.05]))

    for begin in (0.0, 7.5, 30.0):
        seen = bisect_left(starts, begin + MINUTE) - bisect_left(starts, begin)
        assert seen >= limit.limit * 57 / 60


@pytest.mark.parametrize("per_minute", [1, 2, 6, 20, 60, 600])
@pytest.mark.parametrize("burst", [1, 5])
def test_the_worst_minute_begins_at_the_end_of_a_stall(per_minute: int, burst: int) -> None:
    """A stall just as long as tickets hold: all that fell due in it start at its end, everybody else on time."""
    limit = RateLimit(limit=per_minute, per_seconds=60, burst=burst)
    rate = Rate(limit.interval_seconds, limit.burst)
    tickets = [rate.ask(0.0) or 0.0 for _ in range(per_minute * 4 + burst)]

    for began in tickets[: per_minute * 2 : max(1, per_minute // 20)]:
        ended = began + rate.lateness
        starts = [(who, ended if began <= at <= ended else at) for who, at in enumerate(tickets)]
        assert _most_in_a_minute(starts) <= per_minute + burst


def test_a_quiet_time_saves_up_the_burst_and_no_more() -> None:
    limit = RateLimit(limit=60, per_seconds=60, burst=3)

    starts = _starts(limit, [100.0] * 6, [0.0])

    assert [round(at - 100, 2) for _, at in starts] == [0, 0, 0, 1.03, 2.06, 3.09]


def test_the_key_is_the_written_one_or_the_steps_own() -> None:
    own, shared = RateLimit(limit=1, per_seconds=1), RateLimit(key="api", limit=1, per_seconds=1)

    assert own.key_for("ops", "nightly", "call") == "ops/nightly/call"
    assert shared.key_for("ops", "nightly", "call") == "api"
