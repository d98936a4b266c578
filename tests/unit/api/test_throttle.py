"""The throttle: so many a minute, a tenth of it at once, each caller for itself."""

from __future__ import annotations

import pytest

from agentflow.api.throttle import Throttle
from agentflow.domain.error import TooManyRequests


def _admitted(throttle: Throttle, caller: str, most: int) -> int:
    for number in range(most):
        try:
            throttle.admit(caller)
        except TooManyRequests:
            return number
    return most


def test_a_tenth_of_a_minutes_share_is_admitted_at_once_and_then_one_at_a_time() -> None:
    now = [100.0]
    throttle = Throttle(60, lambda: now[0])

    assert _admitted(throttle, "a", 60) == 7  # the tenth, and the one that is due
    now[0] += 1.0
    assert _admitted(throttle, "a", 60) == 1
    assert _admitted(throttle, "b", 60) == 7


def test_who_is_refused_is_told_when_it_is_its_turn() -> None:
    now = [0.0]
    throttle = Throttle(60, lambda: now[0])
    _admitted(throttle, "a", 60)

    with pytest.raises(TooManyRequests) as refused:
        throttle.admit("a")
    now[0] += refused.value.retry_after

    throttle.admit("a")


def test_nobody_is_told_to_come_again_in_no_time() -> None:
    assert str(TooManyRequests(0.01)) == "Too many requests: ask again in 1 s."
    assert str(TooManyRequests(1.2)) == "Too many requests: ask again in 2 s."


def test_whoever_was_not_heard_of_for_long_is_forgotten() -> None:
    now = [0.0]
    throttle = Throttle(60, lambda: now[0])
    for number in range(10_001):
        now[0] += 10.0
        throttle.admit(f"caller-{number}")

    assert len(throttle._due) < 10
