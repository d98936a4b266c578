"""What calls of models cost: the most that one may cost before it is made, and what one did cost by its usage.

Owns the way from genai-prices, or from the price that a plan wrote, to nano-dollars. A price that nobody knows is None:
it is never guessed and never zero. Local models cost nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import ROUND_CEILING, Decimal
from typing import Any

from agentflow.domain.action import Price
from agentflow.domain.call import CallUsage
from agentflow.executors.providers import BUILT_IN_KINDS, ProviderKind

NANO = 1_000_000_000
_MILLION = 1_000_000
_FREE = Price(input_nano=0, output_nano=0)
_LISTED = (ProviderKind.OPENAI, ProviderKind.ANTHROPIC)
_LOCAL = (ProviderKind.OLLAMA, ProviderKind.OFFLINE)


def price_of(model: str, written: Price | None, kinds: Mapping[str, ProviderKind] = BUILT_IN_KINDS) -> Price | None:
    """Return the most that ``model`` ("ID:NAME") costs, in nano-dollars a million tokens; None if nobody knows.

    The plan's word wins. Of prices in tiers the highest stands. ``kinds`` says how each id is spoken to; the ids of a
    file of credentials are known only where that file is, see Credentials.kinds.
    """
    if written is not None:
        return written
    credential_id, _, name = model.partition(":")
    kind = kinds.get(credential_id)
    if kind in _LOCAL:
        return _FREE
    return _listed_price(kind, name) if kind in _LISTED and name else None


def most_usd_nano(price: Price, input_tokens: int, output_tokens: int) -> int:
    """Return what so many tokens cost at most, rounded up."""
    return -(-(price.input_nano * input_tokens + price.output_nano * output_tokens) // _MILLION)


def used_usd_nano(
    model: str,
    written: Price | None,
    usage: CallUsage,
    cache_write_tokens: int = 0,
    kinds: Mapping[str, ProviderKind] = BUILT_IN_KINDS,
) -> int | None:
    """Return what a call cost by the usage that its provider reported, rounded up; None if nobody knows the price.

    A plan's price makes no difference between what was cached and what was not.
    """
    price = price_of(model, written, kinds)
    credential_id, _, name = model.partition(":")
    if price is None or written is not None or kinds[credential_id] in _LOCAL:
        return None if price is None else most_usd_nano(price, usage.input_tokens, usage.output_tokens)
    counts = {
        "input_tokens": usage.input_tokens,
        "cache_read_tokens": usage.cached_tokens,
        "cache_write_tokens": cache_write_tokens,
        "output_tokens": usage.output_tokens,
    }
    try:
        listed = _calculation(kinds[credential_id], name, **counts)
    except ValueError:  # counts that contradict each other, such as more cached than sent
        return most_usd_nano(price, usage.input_tokens, usage.output_tokens)
    return None if listed is None else _nano(listed.total_price)


def _listed_price(kind: ProviderKind | None, name: str) -> Price | None:
    found = _calculation(kind, name, input_tokens=1, output_tokens=1)
    if found is None:
        return None
    prices = found.model_price
    # OpenAI caches unasked and may take more for what it writes; Anthropic caches only what it is told to.
    kinds_of_input = ("input_mtok", "cache_write_mtok") if kind is ProviderKind.OPENAI else ("input_mtok",)
    inputs = [highest for each in kinds_of_input if (highest := _highest(getattr(prices, each))) is not None]
    output = _highest(prices.output_mtok)
    if not inputs or output is None:
        return None
    return Price(input_nano=_nano(max(inputs)), output_nano=_nano(output))


def _calculation(kind: ProviderKind | None, name: str, **counts: int) -> Any:
    from genai_prices import Usage, calc_price

    try:
        return calc_price(Usage(**counts), name, provider_id=str(kind))
    except LookupError:
        return None


def _highest(price: Any) -> Decimal | None:
    """The highest tier of a price in USD a million tokens."""
    if price is None:
        return None
    tiers = (price,) if isinstance(price, Decimal) else (price.base, *(tier.price for tier in price.tiers))
    return Decimal(max(tiers))


def _nano(usd: Decimal) -> int:
    return int((usd * NANO).to_integral_value(ROUND_CEILING))
