"""By how much a budget must be raised, in the words that the command takes."""

from __future__ import annotations

from typing import Any

import pytest

from agentflow.domain.budget import Budget, BudgetKind
from agentflow.domain.duration import parse_duration
from agentflow.domain.shortfall import cap_of, missing, written


def exhausted(budget: str, used: float, needed: float) -> dict[str, Any]:
    return {"budget": budget, "scope": "run:x", "limit": 1, "used": used, "reserved": 0, "needed": needed}


@pytest.mark.parametrize(
    ("kind", "amount", "text"),
    [
        (BudgetKind.TOKENS, 1_234_567, "1234567"),
        (BudgetKind.STEPS, 10**15, "1000000000000000"),
        (BudgetKind.USD, 0.1, "0.1"),
        (BudgetKind.USD, 0.0000000011, "0.000000002"),
        (BudgetKind.USD, 1_000_000, "1000000"),
        (BudgetKind.ACTIVE_TIME, 90, "1m30s"),
        (BudgetKind.ACTIVE_TIME, 0.0001, "1ms"),
    ],
)
def test_an_amount_is_written_whole_and_never_rounded_down(kind: BudgetKind, amount: float, text: str) -> None:
    assert written(kind, amount) == text


def test_what_is_missing_is_what_a_cap_lacks() -> None:
    assert missing(exhausted("tokens", 900, 300), 1100) == "100"
    assert missing(exhausted("tokens", 900, 300), 1200) is None
    assert missing(exhausted("tokens", 4_000_000, 300), 1100) == "3999200"
    assert missing(exhausted("usd", 0.3, 0.1), 0.3) == "0.1"
    assert missing(exhausted("steps", 3, 1), 3) == "1"
    assert missing(exhausted("steps", 3, 1), None) is None


@pytest.mark.parametrize(("used", "limit"), [(60, 60), (61.4, 60), (60.5, 60), (7200.001, 60)])
def test_active_time_that_is_over_lacks_more_than_what_was_used_too_much(used: float, limit: float) -> None:
    more = missing(exhausted("active_time", used, 0), limit)

    assert more is not None
    assert used < limit + parse_duration(more) <= used + 1


def test_active_time_that_is_left_lacks_nothing() -> None:
    assert missing(exhausted("active_time", 60, 0), 60.5) is None


def test_a_cap_is_read_in_the_units_of_people() -> None:
    budget = Budget(tokens=7, usd_nano=500_000_000, active_seconds=90)

    assert [cap_of(budget, kind) for kind in BudgetKind] == [None, 7, 0.5, 90]
