"""The throttle: how often one caller may ask, by the generic cell rate algorithm.

Owns the count of one process; several of them each count for themselves. Safe to use from any thread.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from agentflow.domain.error import TooManyRequests

_MOST_CALLERS = 10_000


class Throttle:
    """Lets a caller ask ``per_minute`` times a minute, and up to a tenth of that at once."""

    def __init__(self, per_minute: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._interval = 60 / per_minute
        self._tolerance = self._interval * max(1.0, per_minute / 10)
        self._clock = clock
        self._lock = threading.Lock()
        self._due: dict[str, float] = {}

    def admit(self, caller: str) -> None:
        """Count a request of ``caller``. TooManyRequests when it comes too early."""
        now = self._clock()
        with self._lock:
            due = max(self._due.get(caller, now), now)
            if due - now > self._tolerance:
                raise TooManyRequests(due - now - self._tolerance)
            self._due[caller] = due + self._interval
            if len(self._due) > _MOST_CALLERS:
                self._due = {each: at for each, at in self._due.items() if at > now}
