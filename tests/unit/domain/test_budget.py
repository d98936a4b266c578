"""Budgets count money without rounding, days in their own time zone, and an attempt in every scope that caps it."""

from __future__ import annotations

from datetime import UTC, datetime
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from agentflow.domain.budget import (
    MAX_TOKENS,
    MAX_USD,
    NANO_PER_USD,
    Amounts,
    Budget,
    BudgetKind,
    ConfiguredBudgets,
    Exhaustion,
    ScopeBudget,
    nano_of,
    scopes_of,
    usd_of,
)
from agentflow.domain.ids import RunId

RUN = RunId(UUID(int=7))
NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)


@given(st.decimals(min_value=0, max_value=MAX_USD, places=12))
def test_money_is_never_rounded_down(usd) -> None:  # type: ignore[no-untyped-def]
    nano = nano_of(usd)

    assert 0 <= nano - usd * NANO_PER_USD < 1


def test_a_price_of_a_fraction_of_a_nano_dollar_costs_one() -> None:
    assert nano_of("0.0000000001") == 1
    assert usd_of(nano_of("0.5")) == 0.5


@given(st.builds(Amounts, st.integers(0, 99), st.integers(0, 99), st.integers(0, 99)))
def test_amounts_come_back_from_their_stored_form(amounts: Amounts) -> None:
    assert Amounts.from_json(amounts.as_json()) == amounts


@pytest.mark.parametrize(
    ("at", "begins", "ends"),
    [
        # Berlin leaves summer time in the night to 25 October 2026: that day has 25 hours.
        ("2026-10-25T12:00:00+00:00", "2026-10-24T22:00:00+00:00", "2026-10-25T23:00:00+00:00"),
        ("2026-03-29T12:00:00+00:00", "2026-03-28T23:00:00+00:00", "2026-03-29T22:00:00+00:00"),
        ("2026-11-20T23:30:00+00:00", "2026-11-20T23:00:00+00:00", "2026-11-21T23:00:00+00:00"),
    ],
)
def test_a_day_begins_and_ends_where_its_time_zone_says(at: str, begins: str, ends: str) -> None:
    budgets = ConfiguredBudgets(timezone="Europe/Berlin")

    found = budgets.day_of(datetime.fromisoformat(at))

    assert [moment.astimezone(UTC).isoformat() for moment in found] == [begins, ends]


def test_an_unknown_time_zone_is_refused_with_an_example() -> None:
    with pytest.raises(ValidationError, match="Europe/Berlin"):
        ConfiguredBudgets(timezone="Mars/Olympus")


def test_an_attempt_counts_in_its_run_and_in_every_scope_capped_or_not() -> None:
    configured = ConfiguredBudgets(
        installation=ScopeBudget(usd_per_day=5),
        project={"ops": ScopeBudget(tokens=100, tokens_per_day=10)},
        directive={"ops/nightly": ScopeBudget(tokens=50)},
    )

    scopes = scopes_of(RUN, Budget(), "ops", "nightly", NOON, configured)

    assert [scope.name for scope in scopes] == [
        f"run:{RUN}",
        "directive:ops/nightly",
        "directive:ops/nightly@2026-11-21",
        "project:ops",
        "project:ops@2026-11-21",
        "installation",
        "installation@2026-11-21",
    ]
    assert [scope.resets_at is not None for scope in scopes] == [False, False, True, False, True, False, True]
    assert [scope.name for scope in configured.scopes("ops", "nightly", NOON)] == [
        "directive:ops/nightly",
        "project:ops",
        "project:ops@2026-11-21",
        "installation@2026-11-21",
    ]


@pytest.mark.parametrize(
    ("timezone", "at", "day"),
    [
        ("UTC", NOON, "2026-11-21"),
        ("Europe/Berlin", NOON, "2026-11-21+01:00"),
        ("America/New_York", datetime(2026, 11, 21, 1, tzinfo=UTC), "2026-11-20-05:00"),
        ("Europe/London", NOON, "2026-11-21"),
        # London goes over to summer time on 29 March 2026: that day is none of UTC's.
        ("Europe/London", datetime(2026, 3, 29, 12, tzinfo=UTC), "2026-03-29+00:00+01:00"),
        ("Africa/Lagos", datetime(2026, 10, 25, 12, tzinfo=UTC), "2026-10-25+01:00"),
        ("Europe/Berlin", datetime(2026, 10, 25, 12, tzinfo=UTC), "2026-10-25+02:00+01:00"),
    ],
)
def test_a_days_name_says_its_bounds_to_every_configuration(timezone: str, at: datetime, day: str) -> None:
    caps = {"*": ScopeBudget(tokens_per_day=5)}
    [scope] = ConfiguredBudgets(timezone=timezone, project=caps).scopes("ops", None, at)

    assert scope.name == f"project:ops@{day}"
    assert ConfiguredBudgets(timezone="Asia/Tokyo", project=caps).scope_named(scope.name) == scope


@pytest.mark.parametrize("owner", ["directive:ops/nightly", "project:ops", "installation"])
def test_a_scope_is_found_by_its_name(owner: str) -> None:
    configured = ConfiguredBudgets(timezone="Asia/Kolkata", installation=ScopeBudget(tokens=1))

    for scope in configured.pair_of(owner, NOON):
        assert configured.scope_named(scope.name) == scope


@pytest.mark.parametrize("name", ["nobody", "installation@", "project:ops@2026-13-01", "project:ops@2026-11-21+01:00x"])
def test_a_name_of_no_scope_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=r"budget|month"):
        ConfiguredBudgets().scope_named(name)


def test_amounts_are_kept_within_what_can_be_counted() -> None:
    assert Amounts(1, 10**20, 10**30).bounded() == Amounts(1, MAX_TOKENS, MAX_USD * NANO_PER_USD)
    assert Amounts(1, -5, 7).bounded() == Amounts(1, 0, 7)


def test_a_project_without_a_table_of_its_own_takes_that_of_all_others() -> None:
    configured = ConfiguredBudgets(project={"*": ScopeBudget(tokens=1), "ops": ScopeBudget(tokens=2)})

    assert [scope.limits.tokens for scope in configured.scopes("ops", None, NOON)] == [2]
    assert [scope.limits.tokens for scope in configured.scopes("other", None, NOON)] == [1]


@pytest.mark.parametrize(
    ("kind", "used", "needed", "caps", "is_short"),
    [
        (BudgetKind.TOKENS, 90, 10, Budget(tokens=100), False),
        (BudgetKind.TOKENS, 91, 10, Budget(tokens=100), True),
        (BudgetKind.TOKENS, 91, 10, Budget(), False),
        (BudgetKind.ACTIVE_TIME, 60, 0, Budget(active_seconds=60), True),
        (BudgetKind.ACTIVE_TIME, 60, 0, Budget(active_seconds=61), False),
    ],
)
def test_a_raised_budget_covers_it_or_not(
    kind: BudgetKind, used: int, needed: int, caps: Budget, *, is_short: bool
) -> None:
    assert Exhaustion(kind, f"run:{RUN}", 1, used, 0, needed).is_short_of(caps) is is_short


def test_exhausted_money_is_shown_in_dollars() -> None:
    detail = Exhaustion(
        BudgetKind.USD, "installation@2026-11-21", nano_of("0.5"), nano_of("0.4"), 0, nano_of("0.2"), NOON
    )

    assert detail.as_detail() == {
        "budget": "usd",
        "scope": "installation@2026-11-21",
        "limit": 0.5,
        "used": 0.4,
        "reserved": 0.0,
        "needed": 0.2,
        "resets_at": NOON.isoformat(),
    }
