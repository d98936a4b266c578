"""Cursors come back as the place that they were made of; the pace of followers grows and ends."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentflow.client.pace import FIRST_SECONDS, Pace
from agentflow.client.page import cursor_after, place_of
from agentflow.domain.error import UsageError
from agentflow.domain.ids import RunId
from agentflow.domain.state import ShownRunState
from agentflow.storage.view_shapes import RunSummary


def summary(at: datetime) -> RunSummary:
    return RunSummary(RunId(uuid4()), ShownRunState.RUNNING, "default", "p", "f", "me", None, 1, at, at, None, at)


@given(st.datetimes(timezones=st.just(UTC)))
def test_a_cursor_names_time_and_id_of_the_last_run(at: datetime) -> None:
    last = summary(at)

    assert place_of(cursor_after(last)) == (at, last.id)


@pytest.mark.parametrize("cursor", ["", "abc", "%%%", "MjAyNg", "🙂"])
def test_what_is_no_cursor_is_refused(cursor: str) -> None:
    with pytest.raises(UsageError, match="next_cursor"):
        place_of(cursor)


def test_a_pace_ends_at_its_time_and_not_before() -> None:
    pace = Pace(0.2)
    began = time.monotonic()
    while pace.pause():
        pass

    assert 0.2 <= time.monotonic() - began < 10


def test_the_first_pauses_are_short() -> None:
    pace = Pace()
    began = time.monotonic()
    pace.pause()

    assert time.monotonic() - began < FIRST_SECONDS * 40


def test_a_slow_look_is_repeated_less_often() -> None:
    pace = Pace()
    time.sleep(0.1)  # stands for a look that takes this long
    began = time.monotonic()
    pace.pause()

    assert time.monotonic() - began >= 0.4
