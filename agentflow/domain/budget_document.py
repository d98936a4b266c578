"""The written form of a budget: ``budget: {steps: 50, tokens: 20000, usd: 0.50, active_time: 10m}``.

Owns reading it, also as it is given at submit, and how one budget goes over another.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from agentflow.domain.budget import MAX_TOKENS, MAX_USD, Budget, BudgetKind, nano_of
from agentflow.domain.document import Form, Value
from agentflow.domain.fault import Fault

BUDGET_FORM = Form(known=tuple(kind.value for kind in BudgetKind))
_EXAMPLE = "{steps: 50, tokens: 20000, usd: 0.50, active_time: 10m}"


def read_budget(value: Value) -> Budget | None:
    """Return the caps that are written, or None after faults."""
    if not isinstance(value.value, Mapping):
        value.wrong_type(f"a mapping such as {_EXAMPLE}")
        return None
    before = len(value.faults)
    fields = value.fields(BUDGET_FORM) or {}
    caps = {name: read(fields[kind]) for kind, (name, read) in _CAPS.items() if kind in fields}
    if len(value.faults) > before:
        return None
    if not caps:
        value.fault("bad_budget", f"the budget caps nothing: write at least one of {_EXAMPLE}, or leave it out")
        return None
    return Budget.model_validate(caps)


def _read_usd(value: Value) -> int | None:
    usd = value.number(None, MAX_USD, code="bad_budget")
    if usd is not None and usd <= 0:
        value.fault("bad_budget", f"{value.name} must be more than 0, not {value.value}")
        return None
    return None if usd is None else nano_of(usd)


def _read_count(value: Value) -> int | None:
    return value.integer(1, MAX_TOKENS, code="bad_budget")


_CAPS: Mapping[BudgetKind, tuple[str, Callable[[Value], float | None]]] = {
    BudgetKind.STEPS: ("steps", _read_count),
    BudgetKind.TOKENS: ("tokens", _read_count),
    BudgetKind.USD: ("usd_nano", _read_usd),
    BudgetKind.ACTIVE_TIME: ("active_seconds", lambda value: value.seconds()),
}


def read_given_budget(given: Any) -> tuple[Budget | None, tuple[Fault, ...]]:
    """Return the budget that a submit is given in the form of the plan, and every fault of it."""
    value = Value(given, ("budget",))
    budget = read_budget(value)
    return budget, tuple(map(_without_name, value.faults))


def _without_name(fault: Fault) -> Fault:
    """The fault as it reads behind its path, which names the kind already."""
    return replace(fault, message=fault.message.removeprefix(f"{fault.path[-1]}: "))


def overlaid(under: Budget | None, over: Budget | None) -> Budget:
    """Return the caps of ``over``, and those of ``under`` of the kinds that ``over`` does not cap."""
    return (under or Budget()).model_copy(update=(over or Budget()).model_dump(exclude_none=True))
