"""Finalize: end a run whose steps are all final, and seal its chains."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection

from agentflow.content.store import Address
from agentflow.domain.child import is_child
from agentflow.domain.event import seal_of
from agentflow.domain.ids import RunId
from agentflow.domain.plan import Plan, Step
from agentflow.domain.state import FINAL_RUN_STATES, FINAL_STEP_STATES, RunState, StepState
from agentflow.domain.transition import StepTally, run_end
from agentflow.engine.answers import find_passing, forget_answers
from agentflow.engine.context import EngineContext
from agentflow.engine.record import ChainHead, Moves, record
from agentflow.engine.trace import trace_run
from agentflow.storage import attempts, child_runs, runs, step_heads, steps
from agentflow.storage.child_runs import Forsaken, Parent
from agentflow.storage.database import ConflictingWrite
from agentflow.telemetry import get_logger

log = get_logger(__name__)

CHILDREN = 1000
"""How many child runs are cancelled at a time; the dispatcher goes on with the others."""


def finalize(context: EngineContext, run_id: RunId, actor: str, *, tells_parent: bool = True) -> RunState | None:
    """End the run if nothing of it is open any more; None when it goes on, rests, or had ended before.

    It ends only when its child runs have; those that nobody waits for any more are cancelled first. What waits for this
    one is told. A cancelled run ends only when no process of it is left: the command of an attempt that was just lost
    with its worker may take its kill grace. Answers that go with the run go first, between two transactions, for a
    store may be slow: nobody asks for them any more. A process that does not see the store of the installation ends no
    such run. What is not ended here is looked at again by the dispatcher, every second: also what Postgres breaks off,
    for the verb before this one has been committed. ``tells_parent``: not where the run above asks for it itself.
    """
    try:
        ended = _finalized(context, run_id, actor)
        if ended is not None:
            trace_run(context, run_id)
        if tells_parent and ended is not None and ended.parent is not None:
            _tell_parent(context, ended.parent, actor)
    except ConflictingWrite as error:
        log.warning("end_left_to_dispatcher", run_id=str(run_id), error=str(error))
        return None
    return None if ended is None else ended.state


@dataclass(frozen=True, slots=True)
class _Ended:
    """How a run ended, and what started it if it is a child run."""

    state: RunState
    parent: Parent | None


def _finalized(context: EngineContext, run_id: RunId, actor: str) -> _Ended | None:
    forgotten: frozenset[Address] = frozenset()
    has_cancelled = False
    while True:  # more than twice only if others ended the run meanwhile, and a retry ran its course again
        with context.database.transaction() as tx:
            over = _find_over(context, tx, run_id)
            if isinstance(over, _Over):
                passing = find_passing(tx, run_id, over.plan) - forgotten
                if not passing:
                    return _Ended(_end(context, tx, over, actor), child_runs.read_parent(tx, run_id))
        if not isinstance(over, _Over):
            if not over or has_cancelled:  # they are ending: the last one tells this run
                return None
            _cancel_below(context, over, actor)
            has_cancelled = True
            continue
        if not forget_answers(context, passing):
            return None
        forgotten |= passing


def _cancel_below(context: EngineContext, forsaken: Sequence[Forsaken], actor: str) -> None:
    """Cancel the child runs that nobody waits for any more; the run ends when they have."""
    from agentflow.engine.cancel_child import cancel_child  # it ends runs itself

    for child in forsaken:
        cancel_child(context, child, actor, tells_parent=False)


def _tell_parent(context: EngineContext, parent: Parent, actor: str) -> None:
    """Let the step above an ended child run end, or the run above that waited for nothing else."""
    from agentflow.engine.settle_child import settle_child  # it ends runs itself

    if settle_child(context, parent.child.run_id, actor) is None:
        finalize(context, parent.run_id, actor)


@dataclass(frozen=True, slots=True)
class _Over:
    """A locked run of which nothing is open any more, and how its steps ended."""

    run: runs.LockedRun
    plan: Plan
    tally: StepTally


def _find_over(context: EngineContext, tx: Connection, run_id: RunId) -> _Over | list[Forsaken] | None:
    """Find a run over, or below it what must end first because nobody waits for it any more."""
    run = runs.lock(tx, run_id)
    if run is None or run.state in FINAL_RUN_STATES:
        return None
    view = context.plans.get(tx, runs.read_plan_fingerprint(tx, run_id))
    if view.has_child_runs and (forsaken := child_runs.find_forsaken(tx, CHILDREN, run_id)):
        return forsaken
    if run.rests:
        return None
    counts = steps.count_by_state(tx, run_id)
    if any(state not in FINAL_STEP_STATES for state in counts.every):
        return None
    grace_seconds = context.settings.kill_grace_seconds
    if run.state is RunState.CANCELLING and attempts.has_recent_loss(tx, run_id, grace_seconds):
        return None
    if view.has_child_runs and child_runs.find_open(tx, run_id):
        return None
    return _Over(run, view.plan, _tally(tx, run_id, view.plan, counts))


def _tally(tx: Connection, run_id: RunId, plan: Plan, counts: steps.StepCounts) -> StepTally:
    own = counts.own
    failed = _failed_steps(tx, run_id, plan) if own.get(StepState.FAILED) else []
    return StepTally(
        succeeded=own.get(StepState.SUCCEEDED, 0),
        failed=sum(step.on_failure != "ignore" for step in failed),
        partial=counts.partial,
        stopping=sum(step.on_failure == "stop" for step in failed),
        skipped=own.get(StepState.SKIPPED, 0),
        cancelled=own.get(StepState.CANCELLED, 0),
        broken_conditions=counts.broken_conditions,
    )


def _end(context: EngineContext, tx: Connection, over: _Over, actor: str) -> RunState:
    run = over.run
    end = run_end(run.state, over.tally)
    runs.set_state(tx, run, end, reason=run.reason)
    moves = Moves()
    moves.add_run(run.state, end)
    heads = step_heads.read_heads(tx, run.run_id)
    record(
        context,
        tx,
        ChainHead(run.run_id, None, run.event_sequence, run.event_head),
        at=run.at,
        actor=actor,
        action="finalize",
        subject="run",
        moves=moves,
        reason=run.reason,
        facts={"seal": seal_of(heads), "sealed_chains": len(heads), "round": run.round},
    )
    return end


def _failed_steps(tx: Connection, run_id: RunId, plan: Plan) -> list[Step]:
    """The steps of the plan itself that failed; those of a foreach it answers for."""
    standing = steps.read_states(tx, run_id)
    failed = [key for key, step in standing.items() if step.state is StepState.FAILED]
    return [plan.step(key) for key in failed if not is_child(key)]
