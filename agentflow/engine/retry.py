"""Retry: take the failed, cancelled or held steps of a run up again, and with them what waited for them.

A finished run gets a new round. What succeeded stays; a step whose needs all succeeded is ready again, the others
wait for theirs as they did before.
"""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection

from agentflow.domain.error import InvalidTransition, NotFound
from agentflow.domain.graph import Graph
from agentflow.domain.ids import RunId, StepKey, step_id
from agentflow.domain.state import FINAL_RUN_STATES, FINAL_STEP_STATES, RunState, StepState
from agentflow.engine.context import EngineContext
from agentflow.engine.record import ChainHead, Moves, record
from agentflow.storage import runs, steps


@dataclass(frozen=True, slots=True)
class Retried:
    """What a retry took up again."""

    ready: tuple[StepKey, ...]
    pending: tuple[StepKey, ...]


def retry(context: EngineContext, run_id: RunId, actor: str, *, only: StepKey | None = None) -> Retried:
    """Take up the failed steps of an ended run, or a held step of a running one; ``only`` names a single step.

    InvalidTransition when the run is still ending, or when nothing of it can be taken up.
    """
    with context.database.transaction() as tx:
        run = runs.lock(tx, run_id)
        if run is None:
            raise NotFound(f"There is no run {run_id}", run_id=str(run_id))
        plan = context.plans.get(tx, runs.read_plan_fingerprint(tx, run_id))
        states = steps.read_states(tx, run_id)
        reopened = _reopened(run, plan.graph, states, only)
        moves = Moves()
        retried = _write(tx, run_id, plan.graph, states, reopened, moves)
        open_sinks = sum(1 for sink in plan.graph.sinks if sink in reopened or states[sink] not in FINAL_STEP_STATES)
        if run.state in FINAL_RUN_STATES:
            moves.add_run(run.state, RunState.RUNNING)
        runs.reopen(tx, run, open_sinks)
        head = ChainHead(run_id, None, run.event_sequence, run.event_head)
        record(context, tx, head, at=run.at, actor=actor, action="retry", subject="run", moves=moves)
    context.side_channel.wake()
    return retried


def _reopened(
    run: runs.LockedRun, graph: Graph, states: dict[StepKey, StepState], only: StepKey | None
) -> frozenset[StepKey]:
    if only is not None and only not in states:
        raise NotFound(f"Run {run.run_id} has no step {only!r}", step=only)
    if run.state in (RunState.FAILING, RunState.CANCELLING):
        raise InvalidTransition(f"Run {run.run_id} is still {run.state}; retry it once it has ended", state=run.state)
    wanted = {StepState.HELD}
    if run.state in FINAL_RUN_STATES:
        wanted |= {StepState.FAILED, StepState.CANCELLED}
    chosen = {key for key, state in states.items() if state in wanted and only in (None, key)}
    if not chosen:
        what = f"step {only!r} ({states[only]})" if only else "no step of it failed, was cancelled or is held"
        raise InvalidTransition(f"Run {run.run_id} ({run.state}) cannot be retried: {what}", state=run.state)
    if run.state not in FINAL_RUN_STATES:
        return frozenset(chosen)
    return frozenset(chosen | _skipped_behind(graph, states, chosen))


def _skipped_behind(graph: Graph, states: dict[StepKey, StepState], chosen: set[StepKey]) -> set[StepKey]:
    """The skipped steps that may run after all; in a run that failed also those that nothing had kept from running."""
    again = set(chosen)
    for key in graph.order:
        needs = graph.needs[key]
        waits_for_chosen = any(need in again for need in needs)
        was_stopped = all(states[need] is StepState.SUCCEEDED or need in again for need in needs)
        if states[key] is StepState.SKIPPED and (waits_for_chosen or was_stopped):
            again.add(key)
    return again - chosen


def _write(
    tx: Connection,
    run_id: RunId,
    graph: Graph,
    states: dict[StepKey, StepState],
    reopened: frozenset[StepKey],
    moves: Moves,
) -> Retried:
    ready: list[StepKey] = []
    pending: list[StepKey] = []
    for key in graph.order:
        if key not in reopened:
            continue
        is_open = any(need in reopened or states[need] not in FINAL_STEP_STATES for need in graph.needs[key])
        (pending if is_open else ready).append(key)
        moves.add_step(key, states[key], StepState.PENDING if is_open else StepState.READY)
    steps.reopen(tx, [step_id(run_id, key) for key in pending], StepState.PENDING)
    steps.reopen(tx, [step_id(run_id, key) for key in ready], StepState.READY)
    return Retried(tuple(ready), tuple(pending))
