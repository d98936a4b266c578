"""How often a follower looks: a few times at once, then less and less often.

Owns the intervals, and for how long an outage is borne. What changes is in another process's transaction and nothing
signals it here, so following is looking again.
"""

from __future__ import annotations

import time

from agentflow.domain.error import ServersUnreachable

FIRST_SECONDS = 0.05
LONGEST_SECONDS = 0.5
_GROWTH = 1.4
OUTAGE_SECONDS = 30.0
"""How long Postgres may be away before a follower gives up."""
_READING_SHARE = 5
"""After a look a follower rests at least so many times as long as the look took."""


class Pace:
    """The pauses of one follower, growing from 50 ms to ``longest_seconds``; ends at ``timeout_seconds``."""

    def __init__(self, timeout_seconds: float | None = None, *, longest_seconds: float = LONGEST_SECONDS) -> None:
        self._deadline = None if timeout_seconds is None else time.monotonic() + timeout_seconds
        self._longest = longest_seconds
        self._pause = FIRST_SECONDS
        self._woke_at = time.monotonic()
        self._lost_at: float | None = None

    def bear(self, error: ServersUnreachable) -> None:
        """Bear that a look found no Postgres; raises ``error`` when that lasts."""
        self._lost_at = self._lost_at or time.monotonic()
        if time.monotonic() - self._lost_at > OUTAGE_SECONDS:
            raise error

    def recover(self) -> None:
        """Note that a look found Postgres."""
        self._lost_at = None

    def quicken(self) -> None:
        """Look often again: something has happened, and more may follow."""
        self._pause = FIRST_SECONDS

    def pause(self) -> bool:
        """Wait until it is time to look again; False, at once, when the time is over."""
        looked_seconds = time.monotonic() - self._woke_at
        pause = max(self._pause, _READING_SHARE * looked_seconds)
        if self._deadline is not None:
            left = self._deadline - time.monotonic()
            if left <= 0:
                return False
            pause = min(pause, left)
        time.sleep(pause)  # nothing signals the change: it is committed by another process
        self._pause = min(self._pause * _GROWTH, self._longest)
        self._woke_at = time.monotonic()
        return True
