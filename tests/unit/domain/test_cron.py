"""Cron lines over both changes of clocks of several zones, and the words for what is no cron line."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import islice, pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentflow.domain.cron import Cron, instant_of, read_cron
from agentflow.domain.schedule import CronTiming, due_times

BERLIN, NEW_YORK, LORD_HOWE, CASABLANCA = (
    "Europe/Berlin",  # +1 h at 2:00 on 29 March 2026, -1 h at 3:00 on 25 October
    "America/New_York",  # +1 h at 2:00 on 8 March 2026, -1 h at 2:00 on 1 November
    "Australia/Lord_Howe",  # -30 min at 2:00 on 5 April 2026, +30 min at 2:00 on 4 October
    "Africa/Casablanca",  # -1 h at 3:00 on 15 February 2026 (Ramadan), +1 h at 2:00 on 22 March
)


def _dues(line: str, zone: str, after: str, count: int) -> list[str]:
    """The due times after a local time, as local times with their offsets."""
    read, faults = read_cron(line)
    assert read is not None, faults
    place = ZoneInfo(zone)
    since = instant_of(datetime.fromisoformat(after), place)
    return [f"{due.astimezone(place):%d %H:%M %z}" for due in islice(due_times(CronTiming(read, place), since), count)]


@pytest.mark.parametrize(
    ("zone", "line", "after", "expected"),
    [
        # Missing: the first valid instant after, and the next day as ever.
        (BERLIN, "30 2 * * *", "2026-03-28T00:00", ["28 02:30 +0100", "29 03:00 +0200", "30 02:30 +0200"]),
        (NEW_YORK, "30 2 * * *", "2026-03-07T00:00", ["07 02:30 -0500", "08 03:00 -0400", "09 02:30 -0400"]),
        (LORD_HOWE, "15 2 * * *", "2026-10-03T00:00", ["03 02:15 +1030", "04 02:30 +1100", "05 02:15 +1100"]),
        (CASABLANCA, "30 2 * * *", "2026-03-21T00:00", ["21 02:30 +0000", "22 03:00 +0100", "23 02:30 +0100"]),
        # Doubled: once, the first time.
        (BERLIN, "30 2 * * *", "2026-10-24T00:00", ["24 02:30 +0200", "25 02:30 +0200", "26 02:30 +0100"]),
        (NEW_YORK, "30 1 * * *", "2026-10-31T00:00", ["31 01:30 -0400", "01 01:30 -0400", "02 01:30 -0500"]),
        (LORD_HOWE, "45 1 * * *", "2026-04-04T00:00", ["04 01:45 +1100", "05 01:45 +1100", "06 01:45 +1030"]),
        (CASABLANCA, "30 2 * * *", "2026-02-14T00:00", ["14 02:30 +0100", "15 02:30 +0100", "16 02:30 +0000"]),
        # Untouched hours keep their local time through both.
        (BERLIN, "0 6 * * 1-5", "2026-03-27T00:00", ["27 06:00 +0100", "30 06:00 +0200"]),
        (NEW_YORK, "0 6 * * *", "2026-10-31T12:00", ["01 06:00 -0500", "02 06:00 -0500"]),
        # Several missing times are one instant: due once. The hour that begins there is due at the same one.
        (BERLIN, "*/20 2 * * *", "2026-03-28T02:30", ["28 02:40 +0100", "29 03:00 +0200", "30 02:00 +0200"]),
        (BERLIN, "0 2,3 * * *", "2026-03-28T02:30", ["28 03:00 +0100", "29 03:00 +0200", "30 02:00 +0200"]),
        # Every minute of a fixed hour that comes twice: the first pass only.
        (BERLIN, "*/30 2 * * *", "2026-10-25T00:00", ["25 02:00 +0200", "25 02:30 +0200", "26 02:00 +0100"]),
        # A midnight that a zone leaves out.
        ("America/Sao_Paulo", "0 0 * * *", "2018-11-03T12:00", ["04 01:00 -0200", "05 00:00 -0200"]),
        # A whole day that a zone leaves out.
        ("Pacific/Apia", "30 12 29,30 12 *", "2011-12-29T00:00", ["29 12:30 -1000", "31 00:00 +1400"]),
    ],
)
def test_fixed_hours_go_by_nominal_local_time(zone: str, line: str, after: str, expected: list[str]) -> None:
    assert _dues(line, zone, after, len(expected)) == expected


@pytest.mark.parametrize(
    ("zone", "line", "after", "expected"),
    [
        (BERLIN, "0 * * * *", "2026-03-29T00:30", ["29 01:00 +0100", "29 03:00 +0200", "29 04:00 +0200"]),
        (BERLIN, "0 * * * *", "2026-10-25T01:30", ["25 02:00 +0200", "25 02:00 +0100", "25 03:00 +0100"]),
        (NEW_YORK, "30 * * * *", "2026-11-01T00:45", ["01 01:30 -0400", "01 01:30 -0500", "01 02:30 -0500"]),
        (NEW_YORK, "30 * * * *", "2026-03-08T01:00", ["08 01:30 -0500", "08 03:30 -0400"]),
        (LORD_HOWE, "*/15 * * * *", "2026-04-05T01:40", ["05 01:45 +1100", "05 01:30 +1030", "05 01:45 +1030"]),
        (LORD_HOWE, "*/15 * * * *", "2026-10-04T01:40", ["04 01:45 +1030", "04 02:30 +1100", "04 02:45 +1100"]),
        (LORD_HOWE, "0 */2 * * *", "2026-04-04T23:00", ["05 00:00 +1100", "05 02:00 +1030", "05 04:00 +1030"]),
        (CASABLANCA, "0 */2 * * *", "2026-02-15T01:00", ["15 02:00 +0100", "15 02:00 +0000", "15 04:00 +0000"]),
        (CASABLANCA, "0 */2 * * *", "2026-03-22T00:30", ["22 04:00 +0100", "22 06:00 +0100"]),
        # Every hour, however it is written, is every hour.
        (BERLIN, "0 0-23 * * *", "2026-10-25T01:30", ["25 02:00 +0200", "25 02:00 +0100", "25 03:00 +0100"]),
    ],
)
def test_every_hour_goes_by_the_time_that_really_passes(zone: str, line: str, after: str, expected: list[str]) -> None:
    assert _dues(line, zone, after, len(expected)) == expected


def test_every_hour_is_every_hour_through_a_whole_year() -> None:
    timing = CronTiming(Cron("0 * * * *"), ZoneInfo(BERLIN))
    dues = list(due_times(timing, datetime(2025, 12, 31, 23, 30, tzinfo=UTC), datetime(2026, 12, 31, 23, tzinfo=UTC)))
    assert len(dues) == 365 * 24
    assert {later - earlier for earlier, later in pairwise(dues)} == {timedelta(hours=1)}


def test_a_fixed_hour_is_due_once_on_every_day_of_a_year_in_every_zone() -> None:
    for zone in (BERLIN, NEW_YORK, LORD_HOWE, CASABLANCA):
        place = ZoneInfo(zone)
        begin, end = (datetime(year, 1, 1, tzinfo=place).astimezone(UTC) for year in (2026, 2027))
        for line in ("30 2 * * *", "45 1 * * *", "0 3 * * *"):
            dues = list(due_times(CronTiming(Cron(line), place), begin, end))
            assert len({due.astimezone(place).date() for due in dues}) == len(dues) == 365, (zone, line)


@given(
    st.sampled_from(["30 2 * * *", "*/10 * * * *", "0 */3 * * *", "15 1-4 * * 0", "* 2 * * *", "0 0 1 * *"]),
    st.sampled_from([BERLIN, NEW_YORK, LORD_HOWE, CASABLANCA]),
    st.integers(0, 365 * 86_400 * 10),
    st.integers(0, 7200),
)
def test_the_next_due_time_does_not_depend_on_when_it_is_asked(line: str, zone: str, tenths: int, ago: int) -> None:
    at = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=tenths / 10)
    timing = CronTiming(Cron(line), ZoneInfo(zone))
    due = timing.next_after(at)
    assert due is not None
    assert due > at
    between = [each for each in due_times(timing, at - timedelta(seconds=ago), due) if each > at]
    assert between == [due]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("61 6 * * *", ["'61' is no minute"]),
        ("61 25 32 13 MOO", ["no minute", "no hour", "no day of the month", "no month", "no day of the week"]),
        ("0 6 * *", ["has five fields"]),
        ("0 0 6 * * *", ["has five fields"]),
        ("", ["has five fields"]),
        ("every day", ["has five fields"]),
        ("0 0 30 2 *", ["never due"]),
        ("0 0 31 2,4 *", ["never due"]),
        ("*/0 * * * *", ["'*/0' is no minute"]),
        ("5-1 * * * *", ["'5-1' is no minute"]),
    ],
)
def test_what_is_no_cron_line_is_told_field_by_field(line: str, words: list[str]) -> None:
    cron, faults = read_cron(line)
    assert cron is None
    assert len(faults) == len(words)
    for fault, word in zip(faults, words, strict=True):
        assert word in fault


@pytest.mark.parametrize(
    ("line", "stored"), [("@daily", "0 0 * * *"), (" 0  6 * * mon-fri ", "0 6 * * MON-FRI"), ("0 0 L * *", "0 0 L * *")]
)
def test_a_cron_line_is_read_as_people_write_it(line: str, stored: str) -> None:
    cron, _ = read_cron(line)
    assert cron == Cron(stored)
