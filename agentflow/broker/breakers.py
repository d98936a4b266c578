"""Circuit breakers: one an endpoint, shared by all workers, so that a service that is down is left alone.

Owns when a call is held back, and the counts behind it. Which endpoint a call goes to is its executor's word, which
problems count is domain/call.py's, and what becomes of a step that is held back is the engine's.

    closed     every call goes; failures in a row are counted, a success sets them to zero
    open       no call goes until the recovery time is over
    half_open  trial calls go, as many at a time as successes are still needed: enough of them close it, one failure
               opens it again

The breakers live in Redis, on its clock. They protect others, so they never stop work by themselves: without Redis
every call is admitted, and a Redis that forgot has closed breakers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

import redis
from redis.exceptions import RedisError

from agentflow.broker import scripts
from agentflow.broker.keys import Keys
from agentflow.telemetry import get_logger

log = get_logger(__name__)

FAILURES_TO_OPEN = 5
SUCCESSES_TO_CLOSE = 3
RECOVERY_SECONDS = 30.0
KEPT_SECONDS = 24 * 3600.0
#: Of the recovery time: what a call waits at most that finds every trial taken. They mostly report before their end.
_TRIAL_WAIT_SHARE = 1 / 6
#: Of the recovery time: how long a trial holds its place at most. One whose worker was killed never reports.
_TRIAL_SHARE = 2
_MOVING_FIELDS = ("state", "failures", "successes", "trials")


class BreakerState(StrEnum):
    """Whether calls go to an endpoint."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


@dataclass(frozen=True, slots=True)
class Admitted:
    """The call may be made. Hand it back at the call's end: it tells which times the call knew."""

    opened_at_ms: int | None = None
    trial_ends_at_ms: int | None = None


@dataclass(frozen=True, slots=True)
class Refused:
    """The call is held back; it is worth asking again after ``retry_after_seconds``."""

    retry_after_seconds: float


@dataclass(frozen=True, slots=True)
class BreakerView:
    """One breaker for the eye: ``failures`` in a row while closed, ``successes`` and ``trials`` while half-open.

    ``total`` counts the calls that asked, ``rejected`` those of them that were refused; ``successful`` and ``failed``
    are what the others reported.
    """

    endpoint: str
    state: BreakerState = BreakerState.CLOSED
    failures: int = 0
    successes: int = 0
    trials: int = 0
    total: int = 0
    successful: int = 0
    failed: int = 0
    rejected: int = 0
    opened_at: datetime | None = None
    retry_after_seconds: float = 0.0


