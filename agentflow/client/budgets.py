"""What a caller says and hears about budgets: by how much to raise one, and what it came to.

Owns the checks of what is handed in and the public form: usd in dollars, active_time in seconds. Raising is the
engine's, what was used is storage's.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal, InvalidOperation
from typing import Any, Self

from agentflow.domain.budget import MAX_TOKENS, MAX_USD, Budget, BudgetKind, nano_of
from agentflow.domain.duration import parse_duration
from agentflow.domain.error import UsageError
from agentflow.domain.shortfall import cap_of

Money = Decimal | float | str


@dataclass(frozen=True, slots=True)
class BudgetRaised:
    """The caps of a run before and after they were raised."""

    before: Budget
    after: Budget

    @classmethod
    def by(cls, more: Budget, after: Budget) -> Self:
        """Tell what ``more`` did that led to ``after``."""
        added = {name: value for name, value in more.model_dump().items() if value is not None}
        return cls(after.model_copy(update={name: getattr(after, name) - added[name] for name in added}), after)

    def changes(self) -> Iterator[tuple[BudgetKind, float, float]]:
        """Yield what was raised: its kind, the old cap and the new one, usd in dollars, active_time in seconds."""
        for kind in BudgetKind:
            old, new = cap_of(self.before, kind), cap_of(self.after, kind)
            if old is not None and new is not None and old != new:
                yield kind, old, new

    def as_json(self) -> list[dict[str, Any]]:
        """What was raised, as ``budget raise --json`` prints it."""
        return [{"budget": kind.value, "before": old, "after": new} for kind, old, new in self.changes()]


def checked_more(
    steps: int | None, tokens: int | None, usd: Money | None, active_time: str | timedelta | None
) -> Budget:
    """Check by how much a budget is to be raised. UsageError unless each that is given is more than nothing."""
    return Budget(
        steps=_count("steps", steps),
        tokens=_count("tokens", tokens),
        usd_nano=None if usd is None else _nano(usd),
        active_seconds=None if active_time is None else _seconds(active_time),
    )


def _count(name: str, value: object) -> int | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or value <= 0:
        raise UsageError(f"{name} takes a whole number above 0 to add, such as 5000; not {str(value)[:80]!r}.")
    if value > MAX_TOKENS:  # not repeated: Python writes no number of thousands of digits
        raise UsageError(f"{name} takes at most {MAX_TOKENS:,} to add.")
    return value


def _nano(value: Money) -> int:
    try:
        usd = Decimal(str(value))
    except InvalidOperation:
        usd = Decimal(0)
    if isinstance(value, bool) or not usd.is_finite() or usd <= 0:
        raise UsageError(f"usd takes an amount above 0 to add, such as 0.50; not {str(value)[:80]!r}.")
    if usd > MAX_USD:
        raise UsageError(f"usd takes at most {MAX_USD:,} to add.")
    return nano_of(usd)


def _seconds(value: str | timedelta) -> float:
    try:
        seconds = value.total_seconds() if isinstance(value, timedelta) else parse_duration(value)
    except ValueError as error:
        raise UsageError(f"active_time: {error}") from None
    if not seconds > 0:
        raise UsageError("active_time takes a time above 0 to add, such as 10m.")
    return seconds
