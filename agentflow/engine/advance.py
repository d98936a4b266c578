"""Advance: what becomes ready or is skipped once a step is final; inside the transaction of the verb that ended it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

from sqlalchemy import Connection

from agentflow.domain.ids import RunId, StepId
from agentflow.domain.reason import Reason
from agentflow.domain.state import StepState
from agentflow.domain.transition import NextStep, after_needs
from agentflow.engine.context import EngineContext, PlanView
from agentflow.engine.evaluate import evaluate_when
from agentflow.engine.record import Moves
from agentflow.storage import steps


class RunNeeded(Exception):
    """The verb must hold the run for itself, because steps are skipped or a sink ends; it starts over."""


@dataclass(slots=True)
class Advance:
    """What followed from a final step."""

    ready: list[steps.Successor] = field(default_factory=list)
    closed_sinks: int = 0


def advance(
    context: EngineContext,
    tx: Connection,
    plan: PlanView,
    run_id: RunId,
    final: Sequence[StepId],
    state: StepState,
    *,
    holds_run: bool,
    moves: Moves,
) -> Advance:
    """Tell the successors of ``final`` (all in ``state``), and on from every step that is skipped on the way.

    Skipping goes down the graph out of id order, so it is done only while the run is held alone: RunNeeded otherwise.
    """
    return let_go(context, tx, plan, run_id, steps.advance(tx, final, state), holds_run=holds_run, moves=moves)


def let_go(
    context: EngineContext,
    tx: Connection,
    plan: PlanView,
    run_id: RunId,
    told: Sequence[steps.Successor],
    *,
    holds_run: bool,
    moves: Moves,
) -> Advance:
    """Make ready or skip those of ``told`` that wait for nothing any more, and so on down the graph."""
    followed = Advance()
    while told:
        free = [step for step in told if step.state is StepState.PENDING and not step.needs_open]
        decided = [(step, _decide(context, tx, plan, run_id, step)) for step in free]
        skipped = [(step, then) for step, then in decided if then.state is StepState.SKIPPED]
        if skipped and not holds_run:
            raise RunNeeded
        ready = [step for step, then in decided if then.state is StepState.READY]
        make_ready(tx, ready, moves)
        followed.ready += ready
        followed.closed_sinks += _skip(tx, skipped, moves)
        told = steps.advance(tx, [step.id for step, _ in skipped], StepState.SKIPPED) if skipped else ()
    return followed


def _decide(
    context: EngineContext, tx: Connection, plan: PlanView, run_id: RunId, successor: steps.Successor
) -> NextStep:
    then = after_needs(successor.when_rule, successor.needs)
    return then or evaluate_when(context, tx, plan, run_id, successor.key)


def make_ready(tx: Connection, ready: Sequence[steps.Successor], moves: Moves) -> None:
    """Let pending steps start."""
    if ready:
        steps.move(tx, [successor.id for successor in ready], [StepState.PENDING], StepState.READY)
        moves.add_steps([successor.key for successor in ready], StepState.PENDING, StepState.READY)


def _skip(tx: Connection, skipped: Sequence[tuple[steps.Successor, NextStep]], moves: Moves) -> int:
    by_reason: dict[str, list[steps.Successor]] = defaultdict(list)
    reasons: dict[str, Reason | None] = {}
    for successor, then in skipped:
        name = repr(then.reason)
        by_reason[name].append(successor)
        reasons[name] = then.reason
    for name, successors in by_reason.items():
        steps.move(tx, [each.id for each in successors], [StepState.PENDING], StepState.SKIPPED, reasons[name])
    moves.add_steps([successor.key for successor, _ in skipped], StepState.PENDING, StepState.SKIPPED)
    return sum(successor.is_sink for successor, _ in skipped)