class Breakers:
    """The circuit breakers of one installation; ``client`` is one process's way to Redis."""

    def __init__(
        self,
        client: redis.Redis,
        keys: Keys,
        *,
        failures_to_open: int = FAILURES_TO_OPEN,
        successes_to_close: int = SUCCESSES_TO_CLOSE,
        recovery_seconds: float = RECOVERY_SECONDS,
    ) -> None:
        self._client = client
        self._keys = keys
        self._failures_to_open = failures_to_open
        self._successes_to_close = successes_to_close
        self._recovery_ms = _ms(recovery_seconds)
        self._kept_ms = max(_ms(KEPT_SECONDS), 2 * self._recovery_ms)
        self._admit_call = scripts.register(client, "admit_call")
        self._record_call = scripts.register(client, "record_call")
        self._is_away = False

    def admit(self, endpoint: str, trial_seconds: float) -> Admitted | Refused:
        """Ask whether a call may be made that will report within ``trial_seconds``; without Redis it may.

        A trial that takes longer than twice the recovery time gives its place up; its report counts all the same.
        """
        trial_ms = min(_ms(trial_seconds), _TRIAL_SHARE * self._recovery_ms)
        patience_ms = max(1, int(self._recovery_ms * _TRIAL_WAIT_SHARE))
        timings = (self._recovery_ms, self._successes_to_close, trial_ms, patience_ms, self._kept_ms)
        try:
            is_admitted, *times = self._admit_call(keys=self._keys_of(endpoint), args=[endpoint, *timings])
        except RedisError as error:
            self._say_away(error)
            return Admitted()
        self._is_away = False
        return Admitted(*map(int, times)) if is_admitted else Refused(int(times[0]) / 1000)

    def record(self, endpoint: str, is_success: bool, admitted: Admitted | None = None) -> None:
        """Report an admitted call, once; ``is_success`` unless what went wrong is an outage of the endpoint."""
        self._report(endpoint, "success" if is_success else "failure", admitted)

    def withdraw(self, endpoint: str, admitted: Admitted) -> None:
        """Report that an admitted call ended without telling anything of its endpoint: stopped, or never made."""
        self._report(endpoint, "withdrawn", admitted)

    def read(self, endpoint: str) -> BreakerView:
        """Return one breaker, closed if nothing is known of it; raises RedisError when Redis is away."""
        [view] = self._read([endpoint])
        return view

    def read_all(self) -> list[BreakerView]:
        """Return every breaker of the last day, by name; raises RedisError when Redis is away."""
        names: Any = self._client.zrange(self._keys.breakers, 0, -1)
        return self._read(sorted(name.decode() for name in names))

    def reset(self, endpoint: str) -> None:
        """Close a breaker by hand; its totals stay. Raises RedisError when Redis is away."""
        self._client.hdel(self._keys.breaker(endpoint), *_MOVING_FIELDS)

    def _report(self, endpoint: str, outcome: str, admitted: Admitted | None) -> None:
        known = admitted or Admitted()
        times = ["" if time is None else time for time in (known.opened_at_ms, known.trial_ends_at_ms)]
        limits = (self._failures_to_open, self._successes_to_close, self._kept_ms)
        try:
            self._record_call(keys=self._keys_of(endpoint), args=[endpoint, outcome, *times, *limits])
        except RedisError as error:
            self._say_away(error)
        else:
            self._is_away = False

    def _keys_of(self, endpoint: str) -> list[str]:
        return [self._keys.breaker(endpoint), self._keys.breakers]

    def _say_away(self, error: RedisError) -> None:
        """Log once for each time that Redis goes away, not once for each call."""
        if not self._is_away:
            log.warning("breakers_not_reached", error=str(error))
        self._is_away = True

    def _read(self, endpoints: list[str]) -> list[BreakerView]:
        pipe = self._client.pipeline(transaction=False)
        pipe.time()
        for endpoint in endpoints:
            pipe.hgetall(self._keys.breaker(endpoint))
        (seconds, microseconds), *kept = pipe.execute()
        now_ms = seconds * 1000 + microseconds // 1000
        return [self._view(*each, now_ms) for each in zip(endpoints, kept, strict=True)]

    def _view(self, endpoint: str, kept: Mapping[bytes, bytes], now_ms: int) -> BreakerView:
        fields = {name.decode(): value.decode() for name, value in kept.items()}
        opened_ms = int(fields.get("opened_at", 0))
        state = BreakerState(fields.get("state", BreakerState.CLOSED))
        wait_ms = opened_ms + self._recovery_ms - now_ms if state is BreakerState.OPEN else 0
        if state is BreakerState.OPEN and wait_ms <= 0:  # the next call is a trial
            state = BreakerState.HALF_OPEN
        counts = ("failures", "successes", "total", "successful", "failed", "rejected")
        return BreakerView(
            endpoint,
            state,
            trials=sum(int(ends) > now_ms for ends in fields.get("trials", "").split(",") if ends),
            opened_at=datetime.fromtimestamp(opened_ms / 1000, UTC) if opened_ms else None,
            retry_after_seconds=max(0, wait_ms) / 1000,
            **{name: int(fields.get(name, 0)) for name in counts},
        )


def _ms(seconds: float) -> int:
    return max(1, round(seconds * 1000))
