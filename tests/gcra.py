"""The generic cell rate algorithm as a reference: what sql/claim_step.sql must say, in plain arithmetic on seconds."""

from __future__ import annotations

from dataclasses import dataclass

from agentflow.domain.limit import LATENESS_SECONDS

GRACE_SECONDS = 0.01
"""A ticket for a moment as near as this is for now."""


@dataclass(slots=True)
class Rate:
    """The tickets of one key. ``next_at`` is the theoretical arrival time."""

    interval: float
    burst: int
    next_at: float = float("-inf")

    @property
    def lateness(self) -> float:
        """How long after its time a ticket still holds."""
        return max(LATENESS_SECONDS, self.interval)

    def ask(self, now: float, ticket: float | None = None) -> float | None:
        """Ask to start at ``now``: None for yes, else the time of the ticket with which to come back."""
        if ticket is not None and now - self.lateness <= ticket <= now:
            return None
        time = max(self.next_at - (self.burst - 1) * self.interval, now)
        self.next_at = max(self.next_at, now) + self.interval
        return None if time <= now + GRACE_SECONDS else time
