"""The written form of a wait."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from agentflow.domain.action import WaitAction
from agentflow.domain.moment import parse_moment
from agentflow.domain.plan_document import PlanReading, read_plan
from tests.factories import document, noop_step


def _read(wait: Any, **more: Any) -> PlanReading:
    return read_plan(document([{"id": "w", "wait": wait}, noop_step("last", ["w"], **more)]))


def _fault(wait: Any) -> str:
    reading = _read(wait)
    assert reading.plan is None
    return "; ".join(fault.message for fault in reading.faults)


@pytest.mark.parametrize(
    ("written", "action"),
    [
        ({"for": "90s"}, WaitAction(for_seconds=90)),
        ({"for": "0s"}, WaitAction(for_seconds=0)),
        ({"until": "2026-11-21T18:00:00+01:00"}, WaitAction(until="2026-11-21T18:00:00+01:00")),
        ({"event": "deployed", "timeout": "2h"}, WaitAction(event="deployed", timeout_seconds=7200)),
        ({"event": "deployed"}, WaitAction(event="deployed")),
    ],
)
def test_a_wait_is_for_a_time_or_for_a_signal(written: Any, action: WaitAction) -> None:
    reading = _read(written)

    assert reading.plan is not None, reading.faults
    assert reading.plan.step("w").action == action  # type: ignore[arg-type]  # a plain text is a key here


@pytest.mark.parametrize(
    ("written", "words"),
    [
        ({}, "exactly one of for, until and event, this has none"),
        ({"for": "1s", "event": "x"}, "this has for, event"),
        ({"for": "1s", "timeout": "2s"}, "timeout is for the wait for an event"),
        ({"for": "5"}, "has no unit"),
        ({"until": "tomorrow"}, "until is no ISO 8601 time"),
        ({"until": "2026-11-21T18:00:00"}, "lacks its time zone"),
        ({"event": "for {{ vars.x }}"}, "plain name of a signal"),
        ({"event": "x", "timeout": "0s"}, "longer than nothing"),
        ({"events": "x"}, "unknown field"),
    ],
)
def test_a_wait_that_cannot_be_meant_is_a_fault(written: Any, words: str) -> None:
    assert words in _fault(written)


def test_the_data_of_a_signal_can_be_read_by_later_steps_and_its_stdout_cannot() -> None:
    assert _read({"event": "x"}, when="steps.w.result.ok == true").plan is not None
    assert "has only" in _fault_of_reader("steps.w.stdout == ''")


def _fault_of_reader(when: str) -> str:
    reading = _read({"event": "x"}, when=when)
    assert reading.plan is None
    return reading.faults[0].message


def test_moments_are_read_with_their_zone() -> None:
    assert parse_moment(" 2026-11-21T18:00:00+01:00\n") == datetime(2026, 11, 21, 17, tzinfo=UTC)
    assert parse_moment("2026-11-21T18:00Z") == datetime(2026, 11, 21, 18, tzinfo=UTC)
    with pytest.raises(ValueError, match="no time that can be kept"):
        parse_moment("0001-01-01T00:00:00+05:00")
