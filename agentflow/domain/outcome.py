"""What became of a try: outcomes are values, one frozen class each.

AttemptOutcome is what an attempt ended with, before anyone decides what its step does next (transition.py does).
ClaimRefusal is why a doorbell did not lead to an attempt; it is answered, logged and never forced.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from agentflow.domain.blame import ALONE, Company
from agentflow.domain.budget import Exhaustion
from agentflow.domain.reason import Reason, ReasonCode
from agentflow.domain.state import AttemptState


@dataclass(frozen=True, slots=True)
class Succeeded:
    """The work ended well."""

    exit_code: int | None = None
    result: Any = None
    has_result: bool = False


@dataclass(frozen=True, slots=True)
class Failed:
    """The work ended badly; ``message`` is matched against the retry policy and stored nowhere."""

    reason: Reason
    exit_code: int | None = None
    message: str = ""
    is_permanent: bool = False


@dataclass(frozen=True, slots=True)
class TimedOut:
    """The work was ended at its timeout."""

    reason: Reason
    exit_code: int = 124


@dataclass(frozen=True, slots=True)
class Cancelled:
    """The work was ended because someone cancelled it."""

    reason: Reason


@dataclass(frozen=True, slots=True)
class Released:
    """The claim was given back: it counts against no retry and no max_lost. ``was_started``: its work had begun.

    ``delay_seconds`` is how long the step is snoozed. ``exhausted`` names the budgets that do not cover it: the run
    then rests.
    """

    reason: Reason
    was_started: bool = False
    delay_seconds: float = 0.0
    exhausted: tuple[Exhaustion, ...] = ()

    @property
    def keeps_ticket(self) -> bool:
        """Whether nothing began that a rate counts. A call that the other side postponed has arrived there."""
        return not self.was_started and self.reason.code is not ReasonCode.CALL_POSTPONED


@dataclass(frozen=True, slots=True)
class Lost:
    """Nobody knows how far the work came. ``ending_seconds``: how long processes of it may still be ending."""

    reason: Reason
    ending_seconds: float = 0.0
    company: Company = ALONE


AttemptOutcome = Succeeded | Failed | TimedOut | Cancelled | Released | Lost

ATTEMPT_STATES: dict[type[AttemptOutcome], AttemptState] = {
    Succeeded: AttemptState.SUCCEEDED,
    Failed: AttemptState.FAILED,
    TimedOut: AttemptState.TIMED_OUT,
    Cancelled: AttemptState.CANCELLED,
    Released: AttemptState.RELEASED,
    Lost: AttemptState.LOST,
}


class ClaimRefusal(StrEnum):
    """Why a claim was refused."""

    UNKNOWN = "unknown"
    RUN_NOT_RUNNING = "run_not_running"
    RUN_RESTS = "run_rests"
    """It is paused, or a budget of it is exhausted."""
    STEP_NOT_READY = "step_not_ready"
    STEP_RUNNING = "step_running"
    STEP_FINAL = "step_final"
    STEP_CANCELLED = "step_cancelled"
    NOT_DUE = "not_due"
    RATE_LIMITED = "rate_limited"
    SLOT_BUSY = "slot_busy"
    SERVERS_AWAY = "servers_away"
