"""How often a server that died may be started again before the stack gives up.

Owns the count only. A companion has its own rule: it is started again for ever, ever more rarely.
"""

from __future__ import annotations

from collections import deque

MOST_RESTARTS = 5
WINDOW_SECONDS = 60.0


class RestartBudget:
    """At most ``most`` restarts within any ``window_seconds``."""

    def __init__(self, most: int = MOST_RESTARTS, window_seconds: float = WINDOW_SECONDS) -> None:
        self._most, self._window = most, window_seconds
        self._taken: deque[float] = deque()

    def take(self, now: float) -> bool:
        """Take one restart at ``now``, seconds of a monotonic clock; False when none is left."""
        while self._taken and now - self._taken[0] >= self._window:
            self._taken.popleft()
        if len(self._taken) >= self._most:
            return False
        self._taken.append(now)
        return True
