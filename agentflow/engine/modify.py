"""Modify: change the budget or the priority of a run, the timeout or the priority of a step that has not run.

Each takes effect with what starts from then on: an attempt that runs keeps its time, and a doorbell that is out its
place. Budgets are only raised.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection

from agentflow.domain.budget import Budget
from agentflow.domain.error import InvalidTransition, NotFound, UsageError
from agentflow.domain.ids import RunId, StepKey
from agentflow.domain.ids import step_id as id_of
from agentflow.domain.state import FINAL_RUN_STATES, FINAL_STEP_STATES, StepState
from agentflow.domain.wording import did_you_mean
from agentflow.engine.context import EngineContext
from agentflow.engine.raise_budget import raise_locked
from agentflow.engine.record import ChainHead, Moves, record
from agentflow.storage import interventions, runs, steps
from agentflow.storage.retention import missing_run

MAX_PRIORITY = 9
"""The highest; 0 is what everything has."""


@dataclass(frozen=True, slots=True)
class Changes:
    """What is asked for; ``more`` is added to the run's caps. With a step only the timeout and the priority."""

    more: Budget | None = None
    timeout_seconds: float | None = None
    priority: int | None = None

    def check(self, step: StepKey | None) -> None:
        """UsageError unless something is asked for, and all of it fits a run, or a step."""
        if self.more is None and self.timeout_seconds is None and self.priority is None:
            raise UsageError("Say what to change: a budget, a timeout or a priority.")
        if step is None and self.timeout_seconds is not None:
            raise UsageError("A timeout is a step's: name the step.")
        if step is not None and self.more is not None:
            raise UsageError("A budget is the run's: leave the step out.")
        if self.priority is not None and not 0 <= self.priority <= MAX_PRIORITY:
            raise UsageError(f"A priority is a whole number from 0 to {MAX_PRIORITY}, not {self.priority}.")


@dataclass(frozen=True, slots=True)
class Modified:
    """What changed, by name, each with its old and its new value."""

    changes: Mapping[str, tuple[Any, Any]]


def modify(
    context: EngineContext, run_id: RunId, step: StepKey | None, wanted: Changes, *, actor: str, why: str
) -> Modified:
    """Change a run, or one step of it; nothing is recorded where all is as wanted already.

    UsageError for what does not fit, NotFound for an unknown step, InvalidTransition for a run that has ended and for a
    step that runs or has ended.
    """
    wanted.check(step)
    with context.database.transaction() as tx:
        run = runs.lock(tx, run_id)
        if run is None:
            raise missing_run(tx, run_id)
        if run.state in FINAL_RUN_STATES:
            raise InvalidTransition(f"Run {run_id} has ended ({run.state}): retry it first", state=run.state)
        if step is None:
            head, subject = ChainHead(run_id, None, run.event_sequence, run.event_head), "run"
            changes = _of_run(tx, run, wanted)
        else:
            locked = _lock_step(tx, run, step)
            head, subject = ChainHead(run_id, locked.id, locked.event_sequence, locked.event_head), f"step:{step}"
            changes = _of_step(context, tx, run, locked, wanted)
        if changes:
            facts = {"why": why, **{name: list(pair) for name, pair in changes.items()}}
            record(
                context, tx, head, at=run.at, actor=actor, action="modify", subject=subject, moves=Moves(), facts=facts
            )
    context.side_channel.wake()
    return Modified(changes)


def _of_run(tx: Connection, run: runs.LockedRun, wanted: Changes) -> dict[str, tuple[Any, Any]]:
    changes: dict[str, tuple[Any, Any]] = {}
    if wanted.more is not None:
        _, raised = raise_locked(tx, run, wanted.more)
        changes |= {name: (old, new) for name, (old, new) in raised.items()}
    if wanted.priority is not None:
        before = interventions.modify_run(tx, run.run_id, wanted.priority)
        changes |= _changed("priority", before, wanted.priority)
    return changes


def _of_step(
    context: EngineContext, tx: Connection, run: runs.LockedRun, step: steps.LockedStep, wanted: Changes
) -> dict[str, tuple[Any, Any]]:
    plan = context.plans.get(tx, runs.read_plan_fingerprint(tx, run.run_id)).plan
    if plan.is_engines(step.key):
        raise UsageError(
            f"No worker performs step {step.key!r}: it has neither a timeout of attempts nor a priority", step=step.key
        )
    before = interventions.modify_step(tx, step.id, timeout_seconds=wanted.timeout_seconds, priority=wanted.priority)
    changes: dict[str, tuple[Any, Any]] = {}
    if wanted.timeout_seconds is not None:
        planned = plan.step(step.key).timeout_seconds
        old = planned if before.timeout_seconds is None else before.timeout_seconds
        changes |= _changed("timeout_seconds", old, wanted.timeout_seconds)
    if wanted.priority is not None:
        changes |= _changed("priority", before.priority, wanted.priority)
    return changes


def _changed(name: str, old: Any, new: Any) -> dict[str, tuple[Any, Any]]:
    return {} if old == new else {name: (old, new)}


def _lock_step(tx: Connection, run: runs.LockedRun, key: StepKey) -> steps.LockedStep:
    step = steps.lock(tx, id_of(run.run_id, key))
    if step is None:
        known = did_you_mean(key, steps.read_states(tx, run.run_id))
        raise NotFound(f"Run {run.run_id} has no step {key!r}: {known}", run_id=str(run.run_id), step=key)
    if step.state is StepState.RUNNING:
        raise InvalidTransition(
            f"Step {key!r} is running, and its attempt keeps what it was given: give it back first with agentflow "
            "pause --now",
            state=step.state,
        )
    if step.state in FINAL_STEP_STATES:
        raise InvalidTransition(f"Step {key!r} has ended ({step.state})", state=step.state)
    return step
