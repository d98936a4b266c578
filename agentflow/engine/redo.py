"""Redo: after a rejected gate take an earlier step up again, with all that is behind it. Inside a verb's transaction.

The gate itself is among that: it asks again, in a round of its own. No plan has steps among it that go on beside their
gate (see domain/gate_check.py). What a retry let run behind an undecided gate all the same, or wait for a child run,
goes on with what it has read.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace

from sqlalchemy import Connection

from agentflow.domain.child import is_child, parent, plan_id
from agentflow.domain.ids import StepKey, step_id
from agentflow.domain.reason import ReasonCode
from agentflow.domain.reuse import with_dependents
from agentflow.domain.state import FINAL_STEP_STATES, RunState, StepState
from agentflow.engine.advance import Advance, let_go, make_ready
from agentflow.engine.context import PlanView
from agentflow.engine.evaluate import Conditions
from agentflow.engine.gather import Scope
from agentflow.engine.reask import STARTS_OVER
from agentflow.engine.record import Moves
from agentflow.engine.row_graph import row_graph
from agentflow.engine.take_up import reopen
from agentflow.storage import engine_steps, gates, runs, steps


def redo(
    tx: Connection,
    plan: PlanView,
    run: runs.LockedRun,
    gate: StepKey,
    first: StepKey,
    conditions: Conditions,
    moves: Moves,
) -> tuple[tuple[StepKey, ...], bool]:
    """Take ``first`` and what is behind it up again; returns what is ready now, and whether the run may be over.

    The run is held alone.
    """
    standing = steps.read_states(tx, run.run_id)
    rows, behind = row_graph(plan, standing), _behind(plan, gate, first)
    again = {key for key in behind if _may_start_over(standing[key])}
    again.update(inner for key in behind if key in again for inner in rows.all_inside(key))
    gates.withdraw(tx, [step_id(run.run_id, key) for key in sorted(again)])
    taken = reopen(tx, rows, run.run_id, again)
    pending = [step_id(run.run_id, key) for key in behind if standing[key].state is StepState.PENDING]
    if (item := parent(gate)) is not None:  # it counts the ends of its body
        pending.append(step_id(run.run_id, item))
    engine_steps.recount_needs(tx, pending)
    for step in taken:
        moves.add_step(step.key, standing[step.key].state, StepState.PENDING)
    going = _count_sinks(tx, plan, run, standing, {step.key for step in taken})
    followed = Advance(RunState.RUNNING)
    over = {
        step.id
        for step in taken
        if standing[step.key].state in STARTS_OVER and not step.needs_open and not plan.plan.is_engines(step.key)
    }
    make_ready(tx, [step for step in taken if step.id in over], followed, moves)
    waiting = [step for step in taken if step.id not in over]
    further = let_go(tx, plan, going, waiting, conditions=conditions, moves=moves)
    open_sinks = runs.close_sinks(tx, going, further.closed_sinks) if further.closed_sinks else going.open_sinks
    ready = tuple(step.key for step in (*followed.ready, *further.ready))
    return ready, not open_sinks or further.run_state is not RunState.RUNNING


def _count_sinks(
    tx: Connection,
    plan: PlanView,
    run: runs.LockedRun,
    standing: Mapping[StepKey, steps.StandingStep],
    taken: Collection[StepKey],
) -> runs.LockedRun:
    open_sinks = sum(sink in taken or standing[sink].state not in FINAL_STEP_STATES for sink in plan.graph.sinks)
    runs.reopen(tx, run, open_sinks)
    return replace(run, open_sinks=open_sinks)


def _behind(plan: PlanView, gate: StepKey, first: StepKey) -> list[StepKey]:
    """The rows of a step and of all behind it; inside of a foreach those of the gate's own item."""
    foreach = plan.plan.foreach_around.get(plan_id(gate)) if is_child(gate) else None
    graph = plan.graph if foreach is None else plan.body_graph(foreach)
    again, scope = with_dependents(graph, [first]), Scope(plan.plan, gate)
    return [scope.row(key) for key in graph.order if key in again]


def _may_start_over(step: steps.StandingStep) -> bool:
    if step.state is StepState.HELD:  # what may have begun its work waits for a person's word
        return step.reason_code not in (ReasonCode.AWAITS_RUN, ReasonCode.AWAITS_PERSON)
    return step.state in FINAL_STEP_STATES
