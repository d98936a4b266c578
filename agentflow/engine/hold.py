"""Hold: let steps wait for a time, a signal, a decision or a child run. Inside a verb's transaction."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta

from sqlalchemy import Connection

from agentflow.domain.beginning import Holds
from agentflow.domain.child_run import Awaited, next_awaited
from agentflow.domain.ids import StepId
from agentflow.domain.reason import Reason, ReasonCode
from agentflow.domain.state import StepState
from agentflow.engine.record import Moves
from agentflow.storage import child_runs, engine_steps, runs, steps

Waiting = Sequence[tuple[steps.Successor, Holds]]


def hold(tx: Connection, run: runs.LockedRun, waiting: Waiting, moves: Moves) -> None:
    """Hold steps of a run; a time that is given in seconds counts from this transaction on."""
    awaited = _awaited(tx, run, waiting, moves)
    held = [_held(run, step, how, awaited) for step, how in waiting]
    engine_steps.hold(tx, held)
    moves.add_steps([step.key for step, _ in waiting], StepState.PENDING, StepState.HELD)


def _held(
    run: runs.LockedRun, step: steps.Successor, how: Holds, awaited: Mapping[StepId, Awaited]
) -> engine_steps.HeldStep:
    due_at = how.due_at if how.due_seconds is None else run.at + timedelta(seconds=how.due_seconds)
    reason = how.reason
    if reason.code in (ReasonCode.AWAITS_TIME, ReasonCode.AWAITS_SIGNAL) and due_at is not None:
        reason = Reason(reason.code, {**reason.detail, "until": _stamp(due_at)})
    if step.id in awaited:
        reason = awaited[step.id].reason
    return engine_steps.HeldStep(step.id, reason, due_at)


def _awaited(tx: Connection, run: runs.LockedRun, waiting: Waiting, moves: Moves) -> dict[StepId, Awaited]:
    """The child runs that steps wait for which run a plan."""
    above = {step.key: step.id for step, how in waiting if how.reason.code is ReasonCode.AWAITS_RUN}
    awaited = {}
    for key, made in child_runs.read_last(tx, run.run_id, above).items():
        awaited[above[key]] = next_awaited(above[key], *made)
        moves.note("awaits", key, str(awaited[above[key]].run_id))
    return awaited


def _stamp(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
