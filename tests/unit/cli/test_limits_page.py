"""What the page of limits says to a person."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from agentflow.broker.breakers import BreakerState, BreakerView
from agentflow.cli.limits_page import ROOM, ahead, frequency, limits_page
from agentflow.client.limit_report import LimitsReport
from agentflow.domain.ids import StepKey
from agentflow.storage.limits import ConcurrencyView, HolderView, LimitsView, RateView, WaitingStep
from tests.unit.cli.runs import RUN_ID, START, at
from tests.unit.cli.test_pages import drawn

WAITING = WaitingStep(RUN_ID, StepKey("ask"), at(1.2))
RATE = RateView("openai", 1 / 0.97, 1, at(3.2), 5, (WAITING,))
HOLDER = HolderView(1, RUN_ID, StepKey("load"), "worker\x1b@host:7", at(-3), at(17))
PLACES = ConcurrencyView("db", 4, (HOLDER,), 2, (replace(WAITING, at=at(-2)),))
OPEN = BreakerView("openai@api.openai.com", BreakerState.OPEN, total=9, failed=5, rejected=2, retry_after_seconds=12)


def page(
    rates: tuple[RateView, ...] = (),
    places: tuple[ConcurrencyView, ...] = (),
    breakers: tuple[BreakerView, ...] | None = (),
) -> str:
    return drawn(limits_page(LimitsReport(START, LimitsView(rates, places), breakers)))


def rows(text: str) -> list[list[str]]:
    return [line.split() for line in text.splitlines()]


def test_a_rate_says_its_limit_when_it_is_free_and_who_waits() -> None:
    told = page(rates=(RATE,))

    assert ["openai", "60/m", "1", "in", "3.2", "s", "5"] in rows(told)
    assert ["1b9d6bcd", "ask", "ticket", "in", "1.2", "s"] in rows(told)
    assert "and 4 more" in told
    assert "concurrency" not in told


def test_a_concurrency_says_who_holds_its_places_and_who_stands_in_line() -> None:
    told = page(places=(PLACES,))

    assert ["db", "1", "of", "4", "2"] in rows(told)
    assert "1b9d6bcd load" in told
    assert r"worker\x1b@host:7, lease ends in 17 s" in told
    assert ["1b9d6bcd", "ask", "waits", "2.0", "s", "ago"] in rows(told)
    assert "and 1 more" in told


def test_an_open_breaker_says_when_the_next_call_goes() -> None:
    half_open = BreakerView("ollama@127.0.0.1:11434", BreakerState.HALF_OPEN, successes=2)

    told = page(breakers=(OPEN, half_open))

    assert ["openai@api.openai.com", "open", "9", "5", "2", "next", "call", "in", "12", "s"] in rows(told)
    assert "half open" in told
    assert "2 trials went well" in told


def test_without_limits_and_without_redis_that_is_said() -> None:
    assert page() == "No limits are in use.\n"
    assert "the breakers are unknown" in page(breakers=None)


def test_a_long_list_is_cut_and_counted() -> None:
    told = page(rates=tuple(replace(RATE, key=f"k{i}", first_waiting=(), waiting=0) for i in range(ROOM + 7)))

    assert f"k{ROOM - 1} " in told
    assert f"k{ROOM} " not in told
    assert "and 7 more" in told


@pytest.mark.parametrize(
    ("per_minute", "expected"),
    [(60, "60/m"), (1, "1/m"), (0.5, "30/h"), (2 / 60, "2/h"), (1 / 1440, "1/d"), (60_000, "60,000/m")],
)
def test_a_rate_is_said_in_a_unit_in_which_it_is_once_or_more(per_minute: float, expected: str) -> None:
    assert frequency(per_minute) == expected


def test_a_moment_ahead_is_now_or_later() -> None:
    assert ahead(START + timedelta(seconds=3.2), START) == "in 3.2 s"
    assert ahead(START - timedelta(seconds=3), START) == "now"
