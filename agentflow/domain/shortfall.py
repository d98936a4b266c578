"""Shortfalls: by how much a budget must be raised before a run that rests over it can go on.

Owns how amounts are written where a person types them. Which budget a run rests over is data of its reason.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from decimal import ROUND_CEILING, Decimal
from typing import Any

from agentflow.domain.budget import Budget, BudgetKind, usd_of
from agentflow.domain.duration import format_duration

_NANO = Decimal("1e-9")


def cap_of(budget: Budget, kind: BudgetKind) -> float | None:
    """Return a cap as people write it: dollars for usd, seconds for active_time; None where there is none."""
    match kind:
        case BudgetKind.STEPS:
            return budget.steps
        case BudgetKind.TOKENS:
            return budget.tokens
        case BudgetKind.USD:
            return None if budget.usd_nano is None else usd_of(budget.usd_nano)
        case BudgetKind.ACTIVE_TIME:
            return budget.active_seconds


def written(kind: BudgetKind, amount: float) -> str:
    """Write an amount as plans and commands take it: ``5000``, ``0.5`` (dollars), ``1m30s``; rounded up, never down."""
    match kind:
        case BudgetKind.ACTIVE_TIME:
            return format_duration(math.ceil(amount * 1000 - 1e-6) / 1000)
        case BudgetKind.USD:
            whole = Decimal(str(round(amount, 12))).quantize(_NANO, ROUND_CEILING)
            return f"{whole:f}".rstrip("0").rstrip(".")
        case _:
            return str(math.ceil(amount))


def missing(exhausted: Mapping[str, Any], limit: float | None) -> str | None:
    """Return by how much a cap must be raised at least for what a run rests over, as it is written; None if by nothing.

    ``exhausted`` is the public form of an Exhaustion, ``limit`` what its scope may use now.
    """
    kind, needed = BudgetKind(exhausted["budget"]), exhausted["used"] + exhausted["needed"]
    if limit is None:
        return None
    if kind is BudgetKind.ACTIVE_TIME:  # what is left must be more than nothing
        return written(kind, math.floor(needed - limit) + 1) if limit <= needed else None
    short = round(needed - limit, 9)
    return written(kind, short) if short > 0 else None
