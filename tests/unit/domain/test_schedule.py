"""Intervals, jitter and catching up: exact, the same in every process, and never long."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentflow.domain.cron import Cron
from agentflow.domain.schedule import (
    MOST_MISSED,
    CronTiming,
    IntervalTiming,
    OnceTiming,
    Pace,
    Timing,
    catch_up,
    due_times,
    timing_of,
)
from agentflow.domain.schedule_document import WrittenSchedule, read_schedule

NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)
ONE = UUID(int=1)
MINUTELY = CronTiming(Cron("* * * * *"), ZoneInfo("Europe/Berlin"))


@given(st.integers(1, 10**6), st.integers(-(10**9), 10**9))
def test_an_interval_is_due_at_its_anchor_and_whole_steps_after_it(milliseconds: int, offset: int) -> None:
    timing = IntervalTiming(milliseconds / 1000, NOON)
    after = NOON + timedelta(microseconds=offset)
    due = timing.next_after(after)
    assert due is not None
    assert due > after
    assert due >= NOON
    assert (due - NOON) % timedelta(milliseconds=milliseconds) == timedelta()
    assert due == NOON or due - after <= timedelta(milliseconds=milliseconds)


def test_an_interval_does_not_care_about_clocks() -> None:
    anchor = datetime(2026, 3, 28, 2, 30, tzinfo=ZoneInfo("Europe/Berlin"))
    dues = list(due_times(IntervalTiming(86_400, anchor), anchor, anchor.astimezone(UTC) + timedelta(days=3)))
    assert [due.astimezone(UTC).hour for due in dues] == [1, 1, 1]


@pytest.mark.parametrize(
    "timing", [MINUTELY, IntervalTiming(1.5, NOON), OnceTiming(NOON)], ids=lambda timing: timing.kind
)
def test_what_is_stored_is_read_back(timing: Timing) -> None:
    zone = "Europe/Berlin"
    assert timing_of(timing.kind.value, timing.as_json(), zone) == timing


@given(st.uuids(), st.datetimes(timezones=st.just(UTC)), st.floats(0.001, 3600))
def test_jitter_is_the_same_for_everyone_and_below_its_bound(schedule_id: UUID, due: datetime, jitter: float) -> None:
    pace = Pace(schedule_id, jitter)
    if due.year > 9000:
        return
    fire_at = pace.fire_at(due)
    assert due <= fire_at < due + timedelta(seconds=jitter)
    assert fire_at == Pace(schedule_id, jitter).fire_at(due.astimezone(ZoneInfo("Asia/Tokyo")))


def test_an_interval_ends_with_the_year_9999() -> None:
    last = datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)

    assert list(due_times(IntervalTiming(1, last), NOON)) == [last]
    assert {Pace(UUID(int=number), 3600).fire_at(last) for number in range(20)} == {last}


def test_jitter_spreads_schedules_that_are_due_together() -> None:
    seconds = [(Pace(UUID(int=number), 60).fire_at(NOON) - NOON).total_seconds() for number in range(200)]
    assert min(seconds) < 6
    assert max(seconds) > 54
    assert 20 < sum(seconds) / len(seconds) < 40


def test_what_is_due_in_time_fires_and_what_comes_next_is_known() -> None:
    caught = catch_up(MINUTELY, Pace(ONE, catch_up_seconds=10), NOON, NOON + timedelta(seconds=3))
    assert (caught.fire, caught.missed, caught.until) == ((NOON,), (), None)
    assert caught.next_at == NOON + timedelta(minutes=1)


def test_within_the_window_everything_fires_and_before_it_everything_was_missed() -> None:
    caught = catch_up(MINUTELY, Pace(ONE, catch_up_seconds=300), NOON, NOON + timedelta(minutes=10))
    assert caught.missed == tuple(NOON + timedelta(minutes=number) for number in range(5))
    assert caught.fire == tuple(NOON + timedelta(minutes=number) for number in range(5, 11))
    assert caught.next_at == NOON + timedelta(minutes=11)


def test_a_year_without_anyone_is_caught_up_with_in_a_moment() -> None:
    computed = 0

    class Counted:
        kind = MINUTELY.kind

        def next_after(self, after: datetime) -> datetime | None:
            nonlocal computed
            computed += 1
            return MINUTELY.next_after(after)

        def as_json(self) -> dict[str, Any]:
            return {}

    now = NOON + timedelta(days=365)
    caught = catch_up(Counted(), Pace(ONE, jitter_seconds=30, catch_up_seconds=600), NOON, now)
    assert computed < MOST_MISSED + 30
    assert len(caught.missed) == MOST_MISSED
    assert caught.until is not None
    window = now - timedelta(seconds=630)
    assert window <= caught.until <= now - timedelta(seconds=600)
    assert [due for due in caught.fire if due <= caught.until] == []
    assert len(caught.fire) in (10, 11)
    assert caught.next_at is not None
    assert Pace(ONE, 30).fire_at(caught.next_at) > now


@given(
    st.integers(0, 100_000), st.floats(10, 600), st.floats(0, 50), st.uuids(), st.sampled_from([1.0, 60.0, 3600.0, 7.5])
)
def test_each_due_time_is_caught_exactly_once(
    away: int, window: float, jitter: float, schedule_id: UUID, step: float
) -> None:
    timing, now = IntervalTiming(step, NOON), NOON + timedelta(seconds=away)
    pace = Pace(schedule_id, min(jitter, step * 0.9), window)
    caught = catch_up(timing, pace, NOON, now)
    assert caught.next_at is not None
    told = [*caught.missed, *caught.fire]
    assert told == sorted(set(told))
    assert all(not pace.is_late(due, now) for due in caught.fire)
    assert all(pace.is_late(due, now) for due in caught.missed)
    after = caught.until if caught.until is not None else NOON - timedelta(microseconds=1)
    expected = list(due_times(timing, after, caught.next_at - timedelta(microseconds=1)))
    assert [due for due in told if due > after] == expected


def _read(**fields: Any) -> list[str]:
    read, faults = read_schedule(WrittenSchedule(**{"name": "nightly", **fields}), NOON)
    assert (read is None) == bool(faults)
    return [f"{'.'.join(map(str, fault.path))}: {fault.message}" for fault in faults]


def test_every_fault_of_a_schedule_is_told_at_once() -> None:
    faults = _read(
        name="night ly",
        cron="61 6 * * *",
        time_zone="Europe/Berlim",
        jitter="10",
        overlap="skp",
        queue_depth=0,
        catch_up="1 h",
        start="2026-01-01",
    )
    assert [fault.partition(":")[0] for fault in faults] == [
        "name", "time_zone", "start", "cron", "queue_depth", "overlap", "jitter", "catch_up",
    ]  # fmt: skip
    assert "did you mean 'Europe/Berlin'?" in faults[1]
    assert "did you mean 'skip'?" in faults[5]


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({}, "timing: say when it is due with one of cron, every and at"),
        ({"cron": "0 6 * * *", "every": "5m"}, "not cron and every"),
        ({"every": "500ms"}, "every: an interval is at least 1s"),
        ({"every": "15"}, "every: 15 has no unit"),
        ({"at": "tomorrow"}, "at: 'tomorrow' is no time"),
        ({"at": "2026-11-21T11:00"}, "at: 2026-11-21T11:00:00+00:00 is past"),
        ({"every": "1m", "jitter": "1m"}, "jitter: the jitter must be shorter"),
        ({"every": "1m", "catch_up": "5s"}, "catch_up: the catch-up window is at least 10s"),
        ({"every": "1s", "catch_up": "1h"}, "holds at most 1000 due times, here 16m40s"),
        ({"every": "1m", "time_zone": "Europe"}, "time_zone: 'Europe' is no time zone"),
        ({"every": "1m", "time_zone": "/etc/passwd"}, "is no time zone"),
    ],
)
def test_a_fault_says_what_is_wrong_and_what_to_do(fields: dict[str, Any], words: str) -> None:
    (fault,) = _read(**fields)
    assert words in fault


def test_a_time_without_offset_is_local_and_a_missing_one_is_the_first_valid_after() -> None:
    for written, expected in (
        ("2027-03-28T02:30", "2027-03-28T01:00:00+00:00"),
        ("2027-10-31T02:30", "2027-10-31T00:30:00+00:00"),
        ("2026-12-01T06:00", "2026-12-01T05:00:00+00:00"),
        ("2026-12-01T06:00-05:00", "2026-12-01T11:00:00+00:00"),
    ):
        read, faults = read_schedule(WrittenSchedule("once", at=written, time_zone="Europe/Berlin"), NOON)
        assert read is not None, faults
        assert read.timing.as_json() == {"at": expected}
