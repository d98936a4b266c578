"""The report on limits: rates and concurrencies as Postgres has them, circuit breakers as Redis has them.

Owns the choice of one key and the report's public form. Without Redis the breakers are unknown, not none.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from redis.exceptions import RedisError

from agentflow.broker.breakers import Breakers, BreakerView
from agentflow.domain.error import NotFound
from agentflow.domain.wording import did_you_mean
from agentflow.storage.limits import LimitsView
from agentflow.storage.view_shapes import moment


@dataclass(frozen=True, slots=True)
class LimitsReport:
    """Every limit in use; ``breakers`` is None where Redis did not answer."""

    read_at: datetime
    limits: LimitsView
    breakers: tuple[BreakerView, ...] | None

    @property
    def keys(self) -> list[str]:
        """What the limits and breakers are called by."""
        keys = {each.key for each in self.limits.rates} | {each.key for each in self.limits.concurrencies}
        return sorted(keys | {each.endpoint for each in self.breakers or ()})

    def of(self, key: str) -> LimitsReport:
        """Return what there is of one key or endpoint. NotFound when nothing of that name is in use."""
        if key not in self.keys:
            raise NotFound(f"No limit in use is called {key!r}: {did_you_mean(key, self.keys)}", key=key)
        chosen = LimitsView(
            tuple(each for each in self.limits.rates if each.key == key),
            tuple(each for each in self.limits.concurrencies if each.key == key),
        )
        breakers = None if self.breakers is None else tuple(each for each in self.breakers if each.endpoint == key)
        return LimitsReport(self.read_at, chosen, breakers)

    def as_json(self) -> dict[str, Any]:
        """The report as ``limits --json`` prints it."""
        breakers = None if self.breakers is None else [_breaker_json(each) for each in self.breakers]
        return self.limits.as_json() | {"read_at": moment(self.read_at), "breakers": breakers}


def read_breakers(breakers: Breakers) -> tuple[BreakerView, ...] | None:
    """Read every breaker; None where Redis does not answer: the limits themselves are told without it."""
    try:
        found: Sequence[BreakerView] = breakers.read_all()
    except RedisError:
        return None
    return tuple(found)


def _breaker_json(breaker: BreakerView) -> dict[str, Any]:
    return {
        "endpoint": breaker.endpoint,
        "state": breaker.state.value,
        "failures": breaker.failures,
        "successes": breaker.successes,
        "trials": breaker.trials,
        "total": breaker.total,
        "successful": breaker.successful,
        "failed": breaker.failed,
        "rejected": breaker.rejected,
        "opened_at": moment(breaker.opened_at),
        "retry_after_seconds": breaker.retry_after_seconds,
    }
