"""The states of runs, steps and attempts, and the one place where a run's shown state is derived.

Stored states are facts; what a user is shown adds the resting states. Which moves are legal stands in transition.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class RunState(StrEnum):
    """What a run row stores."""

    PENDING = "pending"
    RUNNING = "running"
    FAILING = "failing"
    CANCELLING = "cancelling"
    COMPLETED = "completed"
    PARTIAL = "partial"
    FAILED = "failed"
    CANCELLED = "cancelled"


class StepState(StrEnum):
    """What a step row stores."""

    PENDING = "pending"
    READY = "ready"
    RUNNING = "running"
    RETRYING = "retrying"
    HELD = "held"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    SKIPPED = "skipped"
    CANCELLED = "cancelled"


class AttemptState(StrEnum):
    """What an attempt row stores."""

    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    TIMED_OUT = "timed_out"
    CANCELLED = "cancelled"
    LOST = "lost"
    RELEASED = "released"


class ShownRunState(StrEnum):
    """What a user is shown of a run: its stored state, or why it rests."""

    PENDING = "pending"
    RUNNING = "running"
    FAILING = "failing"
    CANCELLING = "cancelling"
    PAUSED = "paused"
    EXHAUSTED = "exhausted"
    WAITING = "waiting"
    COMPLETED = "completed"
    PARTIAL = "partial"
    FAILED = "failed"
    CANCELLED = "cancelled"


FINAL_RUN_STATES = frozenset({RunState.COMPLETED, RunState.PARTIAL, RunState.FAILED, RunState.CANCELLED})
FINAL_STEP_STATES = frozenset({StepState.SUCCEEDED, StepState.FAILED, StepState.SKIPPED, StepState.CANCELLED})
FINAL_ATTEMPT_STATES = frozenset(AttemptState) - {AttemptState.RUNNING}
MOVING_STEP_STATES = frozenset({StepState.READY, StepState.RUNNING, StepState.RETRYING})
"""A run with a step in one of these is not waiting for a person."""
RESTING_RUN_STATES = frozenset({ShownRunState.PAUSED, ShownRunState.EXHAUSTED, ShownRunState.WAITING})


@dataclass(frozen=True, slots=True)
class RunFacts:
    """The facts from which a run's shown state follows; several may hold at once."""

    state: RunState
    is_paused: bool = False
    is_exhausted: bool = False
    moving_steps: int = 0
    """Steps that go on by themselves: in MOVING_STEP_STATES, or held until a time or for a child run."""
    held_steps: int = 0
    """Steps that are held for a person: a decision, a signal, a word (reason.PERSON_CODES)."""


def shown_state(facts: RunFacts) -> ShownRunState:
    """Derive what a user is shown: final, cancelling or failing, paused, exhausted, waiting, running, pending."""
    if facts.state in FINAL_RUN_STATES or facts.state in (RunState.CANCELLING, RunState.FAILING):
        return ShownRunState(facts.state)
    if facts.is_paused:
        return ShownRunState.PAUSED
    if facts.is_exhausted:
        return ShownRunState.EXHAUSTED
    if facts.state is RunState.RUNNING and facts.held_steps and not facts.moving_steps:
        return ShownRunState.WAITING
    return ShownRunState(facts.state)


def standing(state: RunState) -> str:
    """Say how a run stands that a verb cannot take, to go before what it cannot: ``has ended (failed)``."""
    return f"has ended ({state})" if state in FINAL_RUN_STATES else f"is {state}"


def is_final(state: ShownRunState | RunState) -> bool:
    """Whether the run has ended."""
    return state.value in {final.value for final in FINAL_RUN_STATES}
