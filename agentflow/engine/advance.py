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
from agentflow.engine.context import PlanView
from agentflow.engine.evaluate import Conditions
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
    tx: Connection,
    plan: PlanView,
    run_id: RunId,
    final: Sequence[StepId],
    state: StepState,
    *,
    conditions: Conditions,
    holds_run: bool,
    moves: Moves,
) -> Advance:
    """Tell the successors of ``final`` (all in ``state``), and on from every step that is skipped on the way.

    Skipping goes down the graph out of id order, so it is done only while the run is held alone: RunNeeded otherwise.
    ConditionsAsked when a condition must be evaluated first.
    """
    told = steps.advance(tx, final, state)
    return let_go(tx, plan, run_id, told, conditions=conditions, holds_run=holds_run, moves=moves)


def let_go(
    tx: Connection,
    plan: PlanView,
    run_id: RunId,
    told: Sequence[steps.Successor],
    *,
    conditions: Conditions,
    holds_run: bool,
    moves: Moves,
) -> Advance:
    """Make ready or skip those of ``told`` that wait for nothing any more, and so on down the graph."""
    followed = Advance()
    while told:
        free = [step for step in told if step.state is StepState.PENDING and not step.needs_open]
        by_rule = {step.key: after_needs(step.when_rule, step.needs) for step in free}
        written = conditions.decide(tx, plan, run_id, [key for key, then in by_rule.items() if then is None])
        decided = [(step, by_rule[step.key] or written[step.key]) for step in free]
        skipped = [(step, then) for step, then in decided if then.state is StepState.SKIPPED]
        if skipped and not holds_run:
            raise RunNeeded
        ready = [step for step, then in decided if then.state is StepState.READY]
        make_ready(tx, ready, moves)
        followed.ready += ready
        followed.closed_sinks += _skip(tx, skipped, moves)
        told = steps.advance(tx, [step.id for step, _ in skipped], StepState.SKIPPED) if skipped else ()
    return followed


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
