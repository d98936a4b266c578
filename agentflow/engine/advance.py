"""Advance: what begins, or is skipped, once a step is final; inside the transaction of the verb that ended it.

What a worker performs becomes ready. What the engine decides itself ends at once, is held, or makes further steps; how
is evaluated outside of the transaction (see evaluate.py).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

from sqlalchemy import Connection

from agentflow.domain.beginning import Ends, Expands, Holds, Starts
from agentflow.domain.ids import StepId, StepKey
from agentflow.domain.reason import Reason, ReasonCode
from agentflow.domain.state import RunState, StepState
from agentflow.domain.transition import UNTAKEN
from agentflow.engine.context import PlanView
from agentflow.engine.evaluate import Conditions
from agentflow.engine.expand import expand, release
from agentflow.engine.hold import hold
from agentflow.engine.open_gate import with_gates
from agentflow.engine.record import Moves
from agentflow.engine.take_signal import with_signals
from agentflow.storage import engine_steps, runs, steps

ENDING = frozenset({RunState.FAILING, RunState.CANCELLING})
"""A run in one of these is over once nothing of it runs any more."""


class RunNeeded(Exception):
    """The verb must hold the run for itself, because more than ready steps follow; it starts over."""


@dataclass(slots=True)
class Advance:
    """What followed from a final step; ``run_state`` is the run's now, since a step that cannot begin may fail it."""

    run_state: RunState
    ready: list[steps.Successor] = field(default_factory=list)
    closed_sinks: int = 0


@dataclass(frozen=True, slots=True)
class EndedStep:
    """A step that a verb has just moved into a final state."""

    id: StepId
    key: StepKey
    is_sink: bool
    state: StepState
    reason: Reason | None = None


def follow(
    tx: Connection,
    plan: PlanView,
    run: runs.LockedRun,
    ended: EndedStep,
    *,
    conditions: Conditions,
    holds_run: bool,
    moves: Moves,
) -> tuple[Advance, int]:
    """Draw the consequences of a step's end: for the run, for its successors, and how many sinks are open then.

    RunNeeded where the run must be held alone for them, ConditionsAsked when something must be evaluated first.
    """
    followed = Advance(run.state)
    if ended.state is StepState.FAILED and plan.plan.stops_run(ended.key):
        _fail_run(tx, run, ended.key, followed, moves)
    told = steps.advance(tx, [ended.id], ended.state, is_untaken=_is_untaken(ended.state, ended.reason))
    _let_go(tx, plan, run, told, followed, conditions=conditions, holds_run=holds_run, moves=moves)
    followed.closed_sinks += ended.is_sink
    closed = followed.closed_sinks
    return followed, runs.close_sinks(tx, run, closed) if closed else run.open_sinks


def let_go(
    tx: Connection,
    plan: PlanView,
    run: runs.LockedRun,
    told: Sequence[steps.Successor],
    *,
    conditions: Conditions,
    moves: Moves,
) -> Advance:
    """Begin those of ``told`` that wait for nothing any more, and so on down the graph. The run is held alone."""
    followed = Advance(run.state)
    _let_go(tx, plan, run, told, followed, conditions=conditions, holds_run=True, moves=moves)
    return followed


def _let_go(
    tx: Connection,
    plan: PlanView,
    run: runs.LockedRun,
    told: Sequence[steps.Successor],
    followed: Advance,
    *,
    conditions: Conditions,
    holds_run: bool,
    moves: Moves,
) -> None:
    """Going down the graph locks out of id order, so all but making ready is done only while the run is held alone.

    The end of an item's body leads only up, to the foreach, whose items would else wait for each other.
    """
    while told:
        waiting = [step for step in told if step.state is StepState.PENDING]
        begun = conditions.begin(tx, plan, run.run_id, [step for step in waiting if not step.needs_open])
        if not holds_run and any(not isinstance(how, Starts) and not plan.plan.is_body(s.key) for s, how in begun):
            raise RunNeeded
        begun = with_gates(tx, plan, run, with_signals(tx, run.run_id, begun, moves), moves)
        make_ready(tx, [step for step, how in begun if isinstance(how, Starts)], followed, moves)
        told = [child for step in waiting if step.has_turns for child in release(tx, plan, run.run_id, step)]
        hold(tx, run, [(step, how) for step, how in begun if isinstance(how, Holds)], moves)
        ended = [(step, how) for step, how in begun if isinstance(how, Ends)]
        for step, how in begun:
            if isinstance(how, Expands):
                made = expand(tx, plan, run.run_id, step, how, moves)
                if isinstance(made, Ends):
                    ended.append((step, made))
                else:
                    told += made
        told += _end(tx, ended, followed, moves)
        stopping = next(
            (s.key for s, how in ended if how.state is StepState.FAILED and plan.plan.stops_run(s.key)), None
        )
        if stopping is not None:
            _fail_run(tx, run, stopping, followed, moves)
            return


def make_ready(tx: Connection, ready: Sequence[steps.Successor], followed: Advance, moves: Moves) -> None:
    """Let pending steps start."""
    if ready:
        steps.move(tx, [successor.id for successor in ready], [StepState.PENDING], StepState.READY)
        moves.add_steps([successor.key for successor in ready], StepState.PENDING, StepState.READY)
        followed.ready += ready


def _end(
    tx: Connection, ended: Sequence[tuple[steps.Successor, Ends]], followed: Advance, moves: Moves
) -> list[steps.Successor]:
    """End steps without an attempt, alike ones together; returns their successors."""
    alike: dict[str, list[tuple[steps.Successor, Ends]]] = defaultdict(list)
    for step, how in ended:
        alike[repr(how)].append((step, how))
    told = []
    for group in alike.values():
        ids, how = [step.id for step, _ in group], group[0][1]
        engine_steps.end_begun(tx, ids, how.state, how.reason, choice=how.choice, result=how.result)
        moves.add_steps([step.key for step, _ in group], StepState.PENDING, how.state)
        if how.choice is not None:
            for step, _ in group:
                moves.note("chose", step.key, how.choice)
        followed.closed_sinks += sum(step.is_sink for step, _ in group)
        told += steps.advance(tx, ids, how.state, is_untaken=_is_untaken(how.state, how.reason))
    return told


def _is_untaken(state: StepState, reason: Reason | None) -> bool:
    return state is StepState.SKIPPED and reason is not None and reason.code in UNTAKEN


def _fail_run(tx: Connection, run: runs.LockedRun, key: StepKey, followed: Advance, moves: Moves) -> None:
    """Let a run fail for a step: nothing of it starts any more. The run is held alone."""
    if followed.run_state is not RunState.RUNNING:
        return
    reason = Reason(ReasonCode.STEP_FAILED, {"step": key})
    runs.set_state(tx, run, RunState.FAILING, reason=reason)
    moves.add_run(RunState.RUNNING, RunState.FAILING)
    ended = steps.end_waiting(tx, run.run_id, StepState.SKIPPED, reason)
    for step in ended:
        moves.add_step(step.key, step.old_state, StepState.SKIPPED)
    followed.run_state = RunState.FAILING
    followed.ready.clear()
    followed.closed_sinks += sum(step.is_sink for step in ended)
