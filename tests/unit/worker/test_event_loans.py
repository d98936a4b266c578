"""Who decides whether a worker sends events: those who turned them on, and the monitors that borrow them meanwhile."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from agentflow.worker.event_loans import EventLoans

OFF, ON_BY_COMMAND, ON_BY_SETTINGS = {"worker"}, {"worker", "task"}, set[str]()


def _sending(groups: set[str]) -> Any:
    """What remote control sees of a worker that sends events of these groups; of all, when there are none."""
    return SimpleNamespace(consumer=SimpleNamespace(event_dispatcher=SimpleNamespace(groups=set(groups))))


@pytest.fixture
def loans() -> EventLoans:
    return EventLoans(SimpleNamespace())


def test_the_first_monitor_turns_events_on_and_the_last_turns_them_off(loans: EventLoans) -> None:
    state = _sending(OFF)
    groups = state.consumer.event_dispatcher.groups
    loans.watch(state, "one")
    loans.watch(state, "two")
    loans.watch(state, "one", 0)
    assert "task" in groups, "the other still watches"
    loans.watch(state, "two", 0)
    assert groups == OFF


@pytest.mark.parametrize("before", [ON_BY_SETTINGS, ON_BY_COMMAND])
def test_events_that_somebody_else_turned_on_stay_on(loans: EventLoans, before: set[str]) -> None:
    state = _sending(before)
    loans.watch(state, "one")
    loans.watch(state, "one", 0)
    assert state.consumer.event_dispatcher.groups == before


def test_without_a_connection_nothing_is_lent(loans: EventLoans) -> None:
    state = SimpleNamespace(consumer=SimpleNamespace(event_dispatcher=None))
    assert loans.watch(state, "one") == {"error": "not connected"}
