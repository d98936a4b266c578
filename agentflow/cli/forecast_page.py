"""What a dry run says beside the steps themselves: their order, the gates, the foreachs, and the most that it costs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from agentflow.cli import words

if TYPE_CHECKING:
    from agentflow.client import CheckedPlan
    from agentflow.domain.forecast import CostBound, ForeachForecast, Forecast, GateForecast

MOST_LINES = 20
"""How many levels, gates or foreachs are told one by one; ``--json`` has all of them."""
_WHY = {
    "no_max_tokens": "has no max_tokens",
    "prompt_from_steps": "takes in what earlier steps leave",
    "model_from_steps": "has its model from an earlier step",
    "unknown_price": "has a model of unknown price",
    "child_run": "is a child run without a bound of its own",
    "unknown_child": "is a child run, whose plan is not known here",
}


def forecast_lines(checked: CheckedPlan) -> Iterator[str]:
    """Yield what a run would do, line by line."""
    forecast = checked.forecast
    yield f"  mode {checked.mode}, {_steps(forecast)}"
    yield from _levels(forecast)
    for foreach in forecast.foreachs[:MOST_LINES]:
        yield f"  foreach {_foreach(foreach)}"
    for gate in forecast.gates[:MOST_LINES]:
        yield f"  gate {_gate(gate)}"
    yield f"  cost: {_cost(forecast.cost)}"
    for key, why in forecast.cost.unbounded.items():
        yield f"    {key} {_WHY[why.value]}"


def _steps(forecast: Forecast) -> str:
    own = sum(map(len, forecast.levels))
    more = f", {forecast.most_steps:,} at most with what its foreachs make" if forecast.most_steps > own else ""
    return f"{words.count(own, 'step')}{more}"


def _levels(forecast: Forecast) -> Iterator[str]:
    from agentflow.domain.wording import listing

    for number, level in enumerate(forecast.levels[:MOST_LINES], 1):
        yield f"  {number:>3}  {listing(level)}"
    if len(forecast.levels) > MOST_LINES:
        yield f"       and {len(forecast.levels) - MOST_LINES} more levels"


def _foreach(foreach: ForeachForecast) -> str:
    items = f"at most {foreach.most:,} items" if foreach.items is None else words.count(foreach.items, "item")
    at_once = "" if foreach.max_parallel is None else f", {foreach.max_parallel} at a time"
    return f"{foreach.step}: {items}{at_once}"


def _gate(gate: GateForecast) -> str:
    from agentflow.domain.duration import format_duration

    terms = gate.terms
    who = ", ".join(terms.approvers) or ("anyone" if terms.allows_self else "anyone but who submits")
    most = f", up to {gate.items} times" if gate.items > 1 else ""
    expires = "" if terms.expires_seconds is None else f", expires after {format_duration(terms.expires_seconds)}"
    return f"{gate.step}: {terms.kind}, {terms.count} of {who}{expires}{most}"


def _cost(cost: CostBound) -> str:
    if not (cost.calls or cost.unbounded):
        return "no model is called"
    tokens, usd = cost.most_tokens, cost.most_usd
    bounds = [
        "no bound of tokens" if tokens is None else f"at most {tokens:,} tokens",
        "no bound of usd" if usd is None else f"at most {words.usd(usd)}",
    ]
    children = ", plus child runs, not known" if "unknown_child" in cost.unbounded.values() else ""
    return f"{', '.join(bounds)}, in up to {words.count(cost.calls, 'call')}{children}"
