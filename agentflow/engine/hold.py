"""Hold: let a step wait for a time, a signal, a decision or a child run. Inside a verb's transaction."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from sqlalchemy import Connection

from agentflow.domain.beginning import Holds
from agentflow.domain.child_run import next_awaited
from agentflow.domain.reason import Reason, ReasonCode
from agentflow.domain.state import StepState
from agentflow.engine.context import PlanView
from agentflow.engine.record import Moves
from agentflow.storage import child_runs, engine_steps, runs, steps


def hold(tx: Connection, plan: PlanView, run: runs.LockedRun, step: steps.Successor, how: Holds, moves: Moves) -> None:
    """Hold ``step``; a time that is given in seconds counts from this transaction on."""
    due_at = how.due_at if how.due_seconds is None else run.at + timedelta(seconds=how.due_seconds)
    reason = how.reason
    if reason.code in (ReasonCode.AWAITS_TIME, ReasonCode.AWAITS_SIGNAL) and due_at is not None:
        reason = Reason(reason.code, {**reason.detail, "until": _stamp(due_at)})
    if reason.code is ReasonCode.AWAITS_RUN:
        awaited = next_awaited(step.id, *child_runs.read_last(tx, run.run_id, step.key))
        reason = awaited.reason
        moves.note("awaits", step.key, str(awaited.run_id))
    engine_steps.hold(tx, step.id, reason, due_at)
    moves.add_step(step.key, StepState.PENDING, StepState.HELD)


def _stamp(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
