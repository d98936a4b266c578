"""What a step begins as, once its needs have ended: what an evaluation outside of a transaction hands into it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from agentflow.domain.gate import GateTerms
from agentflow.domain.reason import Reason
from agentflow.domain.state import StepState
from agentflow.domain.transition import NextStep


@dataclass(frozen=True, slots=True)
class Starts:
    """It is ready: a worker performs it."""


@dataclass(frozen=True, slots=True)
class Ends:
    """It ends at once, without an attempt. ``choice`` is a decision's label, ``result`` what later steps may read."""

    state: StepState
    reason: Reason | None = None
    choice: str | None = None
    result: Any = None


@dataclass(frozen=True, slots=True)
class Holds:
    """It waits for something outside. ``due_seconds`` from now, or ``due_at``, the dispatcher looks at it again."""

    reason: Reason
    due_seconds: float | None = None
    due_at: datetime | None = None
    gate: GateTerms | None = None
    signal: str | None = None


@dataclass(frozen=True, slots=True)
class Expands:
    """A foreach makes steps for so many items and waits for them."""

    items: int


Beginning = Starts | Ends | Holds | Expands


def beginning_of(then: NextStep) -> Starts | Ends:
    """Turn what the needs alone decided into a beginning."""
    return Starts() if then.state is StepState.READY else Ends(then.state, then.reason)
