"""Cancel: end a run, or one step of it, and know that it ended.

What has not started ends at once. What runs is told to stop; the run is ``cancelled`` only when every attempt of it
has settled, which a command's attempt does once no process of it is left.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from sqlalchemy import Connection

from agentflow.domain.error import InvalidTransition
from agentflow.domain.ids import AttemptId, RunId, StepId, StepKey
from agentflow.domain.reason import Reason, ReasonCode
from agentflow.domain.state import FINAL_RUN_STATES, FINAL_STEP_STATES, RunState, StepState, standing
from agentflow.engine.advance import Advance, EndedStep, follow, let_go
from agentflow.engine.announce import announce
from agentflow.engine.context import EngineContext, PlanView
from agentflow.engine.dispatch import first_sends, send_steps
from agentflow.engine.evaluate import Conditions, with_conditions
from agentflow.engine.expand import end_inside
from agentflow.engine.finalize import finalize
from agentflow.engine.record import ChainHead, Moves, record
from agentflow.storage import attempts, child_runs, children, gates, runs, steps
from agentflow.storage.retention import missing_run


@dataclass(frozen=True, slots=True)
class CancelAsked:
    """What a cancel did: whether anything changed, and how many running attempts were told to stop.

    ``child_runs`` are those below the run that had not ended: they are cancelled with it.
    """

    is_new: bool
    stopping: int
    child_runs: int = 0


def cancel(context: EngineContext, run_id: RunId, actor: str, *, tells_parent: bool = True) -> CancelAsked:
    """Cancel a run. InvalidTransition when it has ended; a run that is being cancelled already is left as it is.

    ``tells_parent``: whether its end is told to the run above at once.
    """
    reason = Reason(ReasonCode.CANCELLED, {"actor": actor})
    with context.database.transaction() as tx:
        run = _lock(tx, run_id)
        if run.state in FINAL_RUN_STATES:
            raise InvalidTransition(f"Run {run_id} {standing(run.state)} and cannot be cancelled", state=run.state)
        if run.state is RunState.CANCELLING:
            return CancelAsked(is_new=False, stopping=len(attempts.request_stop(tx, run_id)))
        moves = Moves()
        moves.add_run(run.state, RunState.CANCELLING)
        runs.rest_waiting(tx, run)
        ended = steps.end_waiting(tx, run_id, StepState.CANCELLED, reason)
        for step in ended:
            moves.add_step(step.key, step.old_state, StepState.CANCELLED)
        sinks = sum(step.is_sink for step in ended)
        runs.set_state(tx, run, RunState.CANCELLING, reason=reason, closed_sinks=sinks)
        stopping = attempts.request_stop(tx, run_id)
        below = child_runs.count_open_below(tx, run_id)
        head = ChainHead(run_id, None, run.event_sequence, run.event_head)
        record(context, tx, head, at=run.at, actor=actor, action="cancel", subject="run", moves=moves, reason=reason)
    _after_commit(context, run_id, stopping, actor, moves, tells_parent=tells_parent)
    return CancelAsked(is_new=True, stopping=len(stopping), child_runs=below)


@dataclass(frozen=True, slots=True)
class _StepCancelled:
    run_id: RunId
    plan: PlanView
    stopping: Mapping[AttemptId, bool]
    ready: tuple[StepKey, ...]
    moves: Moves
    is_more_ready: bool


def cancel_step(context: EngineContext, step_id: StepId, actor: str) -> CancelAsked:
    """Cancel one step, as a revoke of its Celery task asks; nothing changes for a step that is final or unknown."""
    done = with_conditions(context, lambda conditions: _cancel_step(context, step_id, actor, conditions))
    if isinstance(done, CancelAsked):
        return done
    if done.ready:
        send_steps(context, done.run_id, done.plan, done.ready)
    if done.is_more_ready:
        context.side_channel.wake()
    _after_commit(context, done.run_id, done.stopping, actor, done.moves)
    return CancelAsked(is_new=True, stopping=len(done.stopping))


def _cancel_step(
    context: EngineContext, step_id: StepId, actor: str, conditions: Conditions
) -> _StepCancelled | CancelAsked:
    reason = Reason(ReasonCode.CANCELLED, {"actor": actor})
    with context.database.transaction() as tx:
        run_id = steps.find_run_of(tx, step_id)
        run = runs.lock(tx, run_id) if run_id else None
        step = steps.lock(tx, step_id) if run else None
        if run is None or step is None or step.state in FINAL_STEP_STATES or run.state in FINAL_RUN_STATES:
            return CancelAsked(is_new=False, stopping=0)
        plan = context.plans.get(tx, runs.read_plan_fingerprint(tx, run.run_id))
        runs.rest_waiting(tx, run)
        moves, stopping = Moves(), dict[AttemptId, bool]()
        followed = Advance(run.state)
        if step.state is StepState.RUNNING:
            stopping = attempts.request_stop(tx, run.run_id, step_id)
            if not any(stopping.values()):  # asked before: every worker of the house hears a revoke and reports it
                return CancelAsked(is_new=False, stopping=len(stopping))
        elif inner := _end_inside(tx, plan, run.run_id, step, reason, moves):
            stopping = _ask_to_stop(tx, run.run_id, inner)
            if not any(stopping.values()) and not moves.by_subject:
                return CancelAsked(is_new=False, stopping=len(stopping))
            followed = _let_go_around(tx, plan, run, inner, conditions, moves)
        else:
            followed = _end_step(tx, plan, run, step, reason, conditions, moves)
        head = ChainHead(run.run_id, step_id, step.event_sequence, step.event_head)
        subject = f"step:{step.key}"
        record(
            context, tx, head, at=run.at, actor=actor, action="cancel_step", subject=subject, moves=moves, reason=reason
        )
    ready = [successor.key for successor in followed.ready]
    sends = tuple(first_sends(plan, ready))
    is_more = len(ready) > len(sends) or moves.has_held
    return _StepCancelled(run.run_id, plan, stopping, sends, moves, is_more_ready=is_more)


def _end_step(
    tx: Connection,
    plan: PlanView,
    run: runs.LockedRun,
    step: steps.LockedStep,
    reason: Reason,
    conditions: Conditions,
    moves: Moves,
) -> Advance:
    """Cancel a step that does not run, and let its successors go; the first of them are noted as sent."""
    gates.withdraw(tx, [step.id])
    steps.move(tx, [step.id], [step.state], StepState.CANCELLED, reason)
    moves.add_step(step.key, step.state, StepState.CANCELLED)
    ended = EndedStep(step.id, step.key, step.is_sink, StepState.CANCELLED, reason)
    followed, _ = follow(tx, plan, run, ended, conditions=conditions, holds_run=True, moves=moves)
    sends = first_sends(plan, [successor.key for successor in followed.ready])
    steps.stamp_sent(tx, [successor.id for successor in followed.ready if successor.key in sends])
    return followed


def _end_inside(
    tx: Connection, plan: PlanView, run_id: RunId, step: steps.LockedStep, reason: Reason, moves: Moves
) -> list[children.Inner]:
    """Cancel what waits inside of a foreach or of an item with a body; nothing for another step, or without items.

    The step itself ends as its items do, of which what runs is told to stop.
    """
    if not plan.plan.is_foreach(step.key) and not plan.plan.is_body(step.key):
        return []
    return end_inside(tx, run_id, step.key, StepState.CANCELLED, reason, moves)


def _ask_to_stop(tx: Connection, run_id: RunId, inner: Iterable[children.Inner]) -> dict[AttemptId, bool]:
    stopping: dict[AttemptId, bool] = {}
    for step in inner:
        if step.state is StepState.RUNNING:
            stopping |= attempts.request_stop(tx, run_id, step.id)
    return stopping


def _let_go_around(
    tx: Connection,
    plan: PlanView,
    run: runs.LockedRun,
    inner: Iterable[children.Inner],
    conditions: Conditions,
    moves: Moves,
) -> Advance:
    """Tell what waits for the steps that were just cancelled; the first that begin are noted as sent."""
    ended = [step.id for step in inner if step.state is not StepState.RUNNING and not step.is_open]
    told = steps.advance(tx, ended, StepState.CANCELLED)
    followed = let_go(tx, plan, run, told, conditions=conditions, moves=moves)
    if followed.closed_sinks:
        runs.close_sinks(tx, run, followed.closed_sinks)
    sends = first_sends(plan, [successor.key for successor in followed.ready])
    steps.stamp_sent(tx, [successor.id for successor in followed.ready if successor.key in sends])
    return followed


def _lock(tx: Connection, run_id: RunId) -> runs.LockedRun:
    run = runs.lock(tx, run_id)
    if run is None:
        raise missing_run(tx, run_id)
    return run


def _after_commit(
    context: EngineContext,
    run_id: RunId,
    stopping: Iterable[AttemptId],
    actor: str,
    moves: Moves,
    *,
    tells_parent: bool = True,
) -> None:
    if stopping:
        context.side_channel.stop_attempts(stopping)
    announce(context, run_id, moves)
    finalize(context, run_id, actor, tells_parent=tells_parent)
