"""By how much a budget is raised is checked before any server is asked."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from agentflow import AgentFlow, errors
from agentflow.client.budgets import BudgetRaised, checked_more
from agentflow.domain.budget import Budget
from agentflow.settings import Settings


@pytest.mark.parametrize(
    "more",
    [
        {"tokens": 0},
        {"tokens": -5},
        {"tokens": 1.5},
        {"tokens": True},
        {"steps": "many"},
        {"tokens": 10**16},
        {"usd": 0},
        {"usd": -0.5},
        {"usd": "nan"},
        {"usd": float("inf")},
        {"usd": "half"},
        {"usd": True},
        {"usd": 10_000_000},
        {"active_time": "10"},
        {"active_time": "-10m"},
        {"active_time": "0s"},
        {"active_time": timedelta(0)},
    ],
)
def test_what_is_no_addition_is_refused(tmp_path: Path, more: dict[str, Any]) -> None:
    database, redis = SecretStr("postgresql://nobody@127.0.0.1:1/none"), SecretStr("redis://127.0.0.1:1/0")
    with (
        AgentFlow(Settings(home=tmp_path, database_url=database, redis_url=redis)) as flow,
        pytest.raises(errors.UsageError, match=next(iter(more))),
    ):
        flow.raise_budget("1b9d6bcd", **more)


@pytest.mark.parametrize(
    ("more", "largest"),
    [
        ((10**15 + 1, None, None, None), "steps takes at most 1,000,000,000,000,000 to add"),
        ((None, 10**26 - 1, None, None), "tokens takes at most 1,000,000,000,000,000 to add"),
        ((None, 10**5000, None, None), "tokens takes at most"),
        ((None, None, Decimal("1e30"), None), "usd takes at most 1,000,000 to add"),
    ],
)
def test_what_is_too_much_is_told_with_the_most_that_is_taken(more: tuple[Any, Any, Any, Any], largest: str) -> None:
    with pytest.raises(errors.UsageError, match=largest):
        checked_more(*more)
    assert checked_more(10**15, 10**15, 1_000_000, None).tokens == 10**15


def test_an_addition_is_exact() -> None:
    assert checked_more(None, 5000, "0.1", "10m") == Budget(tokens=5000, usd_nano=100_000_000, active_seconds=600)
    assert checked_more(3, None, Decimal("0.000000001"), timedelta(seconds=1.5)) == Budget(
        steps=3, usd_nano=1, active_seconds=1.5
    )


def test_a_raise_tells_the_old_cap_and_the_new_one_of_what_was_raised() -> None:
    raised = BudgetRaised.by(Budget(tokens=5000, usd_nano=500_000_000), Budget(steps=9, tokens=6100, usd_nano=10**9))

    assert raised.as_json() == [
        {"budget": "tokens", "before": 1100, "after": 6100},
        {"budget": "usd", "before": 0.5, "after": 1.0},
    ]
