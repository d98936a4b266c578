"""What a call costs: never guessed, always rounded up, and the bound is never below what is charged."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentflow.domain.action import Price
from agentflow.domain.call import CallUsage
from agentflow.executors.pricing import most_usd_nano, price_of, used_usd_nano
from agentflow.executors.providers import ProviderKind

WRITTEN = Price(input_nano=3, output_nano=7)
MODELS = ("openai:gpt-4o-mini", "openai:gpt-5", "anthropic:claude-sonnet-4-5", "anthropic:claude-haiku-4-5")


@pytest.mark.parametrize("model", ["openai:gpt-4o-mini", "stub:anything", "ollama:llama3", "nobody:nothing"])
def test_the_price_that_a_plan_wrote_wins(model: str) -> None:
    assert price_of(model, WRITTEN) is WRITTEN


def test_listed_prices_are_nano_dollars_a_million_tokens() -> None:
    assert price_of("openai:gpt-4o-mini", None) == Price(input_nano=150_000_000, output_nano=600_000_000)


def test_of_prices_in_tiers_the_highest_stands() -> None:
    price = price_of("anthropic:claude-sonnet-4-5", None)

    assert price == Price(input_nano=6_000_000_000, output_nano=22_500_000_000)


@pytest.mark.parametrize("model", ["ollama:llama3", "offline:any"])
def test_local_models_cost_nothing(model: str) -> None:
    assert price_of(model, None) == Price(input_nano=0, output_nano=0)
    assert used_usd_nano(model, None, CallUsage(5000, 5000)) == 0


@pytest.mark.parametrize(
    "model", ["openai:no-such-model", "openai:", "openai", "", "stub:gpt-4o-mini", "openai:text-embedding-3-small"]
)
def test_what_nobody_knows_is_neither_zero_nor_guessed(model: str) -> None:
    assert price_of(model, None) is None
    assert used_usd_nano(model, None, CallUsage(10, 10)) is None


def test_an_openai_compatible_provider_has_no_listed_price_and_another_id_of_openai_has() -> None:
    kinds = {"gate": ProviderKind.OPENAI_COMPATIBLE, "work": ProviderKind.OPENAI}

    assert price_of("gate:gpt-4o-mini", None, kinds) is None
    assert price_of("work:gpt-4o-mini", None, kinds) == price_of("openai:gpt-4o-mini", None)


def test_a_bound_is_rounded_up() -> None:
    assert most_usd_nano(WRITTEN, 1, 0) == 1
    assert most_usd_nano(WRITTEN, 1_000_000, 1_000_000) == 10
    assert most_usd_nano(WRITTEN, 1_000_001, 0) == 4


def test_what_was_cached_costs_less_by_the_list_and_the_same_by_a_written_price() -> None:
    plain, cached = CallUsage(1000, 100), CallUsage(1000, 100, cached_tokens=800)

    assert used_usd_nano("openai:gpt-4o-mini", None, plain) == 150_000 + 60_000
    assert used_usd_nano("openai:gpt-4o-mini", None, cached) == 30_000 + 60_000 + 60_000
    assert used_usd_nano("openai:gpt-4o-mini", WRITTEN, plain) == used_usd_nano("openai:gpt-4o-mini", WRITTEN, cached)


def test_counts_that_contradict_each_other_cost_the_most() -> None:
    strange = CallUsage(10, 10, cached_tokens=1000)
    price = price_of("openai:gpt-4o-mini", None)

    assert price is not None
    assert used_usd_nano("openai:gpt-4o-mini", None, strange) == most_usd_nano(price, 10, 10)


@given(
    st.sampled_from(MODELS),
    st.integers(0, 2_000_000),
    st.integers(0, 200_000),
    st.floats(0, 1),
)
def test_the_bound_is_never_below_what_is_charged(model: str, sent: int, said: int, share: float) -> None:
    price = price_of(model, None)
    charged = used_usd_nano(model, None, CallUsage(sent, said, cached_tokens=int(sent * share)))

    assert price is not None
    assert charged is not None
    assert charged <= most_usd_nano(price, sent, said)
