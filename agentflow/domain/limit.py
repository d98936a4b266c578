"""Limits: how often steps may start (a rate) and how many may run at once (a concurrency), by a key that they share.

Owns the values and the spacing that a rate means. Both hold over all workers; handing out is storage's.
"""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

KEY_PATTERN = r"^[A-Za-z0-9_][A-Za-z0-9._:/-]{0,199}$"
PACE = 0.97
"""Tickets are spaced a little wider than the limit asks, so that one used late cannot push a window over it."""
LATENESS_SECONDS = 1.5
"""How long after its time a ticket still holds, or one interval between tickets if that is longer.

With tickets at most 1.5 seconds late, a window of W seconds sees those of W + 1.5 seconds: at most
(W + 1.5) * PACE * limit / W + burst, which is at most limit + burst for W of 49 s and above: (49 + 1.5) * 0.97 <= 49.
With tickets at most an interval late it sees those of W and an interval: PACE * limit + 1 + burst, rounded down.
"""


class RateLimit(BaseModel):
    """At most ``limit`` starts in ``per_seconds``, with ``burst`` at once after a quiet time."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    key: str | None = Field(default=None, pattern=KEY_PATTERN)
    """None: the step's own, over all runs of plans of its name."""
    limit: int = Field(ge=1, le=1_000_000)
    per_seconds: int = Field(ge=1)
    burst: int = Field(default=1, ge=1, le=1_000_000)

    @property
    def interval_seconds(self) -> float:
        """The seconds between two tickets."""
        return self.per_seconds / self.limit / PACE

    def key_for(self, project: str, plan_name: str, step: str) -> str:
        """The key whose tickets a step takes: the written one, or the step's own over all runs of the plan."""
        return self.key or f"{project}/{plan_name}/{step}"


class ConcurrencyLimit(BaseModel):
    """At most ``limit`` steps of one key at once."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    key: str = Field(pattern=KEY_PATTERN)
    limit: int = Field(ge=1, le=10_000)
